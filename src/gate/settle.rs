//! What a call holds while it does a step of its session, until it is known what came of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Gate, Known, count, idempotency};
use crate::config::Snapshot;
use crate::policy::call::{InSession, Passage};
use crate::policy::flow::{Attempt, Entered, Flow, Grant, Idempotency, Outcome, StepMark};
use crate::policy::rejection::Rejection;
use crate::policy::session::{Progress, Session};
use crate::policy::severity::Severity;
use crate::policy::time::Timestamp;
use crate::store::answers::{Begun, Claim, Fingerprint, Kept, Memory};
use crate::store::{AnyStore, SessionStore};

/// A step under way. It is settled exactly once: by its outcome, or, if the call is given up in between (its client left, or
/// its task panicked), by what is known then.
#[derive(Debug)]
#[must_use]
pub struct Hold<'g> {
    store: &'g AnyStore,
    session: Arc<Session>,
    flow: Arc<Flow>,
    mark: StepMark,
    entered: Option<Entered>,
    sent: AtomicBool,
    /// What is remembered under its Idempotency-Key, and the fingerprint, once the request has passed by whole.
    claim: Option<(Claim<'g>, Arc<OnceLock<Fingerprint>>)>,
}

impl<'g> Hold<'g> {
    /// To be set once a byte of the request may have reached the upstream.
    #[must_use]
    pub const fn sent(&self) -> &AtomicBool {
        &self.sent
    }

    /// Where the fingerprint of the request belongs, if it is wanted.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&Arc<OnceLock<Fingerprint>>> {
        self.claim.as_ref().map(|(_, fingerprint)| fingerprint)
    }

    /// Writes down the outcome, at steady time `now`. With an Idempotency-Key, the answer to a step that was done is to be
    /// kept.
    pub fn settle(mut self, outcome: Outcome, now: Timestamp) -> (StepMark, Option<Claim<'g>>) {
        let claim = self.write(outcome, now);
        (self.mark, claim.filter(|_| self.mark.outcome == Some(Outcome::Committed)))
    }

    fn write(&mut self, outcome: Outcome, now: Timestamp) -> Option<Claim<'g>> {
        if let Some(entered) = self.entered.take() {
            let (flow, mark, since) = (&self.flow, &mut self.mark, now.since(self.session.opened()));
            let session = &self.session;
            self.store.settle(session, |progress| flow.settle(&mut progress.steps, mark, entered, outcome, since));
        }
        let (mut claim, fingerprint) = self.claim.take()?;
        let fingerprint = fingerprint.get().copied();
        match self.mark.outcome {
            Some(Outcome::Committed) => claim.leave(Some(Memory::Done(fingerprint, None))),
            Some(Outcome::Indeterminate) => claim.leave(Some(Memory::Unknown(fingerprint))),
            Some(Outcome::RolledBack) => claim.leave(None),
            // As it was before.
            Some(Outcome::Unsent) | None => {}
        }
        Some(claim)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let sent = self.sent.load(Ordering::Relaxed);
        // Neither needs to know what time it is.
        _ = self.write(if sent { Outcome::Indeterminate } else { Outcome::Unsent }, self.session.opened());
    }
}

/// What the rules about the order of steps make of a call.
#[derive(Debug)]
pub(super) enum Step<'g> {
    /// They let it pass. If it does a step, it holds it.
    Entered(Grant, Option<Hold<'g>>),
    /// It comes again under its Idempotency-Key.
    Repeated(Found<'g>),
}

/// What is known of the first call with a key.
#[derive(Debug)]
pub(super) struct Found<'g> {
    attempt: Attempt,
    first: Option<Fingerprint>,
    outcome: KnownOutcome<'g>,
}

#[derive(Debug)]
enum KnownOutcome<'g> {
    Done(Option<Arc<Kept>>),
    Unknown(Claim<'g>),
}

/// A call that comes again under its Idempotency-Key. Whether it is the same, its body must tell.
#[derive(Debug)]
pub struct Repeat<'s, 'g> {
    call: InSession<'s>,
    found: Found<'g>,
}

impl<'s, 'g> Repeat<'s, 'g> {
    pub(super) const fn of(call: InSession<'s>, found: Found<'g>) -> Self {
        Self { call, found }
    }
}

/// What becomes of a repeated call.
#[derive(Debug)]
pub enum Repeated<'s, 'g> {
    /// It gets the answer of the first.
    Replay(Arc<Kept>),
    /// It is sent again, because nobody knows what came of the first.
    Forward(Box<(Passage<'s>, Hold<'g>)>),
}

