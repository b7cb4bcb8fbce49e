//! The cheapest useful origin: each head is answered with the same 1 KiB. Requests have no bodies.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll;

use crate::http;

/// Listener and connections.
pub struct Origin {
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    reply: Vec<u8>,
    part: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Origin {
    pub fn new(listener: TcpListener) -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n";
        let reply = [head.as_bytes(), &[b'x'; 1024]].concat();
        Self { listener, connections: Vec::new(), reply, part: vec![0; 64 * 1024] }
    }

    /// Takes in who is waiting.
    pub fn accept(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = self.connections.iter().position(Option::is_none).unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let number = epoll::EventData::new_u64(crate::ORIGIN | index as u64);
            epoll::add(epoll, &stream, number, epoll::EventFlags::IN)?;
            self.connections[index] = Some(Connection { stream, received: Vec::with_capacity(4096) });
        }
    }

    /// Answers what has arrived on a connection.
    pub fn answer(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        if !connection.answer(&self.reply, &mut self.part) {
            self.connections[index] = None;
        }
    }
}

impl Connection {
    /// Whether the connection goes on.
    fn answer(&mut self, reply: &[u8], part: &mut [u8]) -> bool {
        match self.stream.read(part) {
            Ok(0) => return false,
            Ok(length) => self.received.extend_from_slice(&part[..length]),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
        while let Some(length) = http::head_length(&self.received) {
            let last = http::closes(&self.received[..length]);
            // A reply fits into the socket: who asks has read the one before.
            if self.stream.write_all(reply).is_err() || last {
                return false;
            }
            self.received.drain(..length);
        }
        true
    }
}
