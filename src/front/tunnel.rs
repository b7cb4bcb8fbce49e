//! What follows a `101`: bytes in both directions, of a protocol that is not HTTP.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::watch::Watch;
use super::websocket::{self, Frames};
use crate::telemetry::record::{CallRecord, EndedBy};
use crate::timer::Timer;
use crate::upstream::Upgraded;

/// Most bytes that are read at once, and so most that are held of each direction.
const PIECE: usize = 16 * 1024;

/// Pieces that are carried one way before it is the other's turn.
const ROUNDS: usize = 16;

/// How long the two sides may take to take the news that it is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// A tunnel that was agreed on.
#[derive(Debug)]
pub(super) struct Tunnel {
    upstream: Upgraded,
    watch: Option<Box<Watch>>,
    timer: Timer,
    websocket: bool,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Both sides got all there was.
    pub(super) whole: bool,
    pub(super) by: EndedBy,
}

/// Why a tunnel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Both sides have said all they had to say.
    Done,
    /// A side broke off.
    Broken(EndedBy),
    /// The token or the session ended.
    Over,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Read and not written yet. Owns no memory while the receiver keeps up.
    held: Vec<u8>,
    /// How much of it was written.
    gone: usize,
    unflushed: bool,
    /// The sender has ended.
    ended: bool,
    /// The receiver was told so.
    closed: bool,
    /// Bytes the receiver took.
    bytes: u64,
    /// Where in the frames of a WebSocket they are.
    frames: Option<Frames>,
}

/// Which end of a direction failed.
enum Failed {
    From,
    To,
}

impl Tunnel {
    /// A tunnel to `upstream`. It ends when `watch` says so.
    pub(super) fn new(upstream: Upgraded, protocol: &HeaderValue, watch: Option<Box<Watch>>, timer: Timer) -> Self {
        let websocket = websocket::is_websocket(protocol);
        Self { upstream, watch, timer, websocket }
    }

    /// Carries bytes until the tunnel ends, and notes them in the record as they go.
    pub(super) async fn run<T>(self, client: &mut T, early: Vec<u8>, record: &mut CallRecord) -> Ended
    where
        T: AsyncRead + AsyncWrite + Unpin + ?Sized,
    {
        let Self { mut upstream, mut watch, timer, websocket } = self;
        let frames = websocket.then(Frames::default);
        let mut up = Flow { held: early, frames, ..Flow::default() };
        let mut down = Flow { frames, ..Flow::default() };
        let cause = poll_fn(|context| {
            if watch.as_mut().is_some_and(|watch| watch.poll_end(context).is_ready()) {
                return Poll::Ready(Cause::Over);
            }
            let polled = poll(client, &mut upstream, &mut up, &mut down, context);
            (record.bytes_in, record.bytes_out) = (up.bytes, down.bytes);
            polled
        })
        .await;
        match cause {
            Cause::Done => Ended { whole: true, by: EndedBy::Gate },
            Cause::Broken(by) => Ended { whole: false, by },
            Cause::Over => {
                if !websocket {
                    return Ended { whole: false, by: EndedBy::Gate };
                }
                let told = {
                    let farewell = farewell(client, &mut upstream, &mut up, &mut down);
                    timer.timeout(FAREWELL, farewell).await.is_ok_and(|told| told)
                };
                // What is still on its way to the upstream would be lost with a stream that goes before the upstream ends.
                let rest = async { tokio::io::copy(&mut upstream, &mut tokio::io::sink()).await };
                _ = timer.timeout(FAREWELL, rest).await;
                Ended { whole: told, by: EndedBy::Gate }
            }
        }
    }
}

/// Carries what there is to carry.
fn poll<T>(
    client: &mut T,
    upstream: &mut Upgraded,
    up: &mut Flow,
    down: &mut Flow,
    context: &mut Context<'_>,
) -> Poll<Cause>
where
    T: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    // First what the upstream says: it may have said it before it stopped listening.
    let answered = match down.poll(upstream, client, context) {
        Poll::Ready(Err(Failed::From)) => return Poll::Ready(Cause::Broken(EndedBy::Upstream)),
        Poll::Ready(Err(Failed::To)) => return Poll::Ready(Cause::Broken(EndedBy::Client)),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    match up.poll(client, upstream, context) {
        Poll::Ready(Err(Failed::From)) => Poll::Ready(Cause::Broken(EndedBy::Client)),
        Poll::Ready(Err(Failed::To)) => Poll::Ready(Cause::Broken(EndedBy::Upstream)),
        Poll::Ready(Ok(())) if answered => Poll::Ready(Cause::Done),
        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
    }
}

/// Tells both sides of a WebSocket that their time is over. True if the client could be told.
async fn farewell<T>(client: &mut T, upstream: &mut Upgraded, up: &mut Flow, down: &mut Flow) -> bool
where
    T: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let told = down.say(client, &websocket::policy_violation(None)).await.is_ok();
    let mask = crate::random::bytes();
    // Who does not hear it sees the connection close.
    let _ = up.say(upstream, &websocket::policy_violation(Some(mask))).await;
    told
}

impl Flow {
    /// Carries bytes one way until the sender has ended and the receiver knows it.
    fn poll<R, W>(&mut self, from: &mut R, to: &mut W, context: &mut Context<'_>) -> Poll<Result<(), Failed>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            ready!(self.poll_held(to, context))?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(context)).map_err(|_| Failed::To)?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            let mut room = [const { MaybeUninit::uninit() }; PIECE];
            let mut read = ReadBuf::uninit(&mut room);
            match Pin::new(&mut *from).poll_read(context, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => self.ended = true,
                Poll::Ready(Ok(())) => {
                    let count = match self.poll_write(to, read.filled(), context) {
                        Poll::Ready(written) => written?,
                        Poll::Pending => 0,
                    };
                    self.held.extend_from_slice(&read.filled()[count..]);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed::From)),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(context)).map_err(|_| Failed::To)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        // The other direction's turn, and that of other tasks.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held.
    fn poll_held<W>(&mut self, to: &mut W, context: &mut Context<'_>) -> Poll<Result<(), Failed>>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        while self.gone < self.held.len() {
            let held = std::mem::take(&mut self.held);
            let written = self.poll_write(to, &held[self.gone..], context);
            self.held = held;
            self.gone += ready!(written)?;
        }
        if !self.held.is_empty() {
            (self.held, self.gone) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<W>(&mut self, to: &mut W, bytes: &[u8], context: &mut Context<'_>) -> Poll<Result<usize, Failed>>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        let count = match ready!(Pin::new(to).poll_write(context, bytes)) {
            Ok(0) | Err(_) => return Poll::Ready(Err(Failed::To)),
            Ok(count) => count,
        };
        if let Some(frames) = &mut self.frames {
            frames.pass(&bytes[..count]);
        }
        self.bytes += count as u64;
        self.unflushed = true;
        Poll::Ready(Ok(count))
    }

    /// Says something of our own, and that nothing more comes. Between two frames only: in the middle of one it would be
    /// taken for its content.
    async fn say<W>(&mut self, to: &mut W, frame: &[u8]) -> io::Result<()>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        if self.closed {
            return Ok(());
        }
        let written = poll_fn(|context| self.poll_held(to, context)).await;
        if written.is_err() || self.frames.is_none_or(|frames| !frames.is_between()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.frames.is_some_and(|frames| frames.has_closed()) {
            to.write_all(frame).await?;
        }
        self.closed = true;
        to.shutdown().await
    }
}
