//! How fast an upstream must answer, and what looks after an answer that has paused.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::body::AnswerError;
use super::prepared::Prepared;
use super::watch::{LOOK, Watch};
use crate::telemetry::record::CallRecord;
use crate::timer::Deadline;
use crate::upstream::UpstreamError;
use crate::upstream::upload::Progress;

/// How fast an upstream must answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Longest time between two bytes of the body.
    pub(super) stall: Option<Duration>,
    /// Longest time from the beginning of the call to the last byte.
    pub(super) total: Option<Duration>,
}

/// Looks after an answer that has paused.
#[derive(Debug)]
pub(super) struct Pause {
    /// When it began; none: the answer moves.
    began: Option<Instant>,
    /// Runs on while the answer moves: setting it at every part would cost more than a look too many.
    deadline: Deadline,
    armed: bool,
    /// Bytes of the request body when it was looked at last.
    sent: u64,
    watch: Option<Box<Watch>>,
}

impl Pace {
    /// What is too late at this moment; `paused` is how long no byte has come.
    fn late(&self, paused: Duration, whole: Duration) -> Option<UpstreamError> {
        if self.total.is_some_and(|total| whole >= total) {
            return Some(UpstreamError::TotalTimeout);
        }
        self.stall.is_some_and(|stall| paused >= stall).then_some(UpstreamError::Stalled)
    }

    /// When to look next.
    fn next(&self, paused: Duration, whole: Duration) -> Duration {
        let left = |limit: Option<Duration>, passed| limit.map_or(LOOK, |limit| limit.saturating_sub(passed));
        LOOK.min(left(self.stall, paused)).min(left(self.total, whole))
    }
}

impl Pause {
    pub(super) fn begin(record: &CallRecord, prepared: &Arc<Prepared>) -> Box<Self> {
        let deadline = prepared.timer.deadline();
        Box::new(Self { began: None, deadline, armed: false, sent: 0, watch: Watch::over(record, prepared) })
    }

    /// A byte has come.
    pub(super) const fn over(&mut self) {
        self.began = None;
    }

    /// Why the answer must break off, if it must: it is late, or the stream has ended.
    pub(super) fn poll_end(
        &mut self,
        pace: &Pace,
        record: &CallRecord,
        upload: Option<&Progress>,
        context: &mut Context<'_>,
    ) -> Poll<AnswerError> {
        // An upstream may wait for the rest of the request: that is no pause of its own.
        if let Some(upload) = upload.filter(|upload| upload.is_waiting() || upload.bytes() != self.sent) {
            self.sent = upload.bytes();
            self.began = None;
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        if !self.armed {
            self.armed = true;
            self.deadline.reset(pace.next(Duration::ZERO, record.elapsed()));
        }
        while self.deadline.poll_elapsed(context).is_ready() {
            let (paused, whole) = (began.elapsed(), record.elapsed());
            if let Some(error) = pace.late(paused, whole) {
                return Poll::Ready(AnswerError::Upstream(error));
            }
            self.deadline.reset(pace.next(paused, whole));
        }
        match &mut self.watch {
            Some(watch) => watch.poll_end(context).map(AnswerError::Ended),
            None => Poll::Pending,
        }
    }
}
