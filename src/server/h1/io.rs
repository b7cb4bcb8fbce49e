//! The IO wrapper under hyper's HTTP/1 server.
//!
//! It reads the socket into the room that hyper has and lets it keep exactly one head, then exactly the bytes of that
//! message, and the next head only when the call is closed: its answer is written and its body read to the end. From this
//! follow
//!
//! - pipelined requests that wait here and not in hyper, which goes on noticing that a client left;
//! - refusals of ours on heads that hyper would take, or would answer itself: hyper is shown a stand-in request instead,
//!   the service refuses it, and so a malformed request takes the same path to log, metrics and problem body as any;
//! - the certainty that hyper holds no byte of another request when it is idle, so that it can be dropped to sleep.
//!
//! A tunnel takes `socket` and the rest of `buffer` once hyper has ended after a 101: in the phase `Open` hyper gets no byte.
//!
//! An interim response, which hyper cannot send, begins when hyper has flushed all it had and the call is still without
//! answer, or right before the answer. What it had was whole messages then: the last answer is out before the next head
//! is in, so all that can precede is a `100 Continue`. Once begun, an interim response goes out before anything else.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::BodyTracker;
use super::framing::{HeadLimits, HeadScanner, Scan};
use super::link::{Link, Waiting};
use crate::policy::rejection::Rejection;
use crate::server::socket::{Transport, poll_read_shared};
use crate::upstream::upload::UploadFault;

/// What hyper sees instead of a request that must be refused. The host is one that cannot exist (RFC 6761 section 6.4).
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// Bytes that may wait behind an open call.
const BEHIND_BYTES: usize = 4 * 1024;

#[derive(Debug)]
pub(super) struct Io<T> {
    socket: T,
    /// Read and not given to hyper: part of a head, or the requests behind. Owns no memory until there are any.
    buffer: BytesMut,
    /// Bytes at the front of the buffer that hyper may have.
    cleared: usize,
    phase: Phase,
    limits: HeadLimits,
    link: Arc<Link>,
    /// The last read of the socket found nothing.
    blocked: bool,
    /// The client has closed its side.
    ended: bool,
    /// hyper is about to be told so.
    told_end: bool,
    /// The service was called for the head that was handed out.
    called: bool,
    /// Interim responses on their way, and how much of them has gone.
    interim: Option<Box<(Vec<u8>, usize)>>,
    /// hyper has flushed all that it wrote.
    clean: bool,
}

#[derive(Debug)]
enum Phase {
    /// No call is open; a head is awaited or has arrived in part.
    Head(HeadScanner),
    /// A head was handed out and its body is on the way.
    Body(BodyTracker),
    /// The whole message was handed out; the call is open.
    Open,
    /// hyper was given the stand-in. Nothing more is read.
    Refused,
    /// The body has failed. Nothing more is read.
    Failed(UploadFault),
}

impl<T: Transport> Io<T> {
    /// A wrapper for a connection from which `first` was read.
    pub(super) fn new(socket: T, first: BytesMut, limits: HeadLimits, link: Arc<Link>) -> Self {
        let phase = Phase::Head(HeadScanner::new(limits));
        Self {
            socket,
            buffer: first,
            cleared: 0,
            phase,
            limits,
            link,
            blocked: false,
            ended: false,
            told_end: false,
            called: false,
            interim: None,
            clean: true,
        }
    }

