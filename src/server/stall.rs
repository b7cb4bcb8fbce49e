//! Ends HTTP/2 streams whose client takes nothing (CVE-2019-9511, CVE-2019-9517).
//!
//! A client that keeps its window shut, or opens it byte by byte, holds the answer and with it an upstream connection,
//! while its connection looks healthy and answers pings. hyper spawns a task per stream; [`Streams`] wraps these tasks and
//! drops one whose client let the last part of an answer lie for the whole write time-out. Dropping it resets the stream.
//!
//! The bound is on a whole part: a client must take what the front gave at once, up to 64 KiB, in that time.
//!
//! The same wrapper resets a stream that has become a tunnel: hyper writes to it in a task of its own, which takes every
//! end of the tunnel for a regular one.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio_util::sync::CancellationToken;

use crate::timer::{Deadline, Timer};

thread_local! {
    /// What the body of an answer said when it was polled last, for the task around it. Both happen within one poll, and
    /// such polls do not nest.
    static SAID: Cell<Said> = const { Cell::new(Said::Nothing) };
}

thread_local! {
    /// What resets the stream whose task is spawned next. hyper spawns the one that writes to a tunnel in the poll in which
    /// it gets the answer that opens it. If the client has left by then, another task takes what nobody will cancel.
    static RESET: Cell<Option<CancellationToken>> = const { Cell::new(None) };
}

/// Has the task that hyper spawns for a tunnel drop its stream when `reset` is cancelled.
pub(super) fn reset_next_task_by(reset: CancellationToken) {
    RESET.set(Some(reset));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It was not polled.
    Nothing,
    /// A part for the client.
    Part,
    /// That it waits for the front, or has ended.
    Wait,
}

/// Spawns the tasks of streams.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) timer: Timer,
    pub(super) allowed: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, task: F) {
        let task = Task { task: Some(task), deadline: self.timer.deadline(), allowed: self.allowed };
        match RESET.take() {
            None => tokio::spawn(task),
            // First of all it looks whether it should end: with the front's half of the tunnel gone as well, it would tell
            // the client that all is well.
            Some(reset) => tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = reset.cancelled() => {}
                    () = task => {}
                }
            }),
        };
    }
}

pin_project! {
    struct Task<F> {
        #[pin]
        task: Option<F>,
        deadline: Deadline,
        allowed: Duration,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(task) = this.task.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        SAID.set(Said::Nothing);
        if task.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match SAID.get() {
            Said::Nothing => {}
            Said::Part => this.deadline.reset(*this.allowed),
            Said::Wait => this.deadline.clear(),
        }
        if this.deadline.poll_elapsed(cx).is_ready() {
            this.task.set(None);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

pin_project! {
    /// The body of an answer, which tells the task around it what it does, and keeps `guard` as long as it lives.
    pub(super) struct Told<B, G> {
        #[pin]
        body: Option<B>,
        guard: Option<G>,
    }
}

impl<B, G> Told<B, G> {
    pub(super) const fn new(body: B, guard: G) -> Self {
        Self { body: Some(body), guard: Some(guard) }
    }

    /// Of an answer that opens a tunnel. What follows it is not for hyper.
    pub(super) const fn switched() -> Self {
        Self { body: None, guard: None }
    }
}

/// Hears of the parts of an answer.
pub(super) trait Progress {
    /// A part is on its way.
    fn made(&self);
}

impl<B: Body, G: Progress> Body for Told<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(None) };
        let frame = body.poll_frame(cx);
        let said = if matches!(frame, Poll::Ready(Some(Ok(_)))) { Said::Part } else { Said::Wait };
        if said == Said::Part
            && let Some(guard) = this.guard
        {
            guard.made();
        }
        SAID.set(said);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
