//! Ends what outlasts its token or its session: long answers, long uploads, tunnels.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::prepared::Prepared;
use crate::gate::Gate;
use crate::policy::claims::Caller;
use crate::policy::rejection::{Rejection, Why};
use crate::policy::session::{Barred, Session};
use crate::telemetry::record::CallRecord;
use crate::timer::Deadline;
use crate::upstream::upload::Progress;

/// How often a stream that pauses looks whether its token or session has ended, and how old one that never pauses is when
/// it begins to look at every part.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// What a call needs to know when it must end.
#[derive(Debug)]
struct Keeper {
    gate: Arc<Gate>,
    session: Arc<Session>,
    caller: Arc<Caller>,
}

/// Looks after a call that has paused.
#[derive(Debug)]
pub(super) struct Watch {
    keeper: Keeper,
    deadline: Deadline,
    barred: Barred,
}

/// What a call would be refused with now that was admitted before.
pub(super) fn refusal(record: &CallRecord, prepared: &Prepared) -> Option<Rejection> {
    Keeper::of(record, prepared)?.refusal()
}

/// Looks after a call whose upload has paused, or has taken its time, while there is no answer yet.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    watch: Option<Box<Watch>>,
    begun: bool,
}

impl Vigil {
    /// Ready when the call must end. Most have sent all they have to send when they are looked at first, and wait for the
    /// upstream, which has a time-out of its own.
    pub(super) fn poll_end(
        &mut self,
        upload: &Progress,
        record: &CallRecord,
        prepared: &Prepared,
        context: &mut Context<'_>,
    ) -> Poll<Rejection> {
        let lasts = upload.is_waiting() || self.begun && record.elapsed() >= LOOK;
        self.begun = true;
        if self.watch.is_none() && lasts {
            self.watch = Watch::over(record, prepared);
        }
        self.watch.as_mut().map_or(Poll::Pending, |watch| watch.poll_end(context))
    }
}

impl Keeper {
    /// The keeper of a call with a session; exempt calls have none.
    fn of(record: &CallRecord, prepared: &Prepared) -> Option<Self> {
        let (session, caller) = (Arc::clone(record.session.as_ref()?), Arc::clone(record.caller.as_ref()?));
        Some(Self { gate: Arc::clone(&prepared.gate), session, caller })
    }

    fn refusal(&self) -> Option<Rejection> {
        let now = self.gate.clock().now();
        if self.caller.usable_until() <= now.wall {
            return Some(Rejection::TokenInvalid(Why::Expired));
        }
        self.session.standing(now.steady).rejection()
    }
}

impl Watch {
    /// A watch over a call; none if it has no session.
    pub(super) fn over(record: &CallRecord, prepared: &Prepared) -> Option<Box<Self>> {
        let keeper = Keeper::of(record, prepared)?;
        let (mut deadline, barred) = (prepared.timer.deadline(), Arc::clone(&keeper.session).barred());
        deadline.reset(LOOK);
        Some(Box::new(Self { keeper, deadline, barred }))
    }

    /// Ready when the call must end, with what it would be refused with now. Only one that has paused for a while is
    /// looked after, so that the short ones pay nothing.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Rejection> {
        while self.deadline.poll_elapsed(context).is_ready() {
            // From here on the end of the session, or its suspension, wakes the call at once.
            _ = Pin::new(&mut self.barred).poll(context);
            if let Some(rejection) = self.keeper.refusal() {
                return Poll::Ready(rejection);
            }
            self.deadline.reset(LOOK);
        }
        self.keeper.session.settled_standing().rejection().map_or(Poll::Pending, Poll::Ready)
    }
}
