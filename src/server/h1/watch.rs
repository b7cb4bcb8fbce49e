//! How long an HTTP/1 connection waits for its client.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::link::{View, Waiting};
use crate::server::limits::Limits;
use crate::timer::{Deadline, Timer};

/// What to do about a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait on.
    Wait,
    /// It has been idle for a moment: give back the memory.
    Sleep,
    /// Its head is too slow.
    HeadLate,
    /// Its body is too slow.
    BodyLate,
    /// It takes no answer.
    WriteLate,
    /// The body that nobody wants takes too long.
    DiscardLate,
}

/// The time-outs of one connection over one deadline.
///
/// The deadline is lazy: it is set again only for something earlier, and when it fires too early for what is awaited by
/// then. So a busy connection touches the timer about once a second and not once per call.
#[derive(Debug)]
pub(super) struct Watch {
    deadline: Deadline,
    /// What the deadline is set to.
    set: Option<Instant>,
    reading: Option<Due>,
    writing: Option<Due>,
    discarding: Option<Due>,
    /// When the connection became idle.
    idle_since: Instant,
}

/// Something awaited: it is late at `at`, unless `mark` moves before.
#[derive(Debug, Clone, Copy)]
struct Due {
    waiting: Waiting,
    mark: u64,
    at: Instant,
}

impl Watch {
    /// For a connection whose first byte arrived at `since`.
    pub(super) fn new(timer: &Timer, since: Instant, limits: &Limits) -> Self {
        let reading = Some(Due { waiting: Waiting::Head, mark: 0, at: since + limits.head_timeout });
        Self { deadline: timer.deadline(), set: None, reading, writing: None, discarding: None, idle_since: since }
    }

    /// When the connection became idle.
    pub(super) const fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// Judges what the last poll of hyper left open, and registers `cx` for the next verdict.
    pub(super) fn judge(&mut self, cx: &mut Context<'_>, view: &View, limits: &Limits) -> Verdict {
        if view.waiting == Waiting::Nothing && !view.stuck && !view.discarding {
            (self.reading, self.writing, self.discarding) = (None, None, None);
            return Verdict::Wait;
        }
        let now = Instant::now();
        let (allowed, mark) = match view.waiting {
            Waiting::Nothing => (None, 0),
            Waiting::Idle => (Some(limits.sleep_after), view.calls),
            // From the first byte: drops that keep coming do not extend it.
            Waiting::Head => (Some(limits.head_timeout), view.calls),
            Waiting::Body => (Some(limits.body_timeout), view.received),
        };
        if renew(&mut self.reading, view.waiting, mark, allowed, now) && view.waiting == Waiting::Idle {
            self.idle_since = now;
        }
        renew(&mut self.writing, Waiting::Nothing, view.written, view.stuck.then_some(limits.write_timeout), now);
        renew(
            &mut self.discarding,
            Waiting::Nothing,
            view.calls,
            view.discarding.then_some(limits.discard_timeout),
            now,
        );

        let due = [self.writing, self.discarding, self.reading].into_iter().flatten().map(|due| due.at).min();
        let Some(due) = due else { return Verdict::Wait };
        if due > now {
            self.wait_until(due, now, cx);
            return Verdict::Wait;
        }
        let late = |what: &Option<Due>| what.is_some_and(|due| due.at <= now);
        if late(&self.writing) {
            return Verdict::WriteLate;
        }
        if late(&self.discarding) {
            return Verdict::DiscardLate;
        }
        self.reading = None;
        match view.waiting {
            Waiting::Nothing => Verdict::Wait,
            Waiting::Idle => Verdict::Sleep,
            Waiting::Head => Verdict::HeadLate,
            Waiting::Body => Verdict::BodyLate,
        }
    }

    /// Waits without hyper until `due`; `true` when it has passed.
    pub(super) fn is_past(&mut self, cx: &mut Context<'_>, due: Instant) -> bool {
        let now = Instant::now();
        if due <= now {
            return true;
        }
        self.wait_until(due, now, cx);
        false
    }

    fn wait_until(&mut self, due: Instant, now: Instant, cx: &mut Context<'_>) {
        // Else it is still to fire, early enough, and will wake the task that waited for it, which is this one.
        if self.set.is_none_or(|set| set > due || set <= now) {
            self.deadline.reset(due - now);
            self.set = Some(due);
            let _ = self.deadline.poll_elapsed(cx);
        }
    }
}

/// Starts, restarts or ends the wait for something; `true` if it (re)started.
fn renew(due: &mut Option<Due>, waiting: Waiting, mark: u64, allowed: Option<Duration>, now: Instant) -> bool {
    let Some(allowed) = allowed else {
        *due = None;
        return false;
    };
    if due.is_some_and(|due| due.waiting == waiting && due.mark == mark) {
        return false;
    }
    *due = Some(Due { waiting, mark, at: now + allowed });
    true
}
