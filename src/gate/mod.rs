//! The straight line every call takes, whatever front it came in by.

pub mod memo;
pub mod open;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::auth::{Authenticator, Unidentified};
use crate::clock::Clock;
use crate::config::Snapshot;
use crate::policy::call::{Identified, Owned, Passage, Routed, ValidatedCall};
use crate::policy::claims::Caller;
use crate::policy::credentials::Presented;
use crate::policy::head::Head;
use crate::policy::headers::Observed;
use crate::policy::ids::SessionId;
use crate::policy::method::Verb;
use crate::policy::rejection::Rejection;
use crate::policy::route::Action;
use crate::policy::session::{EndCause, Session, Standing};
use crate::policy::time::Now;
use crate::store::{AnyStore, SessionStore};
use memo::TokenMemo;

/// What became known of a call on its way, admitted or not: filled in as each stage proves it.
#[derive(Debug, Default)]
pub struct Known {
    /// Number of the route.
    pub route: Option<u16>,
    /// Who calls, once the token was verified.
    pub caller: Option<Arc<Caller>>,
    /// The session, once the caller was proven to own it.
    pub session: Option<Arc<Session>>,
    /// Its id.
    pub session_id: Option<SessionId>,
    /// Broken rules that refuse nothing.
    pub observed: Observed,
}

/// A call that passed every stage.
#[derive(Debug)]
pub enum Admission<'s, 'r> {
    /// It goes to an upstream.
    Forward(Passage<'s>),
    /// `POST /session`.
    Open(OpenCall<'s, 'r>),
    /// `GET /session`.
    Read(ValidatedCall<'s>),
    /// `DELETE /session`.
    End(Owned<'s>),
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
}

impl Gate {
    /// A gate over a store.
    #[must_use]
    pub const fn new(store: AnyStore, clock: Clock) -> Self {
        Self { store, clock, draining: AtomicBool::new(false) }
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &AnyStore {
        &self.store
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
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

    /// Takes a call from its head to its admission. A stage that refuses leaves everything behind it untouched: in
    /// particular, a refused call never extends a session.
    ///
    /// # Errors
    /// The refusal of the first stage that does not agree.
    pub async fn admit<'s, 'r>(
        &self,
        live: &'s Snapshot,
        head: &Head<'r>,
        now: Now,
        memo: &TokenMemo,
        known: &mut Known,
    ) -> Result<Admission<'s, 'r>, Rejection> {
        let routed = Routed::find(&live.routes, head)?;
        known.route = Some(routed.number());
        routed.fits(head)?;
        if let Some(exempt) = routed.exempt() {
            return Ok(Admission::Forward(Passage::Exempt(exempt)));
        }
        let at_endpoint = routed.route().action == Action::Session;
        let create = at_endpoint && head.verb() == Verb::Post;
        let (presented, observed) = routed.credentials(head, create)?;
        known.observed = observed;
        let caller = identify(&live.auth, memo, presented.token()).await?;
        known.caller = Some(Arc::clone(&caller));
        let identified = Identified::new(routed, &presented, caller, now)?;
        let Some(id) = presented.session() else {
            return Ok(Admission::Open(OpenCall { identified, presented }));
        };
        let found = self.store.find(id.key()).await?;
        let owned = identified.own(id, found)?;
        known.session = Some(Arc::clone(owned.session()));
        known.session_id = Some(id);
        if at_endpoint && head.verb() == Verb::Delete {
            return Ok(Admission::End(owned));
        }
        let call = owned.enter(now.steady)?.admit(now.steady);
        Ok(if at_endpoint { Admission::Read(call) } else { Admission::Forward(Passage::Validated(call)) })
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

/// The caller a token speaks of. What few calls need, to wait for an issuer, is kept off the stack of all others.
async fn identify(auth: &Authenticator, memo: &TokenMemo, token: &str) -> Result<Arc<Caller>, Rejection> {
    match memo.recall(auth, token) {
        Ok(caller) => Ok(caller),
        Err(Unidentified::Refused(rejection)) => Err(rejection),
        Err(Unidentified::Ask(inquiry)) => Box::pin(auth.inquire(token, inquiry)).await,
    }
}

#[cfg(test)]
mod tests;
