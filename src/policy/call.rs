//! The ladder a call climbs: each type is made from the one before, and behind [`ValidatedCall`] nothing is checked
//! again.
//!
//! ```text
//! Head → Routed → (Presented, Caller) → Identified → InSession → ValidatedCall
//! ```

use std::sync::Arc;

use super::binding::{Possession, SenderConstraint};
use super::claims::Caller;
use super::clients::{LiveCap, Registered};
use super::credentials::{Presented, Scheme};
use super::flow::{Attempt, Flows, Grant};
use super::head::Head;
use super::headers::Observed;
use super::ids::{Owner, SessionId};
use super::method::Verb;
use super::rates::{Rate, Rated, RuleId};
use super::rejection::{Rejection, Why};
use super::route::{Action, PoolId, Route, RouteTable};
use super::session::{Budget, Session};
use super::severity::Severity;
use super::time::{Now, Timestamp};
use super::violation::{Fault, Field, Violations};

/// A call whose route is known.
#[derive(Debug, Clone, Copy)]
pub struct Routed<'s> {
    route: &'s Route,
    number: u16,
}

impl<'s> Routed<'s> {
    /// Finds the route of a call.
    ///
    /// # Errors
    /// `route-unknown`, `method-not-allowed`.
    pub fn find(routes: &'s RouteTable, head: &Head<'_>) -> Result<Self, Rejection> {
        let (number, route) = routes.find(head)?;
        Ok(Self { route, number })
    }

    /// Whether the body that was announced is one the route takes. Asked before anything else of the route: a call that
    /// is refused for its size must not extend a session. A body whose length is not known is counted as it comes.
    ///
    /// # Errors
    /// `request-too-large`.
    pub fn fits(&self, head: &Head<'_>) -> Result<(), Rejection> {
        let too_large = head.body_length().zip(self.route.max_body).is_some_and(|(length, most)| length > most);
        if too_large { Err(Rejection::BodyTooLarge) } else { Ok(()) }
    }

    /// The route.
    #[must_use]
    pub const fn route(&self) -> &'s Route {
        self.route
    }

    /// The route's number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// The pass of a route that needs no session.
    #[must_use]
    pub fn exempt(self) -> Option<ExemptCall<'s>> {
        match self.route.action {
            Action::Forward(pool) if self.route.exempt => Some(ExemptCall { route: self.route, pool }),
            _ => None,
        }
    }

    /// Reads the credentials and the other fields that the route demands.
    ///
    /// # Errors
    /// 401, 400, 415 or 406 with all violations at once.
    pub fn credentials<'r>(&self, head: &Head<'r>, create: bool) -> Result<(Presented<'r>, Observed), Rejection> {
        let (presented, observed) = self.route.headers.check(head, create)?;
        // Where proofs are demanded, a token without one is as good as none.
        if self.route.sender == Some(SenderConstraint::Dpop) && presented.scheme() != Scheme::Dpop {
            let missing = Violations::NONE.with(Field::Authorization, Fault::Missing);
            return Err(Rejection::CredentialsMissing(missing));
        }
        Ok((presented, observed))
    }
}

/// A call on a route that the operator exempted from credentials and session. Made only by [`Routed::exempt`].
#[derive(Debug, Clone, Copy)]
pub struct ExemptCall<'s> {
    route: &'s Route,
    pool: PoolId,
}

/// A call whose token is good at this moment, belongs to the client that the client-id names, which may call, and
/// carries the scopes of the route.
#[derive(Debug)]
pub struct Identified<'s> {
    routed: Routed<'s>,
    registered: Registered,
}

impl<'s> Identified<'s> {
    /// Brings credentials and caller together.
    ///
    /// # Errors
    /// `token-invalid` (times, sender), `client-mismatch`, `client-not-allowed`, `session-mismatch`, `scope-insufficient`, in
    /// this order.
    pub fn new(
        routed: Routed<'s>,
        presented: &Presented<'_>,
        registered: Registered,
        possession: Possession,
        now: Now,
    ) -> Result<Self, Rejection> {
        let caller = registered.caller();
        let binding = caller.binding();
        caller.judge(now.wall).map_err(Rejection::TokenInvalid)?;
        possession.fits(binding, presented.scheme()).map_err(Rejection::TokenInvalid)?;
        if routed.route.sender.is_some_and(|demanded| !demanded.admits(binding)) {
            return Err(Rejection::TokenInvalid(Why::Unbound));
        }
        if caller.owner().client.as_str() != presented.client() {
            return Err(Rejection::ClientMismatch);
        }
        if !registered.is_allowed() {
            return Err(Rejection::ClientNotAllowed);
        }
        let fits = presented.session().map_or_else(|| !caller.is_issued(), |id| caller.may_enter(id));
        if !fits {
            return Err(Rejection::SessionMismatch);
        }
        if !routed.route.scopes.admits(caller.scopes()) {
            return Err(Rejection::ScopeInsufficient);
        }
        Ok(Self { routed, registered })
    }

    /// Who calls.
    #[must_use]
    pub const fn caller(&self) -> &Arc<Caller> {
        self.registered.caller()
    }

    /// Most live sessions of the client.
    #[must_use]
    pub const fn live_cap(&self) -> LiveCap {
        self.registered.live_cap()
    }

    /// The client's own rate.
    #[must_use]
    pub const fn own_rate(&self) -> Option<Rate> {
        self.registered.rate()
    }

