//! What is left of a call that has left HTTP: bytes in both directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{h1, h2};

/// A connection to an upstream after its `101`, or a stream of one after its answer to an extended CONNECT (RFC 8441).
/// Reading begins right behind the head of that. It ends with this value.
#[derive(Debug)]
pub struct Upgraded(Kind);

#[derive(Debug)]
enum Kind {
    H1(h1::Upgraded),
    // Boxed, so that it does not make the other larger.
    H2(Box<h2::Upgraded>),
}

impl From<h1::Upgraded> for Upgraded {
    fn from(connection: h1::Upgraded) -> Self {
        Self(Kind::H1(connection))
    }
}

impl From<Box<h2::Upgraded>> for Upgraded {
    fn from(stream: Box<h2::Upgraded>) -> Self {
        Self(Kind::H2(stream))
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::H1(connection) => Pin::new(connection).poll_read(cx, buf),
            Kind::H2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::H1(connection) => Pin::new(connection).poll_write(cx, buf),
            Kind::H2(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::H1(connection) => Pin::new(connection).poll_flush(cx),
            Kind::H2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::H1(connection) => Pin::new(connection).poll_shutdown(cx),
            Kind::H2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
