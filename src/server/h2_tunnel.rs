//! A stream of HTTP/2 that has left HTTP: the answer to its CONNECT was a success (RFC 9113 section 8.5, RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::flood::Budget;
use super::socket::Transport;
use super::{Front, stall};

/// The stream as the front's tunnel sees it.
struct Stream {
    io: TokioIo<Upgraded>,
    written: u64,
    reset: CancellationToken,
    budget: Budget,
}

/// Lets the front have the stream once hyper has sent the head of the answer. `guard` goes when it has ended; `over` ends
/// it before.
///
/// To be called in the poll in which hyper gets that answer.
pub(super) fn open<F: Front>(
    upgrade: OnUpgrade,
    body: F::Body,
    over: CancellationToken,
    budget: Budget,
    guard: impl Send + 'static,
) {
    let reset = CancellationToken::new();
    stall::reset_next_task_by(reset.clone());
    tokio::spawn(async move {
        let tunnel = async {
            // Without a stream its client has left.
            let Ok(upgraded) = upgrade.await else { return };
            let mut stream = Stream { io: TokioIo::new(upgraded), written: 0, reset, budget };
            if !F::tunnel(body, &mut stream, Vec::new()).await {
                stream.reset_on_close();
            }
        };
        over.run_until_cancelled(tunnel).await;
        drop(guard);
    });
}

impl Transport for Stream {
    fn written(&self) -> u64 {
        self.written
    }

    fn reset_on_close(&self) {
        self.reset.cancel();
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.budget.fill();
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            self.written += count as u64;
            self.budget.fill();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// `END_STREAM`.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
