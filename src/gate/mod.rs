//! The straight line every call takes, whatever front it came in by.

pub mod idempotency;
pub mod limiter;
pub mod memo;
pub mod open;
mod possession;
pub mod settle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::auth::Unidentified;
use crate::auth::replay::Replays;
use crate::clock::Clock;
use crate::config::Snapshot;
use crate::policy::call::{Identified, InFlow, InSession, Owned, Passage, Routed, ValidatedCall};
use crate::policy::claims::Caller;
use crate::policy::clients::Registered;
use crate::policy::credentials::{Presented, Scheme};
use crate::policy::flow::{Grant, StepMark};
use crate::policy::head::Head;
use crate::policy::headers::Observed;
use crate::policy::ids::{Owner, SessionId, SessionKey};
use crate::policy::method::Verb;
use crate::policy::overload::{Place, Priority, Running};
use crate::policy::rates::{Rate, Rated};
use crate::policy::rejection::Rejection;
use crate::policy::route::Action;
use crate::policy::session::{EndCause, Progress, Session, Standing};
use crate::policy::time::{Now, Timestamp};
use crate::store::answers::Answers;
use crate::store::{AnyStore, Selector, SessionStore};
use limiter::{Counted, Limiter};
use memo::TokenMemo;
use settle::{Hold, Repeat, Step};

/// Sessions that are revoked between two looks at other work.
const REVOKED_AT_ONCE: usize = 10_000;

/// What became known of a call on its way, admitted or not: filled in as each stage proves it.
#[derive(Debug, Default)]
pub struct Known {
    /// Number of the route.
    pub route: Option<u16>,
    /// How the token was presented.
    pub scheme: Scheme,
    /// Who calls, once the token was verified.
    pub caller: Option<Arc<Caller>>,
    /// The session, once the caller was proven to own it.
    pub session: Option<Arc<Session>>,
    /// Its id.
    pub session_id: Option<SessionId>,
    /// Broken rules that refuse nothing.
    pub observed: Observed,
    /// What rate rules made of it.
    pub rated: Rated,
    /// Its place among those that run, where there are only so many.
    pub place: Option<Place>,
    /// The step of its session's flow that the call is.
    pub step: Option<StepMark>,
}