impl Gate {
    /// Asks the rules about the order of steps.
    ///
    /// # Errors
    /// `step-not-allowed`, `step-in-progress`, `step-indeterminate`, `idempotency-key-missing`, `idempotency-in-flight`.
    pub(super) async fn step(
        &self,
        live: &Snapshot,
        call: &InSession<'_>,
        attempt: Attempt,
        key: Option<&str>,
        now: Timestamp,
        mark: &mut Option<StepMark>,
    ) -> Result<Step<'_>, Rejection> {
        let (session, ttl) = (call.session(), live.sessions.idempotency_ttl);
        let step = session.flow().and_then(|flow| flow.step(attempt.step));
        // Rules that are only tried out change nothing; what only reads is repeated by doing it again.
        let remembers = attempt.writes
            && step.is_some_and(|step| step.idempotency != Idempotency::Off && step.severity == Severity::Enforce);
        let mut claim = None;
        if let Some(key) = key.filter(|_| remembers) {
            *mark = session.steps().map(|(_, steps)| StepMark::of(attempt.step, &steps));
            let found = |first, outcome| Ok(Step::Repeated(Found { attempt, first, outcome }));
            match self.answers.begin(session.key(), idempotency::key(key), now, ttl, session.expires()) {
                Begun::First(first) => claim = Some(first),
                Begun::InFlight => return Err(Rejection::IdempotencyInFlight),
                Begun::Again(claim, first) => return found(first, KnownOutcome::Unknown(claim)),
                Begun::Done(first, kept) => return found(first, KnownOutcome::Done(kept)),
            }
        }
        let (grant, hold) = self.enter_step(call, attempt, claim, now, mark).await?;
        Ok(Step::Entered(grant, Some(hold)))
    }

    /// Decides about a repeated call whose fingerprint is known.
    ///
    /// # Errors
    /// `idempotency-key-reused` if it is another call, `step-not-allowed` if it was done and its answer was not kept, and
    /// what a step or a call is refused with.
    pub async fn repeat<'s, 'g>(
        &'g self,
        live: &Snapshot,
        repeat: Repeat<'s, 'g>,
        fingerprint: Fingerprint,
        now: Timestamp,
        known: &mut Known,
    ) -> Result<Repeated<'s, 'g>, Rejection> {
        let Repeat { call, found: Found { attempt, first, outcome } } = repeat;
        if first.is_some_and(|first| first != fingerprint) {
            return Err(Rejection::IdempotencyKeyReused);
        }
        match outcome {
            KnownOutcome::Done(Some(kept)) => {
                // The rules let the first pass.
                count(live, call, Grant::repeated(), now, &mut known.rated)?;
                Ok(Repeated::Replay(kept))
            }
            KnownOutcome::Done(None) => Err(Rejection::AnswerNotKept),
            KnownOutcome::Unknown(claim) => {
                let attempt = Attempt { is_retry: true, ..attempt };
                let (grant, hold) = self.enter_step(&call, attempt, Some(claim), now, &mut known.step).await?;
                let call = count(live, call, grant, now, &mut known.rated)?;
                Ok(Repeated::Forward(Box::new((Passage::Validated(call), hold))))
            }
        }
    }

    /// Enters a step that the call may do, in one visit to the session: of several calls that race for it, the rules see one
    /// after another. `mark` tells what was found, also of a call that is refused.
    async fn enter_step<'g>(
        &'g self,
        call: &InSession<'_>,
        attempt: Attempt,
        claim: Option<Claim<'g>>,
        now: Timestamp,
        mark: &mut Option<StepMark>,
    ) -> Result<(Grant, Hold<'g>), Rejection> {
        let session = call.session();
        let Some(flow) = session.flow() else { return Err(Rejection::Internal) };
        let since = now.since(session.opened());
        let visit = |progress: &mut Progress| match progress.standing.rejection() {
            // It has ended since it was looked at.
            Some(rejection) => Err(rejection),
            None => Ok(flow.enter(&mut progress.steps, attempt, since)),
        };
        match self.store.transact(session.key(), visit, now).await? {
            Ok((found, entered, grant)) => {
                *mark = Some(found);
                let (session, flow, sent) = (Arc::clone(session), Arc::clone(flow), AtomicBool::new(false));
                let claim = claim.map(|claim| (claim, Arc::default()));
                Ok((grant, Hold { store: &self.store, session, flow, mark: found, entered, sent, claim }))
            }
            Err(found) => {
                *mark = Some(found);
                let rejection = found.broken.map(|(denial, _)| denial.rejection());
                Err(rejection.unwrap_or(Rejection::Internal))
            }
        }
    }
}
