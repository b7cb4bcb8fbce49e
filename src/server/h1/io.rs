//! The IO wrapper under hyper's HTTP/1 server.
//!
//! It reads the socket into its own buffer and hands hyper exactly one head, then exactly the bytes of that message, and
//! the next head only when the call is closed: its answer is written and its body read to the end. From this follow
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

use hyper::rt::{Read, ReadBufCursor, Write};

use super::body::BodyTracker;
use super::buffer::Buffer;
use super::framing::{HeadLimits, HeadScanner, Scan};
use super::link::{Link, Waiting};
use crate::policy::rejection::Rejection;
use crate::server::socket::Transport;
use crate::upstream::upload::UploadFault;

/// What hyper sees instead of a request that must be refused. The host is one that cannot exist (RFC 6761 section 6.4).
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

#[derive(Debug)]
pub(super) struct Io<T> {
    socket: T,
    buffer: Buffer,
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
    pub(super) fn new(socket: T, first: &[u8], limits: HeadLimits, link: Arc<Link>) -> Self {
        let mut buffer = Buffer::default();
        buffer.push(first);
        let phase = Phase::Head(HeadScanner::new(limits));
        Self {
            socket,
            buffer,
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
    pub(super) const fn is_idle(&self) -> bool {
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
        self.buffer.set(STAND_IN);
        self.cleared = STAND_IN.len();
        self.phase = Phase::Refused;
    }

    /// The socket, for the time without hyper.
    pub(super) const fn socket(&mut self) -> &mut T {
        &mut self.socket
    }

    /// Takes what was read and not shown to hyper.
    pub(super) fn take_early(&mut self) -> Vec<u8> {
        let early = self.buffer.bytes().to_vec();
        self.buffer.consume(early.len());
        self.buffer.release();
        early
    }

    /// Gives the buffer's memory back.
    pub(super) fn release(&mut self) {
        self.buffer.release();
    }

    /// Puts back what was read in the time without hyper.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.push(bytes);
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, waiting: Waiting) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let filled = self.buffer.poll_fill(cx, &mut self.socket);
        self.blocked = filled.is_pending();
        match filled {
            Poll::Pending if waiting != Waiting::Nothing => self.link.wait_for(waiting),
            Poll::Ready(Ok(0)) => self.ended = true,
            _ => {}
        }
        filled
    }

    /// Reads until a head is whole and clears it, or hands out the stand-in. `false` at the end of the connection.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if let Some(rejection) = self.link.take_order() {
                self.refuse(rejection);
                return Poll::Ready(Ok(true));
            }
            let Phase::Head(scanner) = &mut self.phase else { return Poll::Ready(Ok(true)) };
            match scanner.scan(self.buffer.bytes()) {
                Ok(Scan::Skip(count)) => self.buffer.consume(count),
                Ok(Scan::Head { length, framing }) => {
                    self.clear_message(length, BodyTracker::new(framing));
                    return Poll::Ready(Ok(true));
                }
                Ok(Scan::Partial) => {
                    let waiting = if self.buffer.is_empty() { Waiting::Idle } else { Waiting::Head };
                    if ready!(self.poll_fill(cx, waiting))? == 0 {
                        // Half a head and the end: nobody waits for an answer.
                        self.buffer.consume(self.buffer.len());
                        return Poll::Ready(Ok(false));
                    }
                }
                Err(rejection) => {
                    self.refuse(rejection);
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }

    /// Clears a head and what has arrived of its body, so that hyper gets both in one read.
    fn clear_message(&mut self, head: usize, mut body: BodyTracker) {
        self.called = false;
        let rest = self.buffer.bytes().get(head..).unwrap_or_default();
        (self.cleared, self.phase) = match body.advance(rest) {
            Ok(count) if body.is_done() => (head + count, Phase::Open),
            Ok(count) => (head + count, Phase::Body(body)),
            Err(_) => (head, Phase::Failed(UploadFault::Malformed)),
        };
    }

    /// Reads more of a body and clears it. `false` at the end of the connection.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Some(rejection) = self.link.take_order() {
            debug_assert_eq!(rejection, Rejection::RequestTimeout);
            self.phase = Phase::Failed(UploadFault::Stalled);
            return Poll::Ready(Ok(true));
        }
        if self.buffer.is_empty() && ready!(self.poll_fill(cx, Waiting::Body))? == 0 {
            return Poll::Ready(Ok(false));
        }
        let Phase::Body(body) = &mut self.phase else { return Poll::Ready(Ok(true)) };
        match body.advance(self.buffer.bytes()) {
            Ok(count) => {
                self.cleared = count;
                if body.is_done() {
                    self.phase = Phase::Open;
                } else {
                    self.buffer.prefer_large();
                }
            }
            Err(_) => self.phase = Phase::Failed(UploadFault::Malformed),
        }
        Poll::Ready(Ok(true))
    }

    /// While a call is open: only notices that the client left. Pipelined bytes are kept here, up to the buffer's size;
    /// beyond it the socket is not read, and the end not noticed, until the call is closed.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_full() {
            if ready!(self.poll_fill(cx, Waiting::Nothing))? == 0 {
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

impl<T: Transport> Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.cleared > 0 {
                let count = this.cleared.min(cursor.remaining());
                cursor.put_slice(this.buffer.bytes().get(..count).unwrap_or_default());
                this.buffer.consume(count);
                this.cleared -= count;
                this.link.handed(count);
                return Poll::Ready(Ok(()));
            }
            let more = match this.phase {
                Phase::Head(_) => ready!(this.poll_head(cx))?,
                Phase::Body(_) => ready!(this.poll_body(cx))?,
                Phase::Open => return this.poll_watch(cx),
                // hyper closes after the answer; until then there is nothing to wait for.
                Phase::Refused => return Poll::Pending,
                Phase::Failed(error) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
            };
            if !more {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: Transport> Write for Io<T> {
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