/// A call that passed every stage.
#[derive(Debug)]
pub enum Admission<'s, 'r, 'g> {
    /// It goes to an upstream. If it is a step of its session, what became of that must be written down.
    Forward(Passage<'s>, Option<Hold<'g>>),
    /// It is a step, and came before under the same Idempotency-Key.
    Repeat(Box<Repeat<'s, 'g>>),
    /// `POST /session`.
    Open(OpenCall<'s, 'r>),
    /// `GET /session`.
    Read(ValidatedCall<'s>),
    /// `DELETE /session`.
    End(Owned<'s>),
    /// Whoever asks gets the keys of the tokens that the gate issues.
    KeySet,
}

/// A call that may open a session.
#[derive(Debug)]
pub struct OpenCall<'s, 'r> {
    identified: Identified<'s>,
    presented: Presented<'r>,
}

/// Decides about calls. One per process; all fronts share it.
#[derive(Debug)]
pub struct Gate {
    store: AnyStore,
    clock: Clock,
    draining: AtomicBool,
    foreign_uses: AtomicU64,
    suspensions: AtomicU64,
    /// Proofs that were used; a reload forgets none.
    replays: Replays,
    limiter: Limiter,
    running: Running,
    answers: Answers,
}

impl Gate {
    /// A gate over a store.
    #[must_use]
    pub fn new(store: AnyStore, clock: Clock) -> Self {
        let (foreign_uses, suspensions) = (AtomicU64::new(0), AtomicU64::new(0));
        let (draining, replays, limiter) = (AtomicBool::new(false), Replays::default(), Limiter::default());
        let (running, answers) = (Running::default(), Answers::default());
        Self { store, clock, draining, foreign_uses, suspensions, replays, limiter, running, answers }
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &AnyStore {
        &self.store
    }

    /// First answers to steps with an Idempotency-Key.
    #[must_use]
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The buckets of rate rules.
    #[must_use]
    pub const fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Calls that run, where there may be only so many.
    #[must_use]
    pub const fn running(&self) -> &Running {
        &self.running
    }

    /// From now on no session is opened; running ones are served.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::begin_drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How often somebody with a good token tried to use a session of somebody else.
    #[must_use]
    pub fn foreign_uses(&self) -> u64 {
        self.foreign_uses.load(Ordering::Relaxed)
    }

    /// How many sessions were suspended for that.
    #[must_use]
    pub fn suspensions(&self) -> u64 {
        self.suspensions.load(Ordering::Relaxed)
    }

    /// Takes a call from its head to its admission. A stage that refuses leaves everything behind it untouched: in
    /// particular, a refused call never extends a session.
    ///
    /// # Errors
    /// The refusal of the first stage that does not agree.
    pub async fn admit<'s, 'r, 'g>(
        &'g self,
        live: &'s Snapshot,
        head: &Head<'r>,
        now: Now,
        memo: &TokenMemo,
        known: &mut Known,
    ) -> Result<Admission<'s, 'r, 'g>, Rejection> {
        let routed = Routed::find(&live.routes, head)?;
        known.route = Some(routed.number());
        routed.fits(head)?;
        if let Some(exempt) = routed.exempt() {
            return Ok(Admission::Forward(Passage::Exempt(exempt), None));
        }
        if routed.route().action == Action::KeySet {
            return Ok(Admission::KeySet);
        }
        let at_endpoint = routed.route().action == Action::Session;
        let create = at_endpoint && head.verb() == Verb::Post;
        let (presented, observed) = routed.credentials(head, create)?;
        known.observed = observed;
        known.scheme = presented.scheme();
        let registered = identify(live, memo, presented.token()).await?;
        known.caller = Some(Arc::clone(registered.caller()));
        let possession = self.possession(live, head, &presented, registered.caller(), now)?;
        let identified = Identified::new(routed, &presented, registered, possession, now)?;
        let own_rate = identified.own_rate();
        let Some(id) = presented.session() else {
            let owner = identified.caller().owner();
            self.limit(live, head, (own_rate, None, owner), now, known)?;
            if let Some(rule) = &live.overload {
                known.place = Some(self.running.enter(rule, Priority::Opening)?);
            }
            return Ok(Admission::Open(OpenCall { identified, presented }));
        };
        let found = self.store.find(id.key()).await?;
        let owned = match identified.own(id, found) {
            Err(Rejection::SessionForeign) => return Err(self.foreign_use(id, live, known, now).await),
            owned => owned?,
        };
        known.session = Some(Arc::clone(owned.session()));
        known.session_id = Some(id);
        if at_endpoint && head.verb() == Verb::Delete {
            return Ok(Admission::End(owned));
        }
        let call = owned.enter(now.steady)?;
        let key = presented.idempotency_key();
        let step = match call.in_flow(&live.flows, head.verb(), key.is_some()) {
            InFlow::Beside(grant) => Step::Entered(grant, None),
            InFlow::Step(attempt) => self.step(live, &call, attempt, key, now.steady, &mut known.step).await?,
        };
        // What is refused from here on gives back the step that it has entered.
        self.limit(live, head, (own_rate, Some(call.session().key()), call.owner()), now, known)?;
        if !at_endpoint && let Some(rule) = &live.overload {
            known.place = Some(self.running.enter(rule, Priority::Underway)?);
        }
        match step {
            Step::Entered(grant, _) if at_endpoint => Ok(Admission::Read(call.admit(grant, now.steady))),
            Step::Entered(grant, hold) => {
                let call = count(live, call, grant, now.steady, &mut known.rated)?;
                Ok(Admission::Forward(Passage::Validated(call), hold))
            }
            Step::Repeated(found) => Ok(Admission::Repeat(Box::new(Repeat::of(call, found)))),
        }
    }

    /// Counts a call under the rate rules of its route.
    fn limit(
        &self,
        live: &Snapshot,
        head: &Head<'_>,
        (own_rate, session, owner): (Option<Rate>, Option<SessionKey>, &Owner),
        now: Now,
        known: &mut Known,
    ) -> Result<(), Rejection> {
        let route = known.route.unwrap_or_default();
        if own_rate.is_none() && live.rates.is_free(route) {
            return Ok(());
        }
        let counted = Counted::of(live, head, route, session, owner, own_rate);
        self.limiter.count(&live.rates, &counted, now.steady, &mut known.rated)
    }

    /// Notes the use of a session by somebody else, who is told the same as of a session that is not there. If so
    /// configured, too many of them suspend it: its id is in wrong hands.
    async fn foreign_use(&self, id: SessionId, live: &Snapshot, known: &Known, now: Now) -> Rejection {
        self.foreign_uses.fetch_add(1, Ordering::Relaxed);
        let key = id.key();
        let client = known.caller.as_ref().map(|caller| caller.owner().client.as_str());
        tracing::warn!(session = %key, client, "session used by somebody who does not own it");
        if let Some(rule) = live.sessions.on_foreign_use {
            let note = |progress: &mut Progress| Ok(progress.note_foreign_use(rule, now.steady));
            // With a store that fails, it counts at the next try.
            if let Ok(true) = self.store.transact(key, note, now.steady).await {
                self.suspensions.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(session = %key, "session suspended after foreign uses");
            }
        }
        Rejection::SessionForeign
    }

    /// Revokes all sessions that `selector` selects, and says how many that were.
    ///
    /// # Errors
    /// None with a store in memory.
    pub async fn revoke(&self, selector: &Selector) -> Result<u64, Rejection> {
        let (mut after, mut revoked) = (None, 0);
        loop {
            let page = self.store.list(selector, after, REVOKED_AT_ONCE).await?;
            for session in &page {
                let now = self.clock.now().steady;
                revoked += u64::from(self.store.end(session.key(), EndCause::Revoked, now).await?);
            }
            after = page.last().map(|session| session.key());
            if page.len() < REVOKED_AT_ONCE {
                return Ok(revoked);
            }
            // A large revocation leaves room for the other duties of the thread.
            tokio::task::yield_now().await;
        }
    }

    /// Ends a session for its owner. Ending what has ended is no error: the owner's wish is fulfilled.
    ///
    /// # Errors
    /// None with a store in memory.
    pub async fn close(&self, owned: &Owned<'_>, now: Now) -> Result<(), Rejection> {
        if let Standing::Ended(_) = owned.session().standing(now.steady) {
            return Ok(());
        }
        self.store.end(owned.session().key(), EndCause::Closed, now.steady).await.map(drop)
    }
}

/// Admits a call that the rules let pass, within the budget of its session if there is one.
fn count<'s>(
    live: &Snapshot,
    call: InSession<'s>,
    grant: Grant,
    now: Timestamp,
    rated: &mut Rated,
) -> Result<ValidatedCall<'s>, Rejection> {
    match &live.sessions.budget {
        Some(budget) => call.admit_within(grant, budget, now, rated),
        None => Ok(call.admit(grant, now)),
    }
}

/// The caller a token speaks of. What few calls need, to wait for an issuer, is kept off the stack of all others.
async fn identify(live: &Snapshot, memo: &TokenMemo, token: &str) -> Result<Registered, Rejection> {
    match memo.recall(live, token) {
        Ok(registered) => Ok(registered),
        Err(Unidentified::Refused(rejection)) => Err(rejection),
        Err(Unidentified::Ask(inquiry)) => {
            Box::pin(async { live.auth.inquire(token, inquiry).await.map(|caller| live.register(caller)) }).await
        }
    }
}

#[cfg(test)]
mod tests;
