//! Recorded calls under a new configuration: which verdicts would have been others?
//!
//! The rules are the gate's own. What is written here is only the order in which they are asked, with records in place of
//! heads: [`Reader`] asks those that need no memory, [`Replay`] those about sessions, steps and rates, at the recorded
//! times. What an upstream answered is what it answered then; of a call that was never sent nobody knows, so its step counts
//! as not done.

pub mod call;
mod order;
mod sessions;
pub mod verdict;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

pub use call::{Reader, Recorded};
pub use order::InOrder;
pub use verdict::{Change, Gap, Judgment, Kind};

use crate::config::Snapshot;
use crate::gate::limiter::{Counted, Limiter};
use crate::policy::clients::Registered;
use crate::policy::flow::{Attempt, StepMark};
use crate::policy::ids::SessionKey;
use crate::policy::method::Verb;
use crate::policy::rates::{Per, Rated, RuleId};
use crate::policy::rejection::Rejection;
use crate::policy::route::Action;
use crate::policy::session::EndCause;
use crate::policy::severity::Severity;
use crate::policy::time::Timestamp;
use call::{Passed, Stateless};
use sessions::{Found, Known, Sessions};
use verdict::Origin;

/// How often what is over is forgotten, in the time of the trail.
const SWEEP: Duration = Duration::from_secs(60);

/// The rules that remember, and what they remember.
#[derive(Debug)]
pub struct Replay {
    live: Arc<Snapshot>,
    limiter: Limiter,
    sessions: Sessions,
    swept: Timestamp,
}

/// A refusal, and the step rule or rate rule that it comes from.
type Refusal = (Rejection, Arc<str>);

impl Replay {
    /// Nothing has been called yet.
    #[must_use]
    pub fn new(live: Arc<Snapshot>) -> Self {
        Self { live, limiter: Limiter::default(), sessions: Sessions::default(), swept: Timestamp::EPOCH }
    }