    /// The route.
    #[must_use]
    pub const fn route(&self) -> &'s Route {
        self.routed.route
    }

    /// Enters the session that was found under the session-id, if the caller owns it. Ownership comes first: what a
    /// stranger is told does not depend on the session.
    ///
    /// # Errors
    /// `session-not-found`.
    pub fn own(self, id: SessionId, found: Option<Arc<Session>>) -> Result<Owned<'s>, Rejection> {
        let session = found.ok_or(Rejection::SessionUnknown)?;
        let caller = self.registered.into_caller();
        let same = Arc::ptr_eq(session.owner(), caller.owner()) || session.owner() == caller.owner();
        if !same {
            return Err(Rejection::SessionForeign);
        }
        Ok(Owned { route: self.routed.route, caller, id, session })
    }
}

/// A call by the owner of a session, whatever the session's standing.
#[derive(Debug)]
pub struct Owned<'s> {
    route: &'s Route,
    caller: Arc<Caller>,
    id: SessionId,
    session: Arc<Session>,
}

impl<'s> Owned<'s> {
    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Enters the session if it may be used at `now` (steady time).
    ///
    /// # Errors
    /// `session-expired`, `session-closed`, `session-revoked`, `session-suspended`.
    pub fn enter(self, now: Timestamp) -> Result<InSession<'s>, Rejection> {
        match self.session.standing(now).rejection() {
            None => Ok(InSession(self)),
            Some(rejection) => Err(rejection),
        }
    }
}

/// What a call is in the flow of its session.
#[derive(Debug)]
pub enum InFlow {
    /// No step of it, or there is no flow.
    Beside(Grant),
    /// A step, which is to be entered with [`Flow::enter`](super::flow::Flow::enter).
    Step(Attempt),
}

/// A call in a live session of its caller.
#[derive(Debug)]
pub struct InSession<'s>(Owned<'s>);

impl<'s> InSession<'s> {
    /// Whose call it is.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        self.0.caller.owner()
    }

    /// What the call is in the flow of its session.
    #[must_use]
    pub fn in_flow(&self, flows: &Flows, verb: Verb, has_key: bool) -> InFlow {
        let Some(flow) = self.0.session.flow() else { return InFlow::Beside(Grant::no_step()) };
        match flows.step_of(flow, &self.0.route.name, verb) {
            None => InFlow::Beside(Grant::no_step()),
            Some(step) => InFlow::Step(Attempt { step, writes: !verb.is_safe(), has_key, is_retry: false }),
        }
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Arc<Session> {
        &self.0.session
    }

    /// Admits the call, which the step rules have let pass: from here on it counts, and it extends the session's idle
    /// time.
    #[must_use]
    pub fn admit(self, _: Grant, now: Timestamp) -> ValidatedCall<'s> {
        self.0.session.touch(now);
        ValidatedCall(self.0)
    }

    /// The same for a call that uses up a part of `budget`. One that it has no room for is noted in `rated`.
    ///
    /// # Errors
    /// `rate-limited`, if the budget is enforced.
    pub fn admit_within(
        self,
        grant: Grant,
        budget: &Budget,
        now: Timestamp,
        rated: &mut Rated,
    ) -> Result<ValidatedCall<'s>, Rejection> {
        let session = &self.0.session;
        if session.take_call(budget) {
            session.extend(now);
            return Ok(ValidatedCall(self.0));
        }
        rated.exceed(RuleId::Budget, budget.severity);
        match budget.severity {
            Severity::Enforce => Err(session.spent(now)),
            Severity::Warn | Severity::Observe | Severity::Off => Ok(self.admit(grant, now)),
        }
    }
}

/// Proof that a call may reach an upstream: its token is good, its client is the token's, its session is live and
/// owned, and every rule of its route agreed.
#[derive(Debug)]
pub struct ValidatedCall<'s>(Owned<'s>);

impl<'s> ValidatedCall<'s> {
    /// Who calls.
    #[must_use]
    pub const fn caller(&self) -> &Arc<Caller> {
        &self.0.caller
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Arc<Session> {
        &self.0.session
    }

    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.0.id
    }

    /// The route.
    #[must_use]
    pub const fn route(&self) -> &'s Route {
        self.0.route
    }
}

/// The only thing that is ever forwarded.
#[derive(Debug)]
pub enum Passage<'s> {
    /// A call with the full proof.
    Validated(ValidatedCall<'s>),
    /// A call on a route that needs none.
    Exempt(ExemptCall<'s>),
}

impl<'s> Passage<'s> {
    /// The route.
    #[must_use]
    pub const fn route(&self) -> &'s Route {
        match self {
            Self::Validated(call) => call.route(),
            Self::Exempt(call) => call.route,
        }
    }

    /// The full proof, if there is one.
    #[must_use]
    pub const fn validated(&self) -> Option<&ValidatedCall<'s>> {
        match self {
            Self::Validated(call) => Some(call),
            Self::Exempt(_) => None,
        }
    }

    /// Where it goes; nowhere if the route answers itself.
    #[must_use]
    pub const fn pool(&self) -> Option<PoolId> {
        match self {
            Self::Exempt(call) => Some(call.pool),
            Self::Validated(call) => match call.route().action {
                Action::Forward(pool) => Some(pool),
                Action::Session | Action::KeySet => None,
            },
        }
    }
}
