//! A stream that has left HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::link::Slot;

/// A stream to an upstream after its answer to an extended CONNECT. Dropped before both sides have ended it is reset
/// (CANCEL), with all that was not sent yet; the connection goes on.
#[derive(Debug)]
pub(in crate::upstream) struct Upgraded {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    /// Received and not read yet. As long as it is here the upstream may not send as much again.
    held: Bytes,
    _slot: Slot,
}

impl Upgraded {
    pub(super) const fn new(sending: SendStream<Bytes>, receiving: RecvStream, slot: Slot) -> Self {
        Self { sending, receiving, held: Bytes::new(), _slot: slot }
    }
}

fn broken(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.held.is_empty() {
            match ready!(self.receiving.poll_data(cx)) {
                Some(Ok(data)) => self.held = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.advance(count);
        _ = self.receiving.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    /// Takes as much as the windows of the upstream and [`QUEUED_BYTES`](super::QUEUED_BYTES) have room for.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.sending.reserve_capacity(buf.len());
        while self.sending.capacity() == 0 {
            match ready!(self.sending.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = self.sending.capacity().min(buf.len());
        let piece = Bytes::copy_from_slice(&buf[..count]);
        match self.sending.send_data(piece, false) {
            Ok(()) => Poll::Ready(Ok(count)),
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }

    /// The task of the connection sends what there is.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// `END_STREAM`.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sending.send_data(Bytes::new(), true).map_err(broken))
    }
}
