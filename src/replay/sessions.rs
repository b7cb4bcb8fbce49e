//! Sessions as the recorded calls leave them: the gate's own, with recorded times and answers.

use std::collections::HashMap;
use std::sync::Arc;

use super::call::Facts;
use crate::config::Snapshot;
use crate::policy::claims::Caller;
use crate::policy::flow::{Attempt, Entered, Flow, Outcome, StepMark};
use crate::policy::ids::SessionKey;
use crate::policy::session::{EndCause, Progress, Session, Standing};
use crate::policy::time::Timestamp;

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: HashMap<SessionKey, Box<Known>>,
    /// Those that the new rules did not open, and when they would have ended.
    unopened: HashMap<SessionKey, Timestamp>,
}

/// A session that was opened in the trail.
#[derive(Debug)]
pub(super) struct Known {
    pub session: Session,
    /// Calls whose outcome is known later.
    pending: Vec<Pending>,
}

/// A step that a call has entered.
pub(super) type Held = (Arc<Flow>, (StepMark, Option<Entered>));

#[derive(Debug)]
struct Pending {
    at: Timestamp,
    held: Option<Held>,
    outcome: Outcome,
    bytes: u64,
}

/// What is known of a session.
#[derive(Debug)]
pub(super) enum Found {
    /// The new rules did not open it.
    Unopened,
    /// It began before the trail.
    Earlier,
    /// All of it.
    Known(Box<Known>),
}

impl Sessions {
    /// Opens a session, unless it is open: an opening may be repeated.
    pub(super) fn open(&mut self, key: SessionKey, caller: &Caller, live: &Snapshot, now: Timestamp) {
        let flow = live.flows.of_client(caller.owner().client.as_str()).cloned();
        self.known.entry(key).or_insert_with(|| {
            let (owner, scope) = (Arc::clone(caller.owner()), Arc::clone(caller.scope()));
            let session = Session::open(key, owner, scope, live.sessions.lifetimes, now).following(flow);
            Box::new(Known { session, pending: Vec::new() })
        });
    }

    /// Notes that the new rules do not open a session, which would have ended at `end`.
    pub(super) fn refuse(&mut self, key: SessionKey, end: Timestamp) {
        if !self.known.contains_key(&key) {
            self.unopened.insert(key, end);
        }
    }

    /// Takes a session out, with all outcomes that were known at `now`.
    pub(super) fn find(&mut self, key: SessionKey, now: Timestamp) -> Found {
        match self.known.remove(&key) {
            Some(mut known) => {
                known.settle(now);
                Found::Known(known)
            }
            None if self.unopened.contains_key(&key) => Found::Unopened,
            None => Found::Earlier,
        }
    }

    /// Puts a session back.
    pub(super) fn put_back(&mut self, known: Box<Known>) {
        self.known.insert(known.key(), known);
    }

    /// Forgets what ended before `then`.
    pub(super) fn sweep(&mut self, then: Timestamp) {
        self.known.retain(|_, known| known.session.deadline() > then);
        self.unopened.retain(|_, end| *end > then);
    }
}

impl Known {
    pub(super) const fn key(&self) -> SessionKey {
        self.session.key()
    }

    /// Ends the session, if it has not ended.
    pub(super) fn end(&self, cause: EndCause) {
        self.change(|progress| {
            if !matches!(progress.standing, Standing::Ended(_)) {
                progress.standing = Standing::Ended(cause);
            }
        });
    }

    /// Enters a step.
    ///
    /// # Errors
    /// The mark of a call that the step rules refuse.
    pub(super) fn enter(
        &self,
        flow: &Flow,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(StepMark, Option<Entered>), StepMark> {
        let since = now.since(self.session.opened());
        let entered = self.session.visit(|progress| flow.enter(&mut progress.steps, attempt, since));
        entered.map(|(mark, entered, _)| (mark, entered))
    }

    /// Lets go of a step of a call that is not sent.
    pub(super) fn give_up(&self, held: Option<Held>, now: Timestamp) {
        self.write(held, Outcome::Unsent, now);
    }

    /// Settles a call once its outcome was known.
    pub(super) fn settle_later(&mut self, held: Option<Held>, facts: Facts, now: Timestamp) {
        let at = Timestamp::from_millis(now.as_millis().saturating_add(facts.answered_after));
        self.pending.push(Pending { at, held, outcome: facts.outcome, bytes: facts.bytes });
    }

    fn settle(&mut self, now: Timestamp) {
        if self.pending.iter().all(|pending| pending.at > now) {
            return;
        }
        let (mut due, later): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|pending| pending.at <= now);
        self.pending = later;
        due.sort_by_key(|pending| pending.at);
        for Pending { at, held, outcome, bytes } in due {
            self.write(held, outcome, at);
            self.session.spend(bytes);
        }
    }

    fn write(&self, held: Option<Held>, outcome: Outcome, now: Timestamp) {
        let Some((flow, (mut mark, Some(entered)))) = held else { return };
        let since = now.since(self.session.opened());
        self.change(|progress| flow.settle(&mut progress.steps, &mut mark, entered, outcome, since));
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let changed: Result<(), std::convert::Infallible> = self.session.visit(|progress| {
            change(progress);
            Ok(())
        });
        match changed {
            Ok(()) => {}
        }
    }
}
