//! A connection that has left HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;

/// A connection to an upstream after its `101`. Reading begins right behind the head of that. It is never used for
/// another call: it closes with this value.
#[derive(Debug)]
pub(in crate::upstream) struct Upgraded {
    wire: Box<Wire>,
}

impl Upgraded {
    pub(super) fn new(mut wire: Box<Wire>) -> Self {
        if wire.input.is_empty() {
            wire.sleep();
        }
        Self { wire }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.wire;
        if wire.input.is_empty() {
            return Pin::new(&mut wire.socket).poll_read(cx, buf);
        }
        let count = wire.input.len().min(buf.remaining());
        buf.put_slice(&wire.input[..count]);
        wire.input.advance(count);
        if wire.input.is_empty() {
            wire.sleep();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.socket).poll_shutdown(cx)
    }
}
