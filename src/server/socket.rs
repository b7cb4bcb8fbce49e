//! The bottom of a connection: a socket that counts, and bytes read ahead put back.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What HTTP runs over.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Bytes that the kernel took from us so far: what tells a slow reader from one that stopped.
    fn written(&self) -> u64;

    /// Makes the coming close a reset, so that the client cannot take it for the regular end of an answer.
    fn reset_on_close(&self);
}

/// A TCP socket that counts what it carries.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    written: u64,
}

impl Socket {
    /// A socket that has carried nothing yet.
    #[must_use]
    pub const fn new(stream: TcpStream) -> Self {
        Self { stream, written: 0 }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.written += *bytes as u64;
        }
        written
    }
}

impl Transport for Socket {
    fn written(&self) -> u64 {
        self.written
    }

    fn reset_on_close(&self) {
        // If it fails the connection is gone anyway.
        let _ = self.stream.set_zero_linger();
    }
}

/// Boxed, because a TLS session is larger than everything else that a connection keeps while it sleeps.
impl Transport for Box<TlsStream<Socket>> {
    fn written(&self) -> u64 {
        self.get_ref().0.written
    }

    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A small head and body go out cheaper as one piece: the kernel's way through a list costs more than the copy.
        let written = gathered(bufs, |piece| Pin::new(&mut self.stream).poll_write(cx, piece));
        let written = written.unwrap_or_else(|| Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Most bytes that are copied together to be written at once.
const GATHERED: usize = 2048;

thread_local! {
    /// Where they are: kept, because to make it anew would cost as much as to fill it.
    static PIECE: RefCell<Vec<u8>> = RefCell::default();
}

/// Has `write` write the bytes of several slices in one piece, if they are few.
fn gathered<R>(slices: &[IoSlice<'_>], write: impl FnOnce(&[u8]) -> R) -> Option<R> {
    (slices.iter().map(|slice| slice.len()).sum::<usize>() <= GATHERED).then(|| {
        PIECE.with_borrow_mut(|piece| {
            piece.clear();
            slices.iter().for_each(|slice| piece.extend_from_slice(slice));
            write(piece)
        })
    })
}

/// Most bytes that are read at once while a connection has no buffer of its own; most heads fit.
const SHARED: usize = 4 * 1024;

/// Reads once and adds what came to `to`; says how much it was, 0 at the end. Until something comes no memory is needed but
/// what all connections of the thread share.
pub(super) fn poll_read_shared<T: AsyncRead + Unpin>(
    socket: &mut T,
    cx: &mut Context<'_>,
    to: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    thread_local! {
        static ROOM: RefCell<[u8; SHARED]> = const { RefCell::new([0; SHARED]) };
    }
    ROOM.with_borrow_mut(|room| {
        let mut read = ReadBuf::new(room);
        ready!(Pin::new(socket).poll_read(cx, &mut read))?;
        to.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

/// A transport with bytes before it that were read to look at them.
#[derive(Debug)]
pub(super) struct Prefixed<T> {
    first: BytesMut,
    inner: T,
}

impl<T> Prefixed<T> {
    pub(super) const fn new(first: BytesMut, inner: T) -> Self {
        Self { first, inner }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.first.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        buf.put_slice(&this.first.split_to(this.first.len().min(buf.remaining())));
        if this.first.is_empty() {
            this.first = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefixed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