    /// Whether no call is open and no byte is buffered: nothing is lost if hyper is dropped now.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head(_)) && self.buffer.is_empty()
    }

    /// Whether the client has closed its side.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether hyper ended without calling the service for the head it was given: it did not like it.
    pub(super) fn was_rejected(&self) -> bool {
        !matches!(self.phase, Phase::Head(_) | Phase::Refused) && !self.link.was_called()
    }

    /// Shows hyper the stand-in next.
    pub(super) fn refuse(&mut self, rejection: Rejection) {
        self.link.refuse(rejection);
        self.buffer = BytesMut::from(STAND_IN);
        self.cleared = STAND_IN.len();
        self.phase = Phase::Refused;
    }

    /// The socket, for the time without hyper.
    pub(super) const fn socket(&mut self) -> &mut T {
        &mut self.socket
    }

    /// Takes what was read and not shown to hyper.
    pub(super) fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer).into()
    }

    /// Gives the buffer's memory back; it must be empty.
    pub(super) fn release(&mut self) {
        debug_assert!(self.buffer.is_empty());
        self.buffer = BytesMut::new();
    }

    /// Reads once without hyper, and says how much came.
    pub(super) fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_read_shared(&mut self.socket, cx, &mut self.buffer)
    }

    /// Reads once, into the room of hyper's.
    fn poll_fill(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>, waiting: Waiting) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let before = room.filled().len();
        let filled = Pin::new(&mut self.socket).poll_read(cx, room);
        let filled = filled.map_ok(|()| room.filled().len() - before);
        self.blocked = filled.is_pending();
        match filled {
            Poll::Pending if waiting != Waiting::Nothing => self.link.wait_for(waiting),
            Poll::Ready(Ok(0)) => self.ended = true,
            _ => {}
        }
        filled
    }

    /// Reads on in a message until hyper may have more of it, in its room already or cleared in the buffer, or until the
    /// phase is another. `false` at the end of the connection.
    fn poll_message(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let at_head = matches!(self.phase, Phase::Head(_));
        if let Some(rejection) = self.link.take_order() {
            if at_head {
                self.refuse(rejection);
            } else {
                debug_assert_eq!(rejection, Rejection::RequestTimeout);
                self.phase = Phase::Failed(UploadFault::Stalled);
            }
            return Poll::Ready(Ok(true));
        }
        let mut step = self.phase.examine(&self.buffer);
        loop {
            match step {
                Step::More => {}
                Step::Drop(count) => {
                    self.buffer.advance(count);
                    step = self.phase.examine(&self.buffer);
                    continue;
                }
                Step::Clear(count) => {
                    self.called &= !at_head;
                    self.cleared = count;
                    return Poll::Ready(Ok(true));
                }
                Step::Refuse(rejection) => {
                    self.refuse(rejection);
                    return Poll::Ready(Ok(true));
                }
            }
            let waiting = match (at_head, self.buffer.is_empty()) {
                (true, true) => Waiting::Idle,
                (true, false) => Waiting::Head,
                (false, _) => Waiting::Body,
            };
            let from = room.filled().len();
            if ready!(self.poll_fill(cx, room, waiting))? == 0 {
                // Half a head and the end: nobody waits for an answer.
                self.buffer.clear();
                return Poll::Ready(Ok(false));
            }
            let came = room.filled().get(from..).unwrap_or_default();
            if !self.buffer.is_empty() {
                self.buffer.extend_from_slice(came);
                room.set_filled(from);
                step = self.phase.examine(&self.buffer);
                continue;
            }
            step = self.phase.examine(came);
            // As a rule it is all for hyper, and stays where it is.
            let kept = if let Step::Clear(count) = step { count } else { 0 };
            self.buffer.extend_from_slice(came.get(kept..).unwrap_or_default());
            room.set_filled(from + kept);
            if kept > 0 {
                self.called &= !at_head;
                self.link.handed(kept);
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// While a call is open: only notices that the client left. Pipelined bytes are kept here, up to the buffer's size;
    /// beyond it the socket is not read, and the end not noticed, until the call is closed.
    fn poll_watch(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.buffer.len() < BEHIND_BYTES {
            let from = room.filled().len();
            let count = ready!(self.poll_fill(cx, room, Waiting::Nothing))?;
            self.buffer.extend_from_slice(room.filled().get(from..).unwrap_or_default());
            room.set_filled(from);
            if count == 0 {
                if std::mem::replace(&mut self.told_end, true) {
                    return Poll::Ready(Ok(()));
                }
                // hyper reads before it polls the service, and would drop the call unseen. A client that closes its side
                // right behind its request gets what can be answered at once, such as a refusal.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.blocked = false;
        Poll::Pending
    }

    /// Whether what hyper writes now is its own answer to a head it did not like. It is written by us, from the front.
    fn is_automatic(&mut self) -> bool {
        if self.called || matches!(self.phase, Phase::Head(_)) {
            return false;
        }
        self.called = self.link.was_called();
        !self.called
    }

    /// Writes the interim responses whose time has come.
    fn poll_interim(&mut self, cx: &mut Context<'_>, before_write: bool) -> Poll<io::Result<()>> {
        if self.interim.is_none() {
            let heads = self.link.take_interim(before_write, self.clean);
            if heads.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.interim = Some(Box::new((heads, 0)));
        }
        if let Some(interim) = &mut self.interim {
            let (heads, gone) = &mut **interim;
            while let Some(rest @ [_, ..]) = heads.get(*gone..) {
                match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => *gone += count,
                }
            }
        }
        self.interim = None;
        Poll::Ready(Ok(()))
    }

    /// The same, before hyper writes.
    fn poll_precede(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let preceded = self.poll_interim(cx, true);
        ready!(self.note(preceded))?;
        self.clean = false;
        Poll::Ready(Ok(()))
    }

    /// Notes that the client does not take what we have for it.
    fn note<R>(&self, result: Poll<R>) -> Poll<R> {
        if result.is_pending() {
            self.link.stuck(self.socket.written());
        }
        result
    }
}

/// What is to be done with bytes of a message.
enum Step {
    /// Too few of them.
    More,
    /// So many are no part of it.
    Drop(usize),
    /// hyper may have so many.
    Clear(usize),
    Refuse(Rejection),
}

impl Phase {
    /// Looks at the bytes that come next.
    fn examine(&mut self, bytes: &[u8]) -> Step {
        match self {
            Self::Head(scanner) => match scanner.scan(bytes) {
                Ok(Scan::Partial) => Step::More,
                Ok(Scan::Skip(count)) => Step::Drop(count),
                Ok(Scan::Head { length, framing }) => {
                    // With what has arrived of the body, so that hyper gets both in one read.
                    *self = Self::Body(BodyTracker::new(framing));
                    match self.examine(bytes.get(length..).unwrap_or_default()) {
                        Step::Clear(count) => Step::Clear(length + count),
                        Step::More | Step::Drop(_) | Step::Refuse(_) => Step::Clear(length),
                    }
                }
                Err(rejection) => Step::Refuse(rejection),
            },
            Self::Body(body) if bytes.is_empty() && !body.is_done() => Step::More,
            Self::Body(body) => match body.advance(bytes) {
                Ok(count) => {
                    if body.is_done() {
                        *self = Self::Open;
                    }
                    Step::Clear(count)
                }
                Err(_) => {
                    *self = Self::Failed(UploadFault::Malformed);
                    Step::Clear(0)
                }
            },
            Self::Open | Self::Refused | Self::Failed(_) => Step::Clear(0),
        }
    }
}

impl<T: Transport> AsyncRead for Io<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let from = room.filled().len();
        loop {
            if this.cleared > 0 {
                let count = this.cleared.min(room.remaining()).min(this.buffer.len());
                room.put_slice(this.buffer.get(..count).unwrap_or_default());
                this.buffer.advance(count);
                this.cleared -= count;
                this.link.handed(count);
                return Poll::Ready(Ok(()));
            }
            let more = match this.phase {
                Phase::Head(_) | Phase::Body(_) => ready!(this.poll_message(cx, room))?,
                Phase::Open => return this.poll_watch(cx, room),
                // hyper closes after the answer; until then there is nothing to wait for.
                Phase::Refused => return Poll::Pending,
                Phase::Failed(error) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
            };
            if !more || room.filled().len() > from {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: Transport> AsyncWrite for Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_automatic() {
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_precede(cx))?;
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_automatic() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        ready!(self.poll_precede(cx))?;
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper flushes when all it had is written, which is when a call can be closed.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It does so only when it has nothing left.
        self.clean = true;
        let hinted = self.poll_interim(cx, false);
        ready!(self.note(hinted))?;
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        ready!(self.note(flushed))?;
        let this = &mut *self;
        if matches!(this.phase, Phase::Open)
            && this.cleared == 0
            && this.link.end_call(this.blocked, !this.buffer.is_empty())
        {
            this.phase = Phase::Head(HeadScanner::new(this.limits));
        }
        Poll::Ready(Ok(()))
    }

    /// The driver closes the socket, when hyper is gone and the client has read its answer.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