    /// Names of the rate rules that go by address, which is not recorded: they are not asked.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.live.rates.rules().iter().filter(|rule| rule.per == Per::Address).map(|rule| &*rule.name)
    }

    /// Judges the next call. Calls come in the order of their times.
    pub fn judge(&mut self, call: &Recorded) -> Judgment {
        if self.swept.after(SWEEP) <= call.time {
            self.swept = call.time;
            self.limiter.sweep(call.time);
            self.sessions.sweep(call.time.before(self.live.sessions.tombstone_ttl));
        }
        let judgment = match &call.now {
            Stateless::AsRecorded => Judgment::Same,
            Stateless::Unknown(gap) => Judgment::Unknown(*gap),
            Stateless::Released => Judgment::admitted(&call.old, true),
            Stateless::Refused(rejection) => Judgment::refused(&call.old, *rejection, || "".into()),
            Stateless::Passed(passed) => self.judge_passed(call, passed),
        };
        // A session that the new rules do not open has no calls.
        if let Some(session) = call.session
            && matches!(&judgment, Judgment::Changed(change) if change.kind == Kind::Refused)
            && self.is_opening(call)
        {
            self.sessions.refuse(session, call.time.after(self.live.sessions.lifetimes.absolute));
        }
        judgment
    }

    /// Whether the call opened its session.
    fn is_opening(&self, call: &Recorded) -> bool {
        call.verb == Some(Verb::Post)
            && self.live.routes.routes().first().is_some_and(|endpoint| *endpoint.name == *call.route)
    }

    fn judge_passed(&mut self, call: &Recorded, passed: &Passed) -> Judgment {
        let Some(caller) = &passed.caller else {
            return match call.old.origin() {
                Origin::Upstream | Origin::Body => Judgment::Same,
                _ => Judgment::admitted(&call.old, false),
            };
        };
        let live = Arc::clone(&self.live);
        let Some(route) = live.routes.routes().get(usize::from(passed.route)) else {
            return Judgment::Unknown(Gap::Path);
        };
        if route.action == Action::Session && passed.verb == Verb::Post {
            return self.judge_opening(call, passed, caller);
        }
        let Some(key) = call.session else {
            return match call.old.origin() {
                Origin::Session | Origin::Upstream => Judgment::Same,
                // It was refused before it was known whose session it is.
                _ if call.old.is_refused() => Judgment::admitted(&call.old, true),
                _ => Judgment::Unknown(Gap::Session),
            };
        };
        match self.sessions.find(key, call.time) {
            Found::Unopened => Judgment::Unknown(Gap::Unopened),
            Found::Earlier => self.judge_in_part(call, passed, caller, key),
            Found::Known(mut known) => {
                let judgment = self.judge_within(call, passed, caller, &mut known);
                self.sessions.put_back(known);
                judgment
            }
        }
    }

    fn judge_opening(&mut self, call: &Recorded, passed: &Passed, caller: &Registered) -> Judgment {
        if let Err((rejection, rule)) = self.count(call.time, passed, caller, None) {
            return Judgment::refused(&call.old, rejection, || rule);
        }
        match (call.session, call.old.origin()) {
            (_, Origin::Session | Origin::Key | Origin::Upstream) => Judgment::Same,
            (session, _) => {
                if let Some(key) = session.filter(|_| !call.old.is_refused()) {
                    self.sessions.open(key, caller.caller(), &self.live, call.time);
                }
                Judgment::admitted(&call.old, false)
            }
        }
    }

    /// A call in a session of which only a part is in the trail.
    fn judge_in_part(&self, call: &Recorded, passed: &Passed, caller: &Registered, key: SessionKey) -> Judgment {
        let client = caller.caller().owner().client.as_str();
        let step = self.live.flows.of_client(client).and_then(|flow| {
            self.live.flows.step_of(flow, &self.live.routes.routes().get(usize::from(passed.route))?.name, passed.verb)
        });
        let budget = self.live.sessions.budget.is_some_and(|budget| budget.severity == Severity::Enforce);
        match (call.old.origin(), call.old.code) {
            (Origin::Session | Origin::Key | Origin::Upstream, _) | (_, "session-expired" | "session-closed") => {
                return Judgment::Same;
            }
            _ if step.is_some() || budget => return Judgment::Unknown(Gap::Beginning),
            _ => {}
        }
        match self.count(call.time, passed, caller, Some(key)) {
            Err((rejection, rule)) => Judgment::refused(&call.old, rejection, || rule),
            Ok(()) => Judgment::admitted(&call.old, false),
        }
    }

    fn judge_within(&mut self, call: &Recorded, passed: &Passed, caller: &Registered, known: &mut Known) -> Judgment {
        let (live, now) = (Arc::clone(&self.live), call.time);
        let Some(route) = live.routes.routes().get(usize::from(passed.route)) else {
            return Judgment::Unknown(Gap::Path);
        };
        let at_endpoint = route.action == Action::Session;
        if at_endpoint && passed.verb == Verb::Delete {
            known.end(EndCause::Closed);
            return Judgment::admitted(&call.old, false);
        }
        if call.old.code == "session-revoked" {
            known.end(EndCause::Revoked);
        }
        if call.old.origin() == Origin::Session {
            return Judgment::Same;
        }
        if let Some(rejection) = known.session.standing(now).rejection() {
            return Judgment::refused(&call.old, rejection, || "".into());
        }
        if call.old.origin() == Origin::Key {
            return Judgment::Same;
        }
        // Answered from memory: the step rules let the first pass.
        let is_repeat = !call.old.is_refused() && !at_endpoint && !call.facts.forwarded;
        let flow = known.session.flow().cloned().filter(|_| !is_repeat);
        let step = flow.as_ref().and_then(|flow| live.flows.step_of(flow, &route.name, passed.verb));
        let mut held = None;
        if let Some((flow, step)) = flow.zip(step) {
            let has_key = call.facts.has_key;
            // Who was let pass after an unknown outcome had shown the same key.
            let is_retry = has_key && !call.old.is_refused();
            let attempt = Attempt { step, writes: !passed.verb.is_safe(), has_key, is_retry };
            match known.enter(&flow, attempt, now) {
                Ok(entered) => held = Some((flow, entered)),
                Err(mark) => return refused_step(call, flow.step_name(step), mark),
            }
        }
        let refused = self.count(now, passed, caller, Some(known.key())).err();
        let refused = refused.or_else(|| (!at_endpoint).then(|| self.spend(known, now)).flatten());
        if at_endpoint && refused.is_none() {
            known.session.touch(now);
        }
        if let Some((rejection, rule)) = refused {
            known.give_up(held, now);
            return Judgment::refused(&call.old, rejection, || rule);
        }
        if call.old.origin() == Origin::Upstream || call.old.origin() == Origin::Body || !call.old.is_refused() {
            known.settle_later(held, call.facts, now);
            return Judgment::Same;
        }
        known.give_up(held, now);
        Judgment::admitted(&call.old, false)
    }

    /// Asks the rate rules.
    fn count(
        &self,
        now: Timestamp,
        passed: &Passed,
        caller: &Registered,
        session: Option<SessionKey>,
    ) -> Result<(), Refusal> {
        let live = &self.live;
        if caller.rate().is_none() && live.rates.is_free(passed.route) {
            return Ok(());
        }
        let route_name = live.routes.routes().get(usize::from(passed.route)).map_or("", |route| &route.name);
        let counted = Counted {
            route: passed.route,
            route_name,
            session,
            owner: caller.caller().owner(),
            own_rate: caller.rate(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let mut rated = Rated::default();
        self.limiter.count(&live.rates, &counted, now, &mut rated).map_err(|rejection| {
            let rule = rated.exceeded.map_or("", |(rule, _)| live.rates.name(rule));
            (rejection, rule.into())
        })
    }

    /// Takes a call out of the budget of its session.
    fn spend(&self, known: &Known, now: Timestamp) -> Option<Refusal> {
        let session = &known.session;
        match &self.live.sessions.budget {
            Some(budget) if session.take_call(budget) => session.extend(now),
            Some(budget) if budget.severity == Severity::Enforce => {
                return Some((session.spent(now), RuleId::BUDGET.into()));
            }
            Some(_) | None => session.touch(now),
        }
        None
    }
}

fn refused_step(call: &Recorded, step: &str, mark: StepMark) -> Judgment {
    let Some((denial, _)) = mark.broken else { return Judgment::Same };
    Judgment::refused(&call.old, denial.rejection(), || format!("{step} {}", denial.as_str()).into())
}

#[cfg(test)]
mod tests;
