//! A connection: its socket, and the bytes that came or are to go.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use crate::upstream::breaker::Open;
use crate::upstream::socket::Socket;

/// Room for a read: the whole of a usual response.
const READ_BYTES: usize = 8 * 1024;

/// Room for a read while large bodies come.
const READ_BYTES_MAX: usize = 64 * 1024;

/// What a connection at rest may keep of each buffer.
const REST_BYTES: usize = 16 * 1024;

/// A connection to an upstream.
#[derive(Debug)]
pub(in crate::upstream) struct Wire {
    pub(super) socket: Socket,
    /// Came and was not taken yet.
    pub(super) input: BytesMut,
    pub(super) output: Output,
    /// What it counts as while it is open.
    pub(in crate::upstream) open: Option<Open>,
    /// Bytes to make room for.
    room: usize,
}

/// Bytes on their way to the upstream. They go in this order and, as far as the kernel takes them, in one call.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// A head, the size of a chunk, a trailer section.
    pub(super) front: Vec<u8>,
    /// How much of it has gone.
    gone: usize,
    /// A piece of the body, as it came.
    pub(super) data: Bytes,
    /// What follows it.
    pub(super) back: &'static [u8],
    /// Bytes the socket took since the request began.
    accepted: u64,
}

impl Wire {
    pub(in crate::upstream) fn new(socket: Socket) -> Self {
        Self { socket, input: BytesMut::new(), output: Output::default(), open: None, room: READ_BYTES }
    }

    /// Makes ready for a request: the buffers are empty and large enough for a usual call.
    pub(super) fn begin(&mut self) {
        self.output.clear();
        // In place, if the last response is gone from the buffer by now.
        self.input.reserve(READ_BYTES);
    }

    /// Sends what there is to send.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let socket = Pin::new(&mut self.socket);
            let front = self.output.front.get(self.output.gone..).unwrap_or_default();
            let count = if self.output.data.is_empty() && self.output.back.is_empty() {
                ready!(socket.poll_write(context, front))?
            } else {
                let parts = [front, &self.output.data, self.output.back].map(IoSlice::new);
                ready!(socket.poll_write_vectored(context, &parts))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(count);
        }
        // TLS may have taken bytes that the kernel did not take yet. TCP holds none.
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// Reads more; 0 bytes are the end.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = |input: &BytesMut| input.capacity() - input.len();
        if room(&self.input) < READ_BYTES / 2 {
            self.input.reserve(self.room);
        }
        let room = room(&self.input);
        let count = ready!(poll_read_buf(Pin::new(&mut self.socket), context, &mut self.input))?;
        if count >= room {
            self.room = (self.room * 2).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(count))
    }

    /// Whether nothing came while it rested: neither the end nor a byte, which would be taken for the next response.
    pub(in crate::upstream) fn is_quiet(&mut self) -> bool {
        self.input.is_empty() && self.socket.is_quiet()
    }

    /// Gives back memory that only a large message needs.
    pub(in crate::upstream) fn rest(&mut self) {
        self.room = READ_BYTES;
        if self.input.capacity() > REST_BYTES {
            self.input = BytesMut::new();
        }
        if self.output.front.capacity() > REST_BYTES {
            self.output.front = Vec::new();
        }
    }

    /// Gives back all its memory, for a long rest.
    pub(in crate::upstream) fn sleep(&mut self) {
        self.input = BytesMut::new();
        self.output.front = Vec::new();
    }
}

impl Output {
    /// Whether all has gone.
    pub(super) fn is_empty(&self) -> bool {
        self.gone == self.front.len() && self.takes_data()
    }

    /// Whether a piece of the body may be added.
    pub(super) fn takes_data(&self) -> bool {
        self.data.is_empty() && self.back.is_empty()
    }

    /// Whether the socket has taken not a single byte of the request.
    pub(super) const fn is_untouched(&self) -> bool {
        self.accepted == 0
    }

    fn clear(&mut self) {
        self.front.clear();
        (self.gone, self.accepted) = (0, 0);
        (self.data, self.back) = (Bytes::new(), b"");
    }

    fn advance(&mut self, count: usize) {
        self.accepted += count as u64;
        let front = count.min(self.front.len() - self.gone);
        self.gone += front;
        let data = (count - front).min(self.data.len());
        self.data.advance(data);
        self.back = self.back.get(count - front - data..).unwrap_or_default();
        if self.data.is_empty() {
            // Lets go of the buffer it is a slice of.
            self.data = Bytes::new();
        }
        if self.gone == self.front.len() {
            self.front.clear();
            self.gone = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_order_however_many_are_taken_at_once() {
        for step in 1..20 {
            let mut output =
                Output { front: b"front".to_vec(), data: "data".into(), back: b"back", ..Output::default() };
            let mut sent = Vec::new();
            while !output.is_empty() {
                let parts = [&output.front[output.gone..], &output.data, output.back].concat();
                let count = step.min(parts.len());
                sent.extend_from_slice(&parts[..count]);
                output.advance(count);
            }
            assert_eq!(sent, b"frontdataback");
            assert_eq!(output.accepted, 13);
        }
    }
}
