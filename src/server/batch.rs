//! The transport under an HTTP/2 connection: its writes are gathered until nothing more is ready, its reads are metered.
//!
//! `h2` flushes before every DATA frame that it does not copy, so the answers of many streams, ready at once, would leave
//! one by one: a TLS record and a system call each. Here they wait in a buffer until the connection has been polled, and
//! leave together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::Meter;

/// Bytes that are gathered: what fits into one TLS record (RFC 8446 section 5.1).
const BATCH: usize = 16 * 1024;

/// A transport whose writes wait for [`Batched::poll_send`]. Clones are the same transport: one for who serves the
/// connection, one for who sends.
#[derive(Debug)]
pub(super) struct Batched<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    socket: T,
    meter: Meter,
    waiting: Vec<u8>,
    /// How much of it has gone.
    gone: usize,
}

impl<T> Batched<T> {
    pub(super) fn new(socket: T, meter: Meter) -> Self {
        Self(Arc::new(Mutex::new(Inner { socket, meter, waiting: Vec::new(), gone: 0 })))
    }
}

impl<T> Clone for Batched<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Batched<T> {
    /// Sends what waits.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.socket).poll_flush(cx)
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.gone..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.gone += count,
            }
        }
        // An idle connection keeps nothing.
        self.waiting = Vec::new();
        self.gone = 0;
        Poll::Ready(Ok(()))
    }

    /// Takes pieces, if they fit behind what waits; what is larger than a batch goes past it.
    fn poll_take(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if self.waiting.len() + length > BATCH {
            ready!(self.poll_drain(cx))?;
        }
        if length > BATCH {
            return Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        }
        if self.waiting.capacity() == 0 {
            self.waiting.reserve_exact(BATCH);
        }
        pieces.iter().for_each(|piece| self.waiting.extend_from_slice(piece));
        Poll::Ready(Ok(length))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Batched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        let before = buf.filled().len();
        ready!(Pin::new(&mut inner.socket).poll_read(cx, buf))?;
        Poll::Ready(inner.meter.spend(buf.filled().len() - before))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: who polls the connection sends afterwards.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::server::flood::Budget;

    #[tokio::test]
    async fn small_writes_wait_and_leave_in_order() {
        let (ours, mut theirs) = tokio::io::duplex(1024 * 1024);
        let mut batched = Batched::new(ours, Meter::new(Budget::default()));
        for piece in ["one ", "two ", "three"] {
            batched.write_all(piece.as_bytes()).await.unwrap();
            batched.flush().await.unwrap();
        }
        let mut room = [0; 64];
        assert!(futures_util::FutureExt::now_or_never(theirs.read(&mut room)).is_none(), "nothing has left");
        poll_fn(|cx| batched.poll_send(cx)).await.unwrap();
        let read = theirs.read(&mut room).await.unwrap();
        assert_eq!(&room[..read], b"one two three");
    }

    #[tokio::test]
    async fn no_byte_is_lost_whatever_the_sizes() {
        // A peer that takes little at a time.
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let mut batched = Batched::new(ours, Meter::new(Budget::default()));
        let pieces: Vec<Vec<u8>> =
            [1, 5000, 16_384, 16_385, 40_000, 3, 16_000, 500].iter().map(|size| vec![*size as u8; *size]).collect();
        let expected = pieces.concat();
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        for piece in &pieces {
            batched.write_all(piece).await.unwrap();
        }
        batched.shutdown().await.unwrap();
        drop(batched);
        assert!(reader.await.unwrap() == expected);
    }
}
