//! HTTP/2 written frame by frame, for what no library would send (RFC 9113).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::Raw;

/// Frame types.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether this is the gate's GOAWAY, and the last stream it names.
    pub fn goaway(&self) -> Option<u32> {
        let last = self.payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        last.filter(|_| self.kind == GOAWAY)
    }

    /// Whether this frame refuses the stream.
    pub fn resets(&self, stream: u32) -> bool {
        self.kind == RST_STREAM && self.stream == stream
    }

    /// Whether this frame ends the answer on the stream.
    pub fn ends(&self, stream: u32) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.stream == stream && self.flags & END_STREAM != 0
    }
}

/// A connection on which frames are written by hand.
pub struct Frames(TcpStream);

impl Frames {
    /// Connects by prior knowledge and exchanges settings.
    pub fn connect(address: SocketAddr) -> Self {
        let mut frames = Self(Raw::socket(address));
        frames.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the gate reads");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// The same connection, for another thread to write to.
    pub fn writer(&self) -> Self {
        Self(self.0.try_clone().expect("a socket can be cloned"))
    }

    /// Writes a frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _ = self.try_send(kind, flags, stream, payload);
    }

    /// Writes a frame, as long as the gate reads.
    pub fn try_send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).expect("a short frame");
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame)
    }

    /// Opens a stream with these fields, in literal form.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block(fields));
    }

    /// Sends body bytes.
    pub fn data(&mut self, stream: u32, body: &[u8], end: bool) {
        self.send(DATA, if end { END_STREAM } else { 0 }, stream, body);
    }

    /// Takes a stream back.
    pub fn reset(&mut self, stream: u32) -> std::io::Result<()> {
        self.try_send(RST_STREAM, 0, stream, &8u32.to_be_bytes())
    }

    /// Throws away what comes from now on, so that the gate never has to wait for us.
    pub fn discard_answers(&self) {
        let mut socket = self.0.try_clone().expect("a socket can be cloned");
        std::thread::spawn(move || std::io::copy(&mut socket, &mut std::io::sink()));
    }

    /// The next frame; settings and pings are acknowledged on the way. Nothing at the end.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).ok()?;
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                PING if frame.flags & ACK == 0 => self.send(PING, ACK, 0, &frame.payload.clone()),
                SETTINGS | PING => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads until a frame fits; nothing if the connection ends first.
    pub fn find(&mut self, mut fits: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if fits(&frame) {
                return Some(frame);
            }
        }
    }
}

/// A field block of literals without indexing and without Huffman coding (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        block.push(u8::try_from(value).expect("less than 127"));
        return;
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).expect("less than 128") | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("less than 128"));
}
