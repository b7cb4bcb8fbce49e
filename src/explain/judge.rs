//! Takes a call through the stages of the gate and notes what each one says.

use std::sync::Arc;
use std::time::Duration;

use http::{Version, header};

use super::facts::{self, explain_why, is_step, needs, quoted, supposed, whole};
use super::{Asked, InSession, Said, Stage, Verdict};
use crate::auth::Unidentified;
use crate::config::Snapshot;
use crate::gate::limiter::{Counted, Limiter};
use crate::policy::call::{Identified, InFlow, Owned, Routed};
use crate::policy::claims::Caller;
use crate::policy::credentials::Presented;
use crate::policy::fields::Role;
use crate::policy::head::{Head, RawHead, Sender};
use crate::policy::ids::{Owner, SessionKey};
use crate::policy::method::Verb;
use crate::policy::rates::{Per, Rate, RuleId};
use crate::policy::rejection::Rejection;
use crate::policy::route::{Action, Route};
use crate::policy::session::Session;
use crate::policy::severity::Severity;
use crate::policy::time::Now;
use crate::policy::violation::Violations;

/// The stages of a call, and what comes out.
pub(super) fn judge(
    live: &Snapshot,
    asked: &Asked<'_>,
    session: InSession,
    limiter: Option<&Limiter>,
    now: Now,
) -> (Vec<Stage>, Verdict) {
    let mut stages = Vec::new();
    let verdict = Judge { live, asked, limiter, now, stages: &mut stages }.judge(session);
    (stages, verdict.unwrap_or_else(|refusal| refusal))
}

struct Judge<'a> {
    live: &'a Snapshot,
    asked: &'a Asked<'a>,
    limiter: Option<&'a Limiter>,
    now: Now,
    stages: &'a mut Vec<Stage>,
}

impl Judge<'_> {
    /// The straight line of `Gate::admit`, on copies.
    fn judge(&mut self, session: InSession) -> Result<Verdict, Verdict> {
        let (live, asked) = (self.live, self.asked);
        let raw = RawHead {
            method: asked.method,
            uri: asked.uri,
            version: Version::HTTP_11,
            headers: asked.headers,
            protocol: None,
            has_body: asked.has_body,
            trusted_peer: false,
        };
        let head = Head::parse(raw, &live.names, &live.via);
        let head = head.map_err(|rejection| self.refuse("target", rejection, vec![], vec![]))?;
        let length = asked.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let sender = Sender { address: asked.address, ..Sender::default() };
        let head = head.with_body_length(length).with_sender(sender);
        self.pass("target", self.about_target(&head));

        let routed = Routed::find(&live.routes, &head).map_err(|rejection| {
            let others = match rejection {
                Rejection::MethodNotAllowed(allowed) => format!("this path takes {allowed}"),
                _ => "`sessiongate routes` lists all of them".into(),
            };
            self.refuse("route", rejection, vec![], vec![others])
        })?;
        let route = routed.route();
        let mut facts = vec![format!("{}: {} {}", route.name, route.methods, route.path)];
        facts.extend(needs(route));
        facts.extend(live.flows.iter().filter_map(|flow| is_step(flow, route, head.verb())));
        facts.push(self.goes_to(route));
        if let Err(rejection) = routed.fits(&head) {
            let most = route.max_body.map(|most| format!("it takes bodies of {most} bytes")).into_iter().collect();
            return Err(self.refuse("route", rejection, facts, most));
        }
        self.pass("route", facts);
        if routed.exempt().is_some() {
            let then = format!("the route is exempt: nothing more is asked, and {}", self.goes_to(route));
            return Ok(Verdict::Admitted { then });
        }
        if route.action == Action::KeySet {
            return Ok(Verdict::Admitted { then: "the key set is shown".into() });
        }

        let at_endpoint = route.action == Action::Session;
        let create = at_endpoint && head.verb() == Verb::Post;
        let (presented, observed) = routed.credentials(&head, create).map_err(|rejection| {
            let violations = rejection.violations().map_or_else(Vec::new, |found| self.name_violations(found));
            self.refuse("headers", rejection, violations, vec![])
        })?;
        let observed = self.name_violations(observed.counted.union(observed.warned));
        let mut facts = vec!["all that the route demands are there".to_owned()];
        facts.extend(observed.into_iter().map(|fact| format!("{fact}, which is only observed")));
        self.pass("headers", facts);

        let caller = live.auth.examine(presented.token());
        let caller = match caller {
            Ok(caller) => caller,
            Err(Unidentified::Refused(rejection)) => return Err(self.refuse("token", rejection, vec![], vec![])),
            Err(Unidentified::Ask(_)) => {
                let facts = vec!["its issuer is asked about it, when the call is made".into()];
                self.stages.push(Stage { name: "token", result: Said::NeedsGate, facts });
                return Ok(Verdict::NeedsGate { what: "what the issuer of the token says".into() });
            }
        };
        let registered = live.register(Arc::clone(&caller));
        let may_use = Arc::clone(registered.caller().scope());
        let own_rate = registered.rate();
        let possession = supposed(&caller, presented.scheme());
        let identified = Identified::new(routed, &presented, registered, possession, self.now);
        let identified = self.split(route, &presented, &caller, &may_use, identified)?;

        let owner = Arc::clone(caller.owner());
        let mut counted = Limits { head: &head, route: routed.number(), own_rate, owner: &owner, session: None };
        let Some(id) = presented.session() else {
            self.limits(&counted)?;
            self.pass("session", vec!["this call opens one".into()]);
            return Ok(Verdict::Admitted { then: "a session is opened".into() });
        };
        let closes = at_endpoint && head.verb() == Verb::Delete;
        let then = match (at_endpoint, head.verb()) {
            (true, Verb::Delete) => "it is closed".into(),
            (true, _) => "its state is shown".into(),
            (false, _) => self.goes_to(route),
        };
        let (found, assumed) = match session {
            InSession::Found(found) => (found, vec![]),
            InSession::Told(mut told) => {
                let assumed = std::mem::take(&mut told.assumed);
                (Some(told.session(&caller, id, live)), assumed)
            }
            InSession::Unknown => {
                let facts = vec![
                    format!("session key {}", id.key()),
                    "whether it is live and the caller's: needs the running gate".into(),
                ];
                self.stages.push(Stage { name: "session", result: Said::NeedsGate, facts });
                if !closes {
                    counted.session = Some((id.key(), None));
                    self.limits(&counted)?;
                }
                return Ok(Verdict::AdmittedInSession { then });
            }
        };
        let mut facts = found.as_deref().map_or_else(Vec::new, |found| facts::about_session(found, self.now));
        facts.extend(assumed);
        let belongs = found.as_deref().map(|found| facts::other_owner(found.owner(), &owner));
        let owned = identified.own(id, found).map_err(|rejection| {
            let why = match rejection {
                Rejection::SessionForeign => belongs.into_iter().collect(),
                _ => vec!["the gate knows no session of this session-id".into()],
            };
            self.refuse("session", rejection, facts.clone(), why)
        })?;
        if closes {
            self.pass("session", facts);
            return Ok(Verdict::Admitted { then });
        }
        let session = Arc::clone(owned.session());
        self.step(owned, facts, &head, presented.idempotency_key().is_some())?;
        counted.session = Some((session.key(), (!at_endpoint).then_some(&*session)));
        self.limits(&counted)?;
        Ok(Verdict::Admitted { then })
    }

    /// Whether the session may be used, and what its flow says.
    fn step(&mut self, owned: Owned<'_>, facts: Vec<String>, head: &Head<'_>, has_key: bool) -> Result<(), Verdict> {
        let call = match owned.enter(self.now.steady) {
            Ok(call) => call,
            Err(rejection) => return Err(self.refuse("session", rejection, facts, vec![])),
        };
        self.pass("session", facts);
        let session = Arc::clone(call.session());
        let InFlow::Step(attempt) = call.in_flow(&self.live.flows, head.verb(), has_key) else {
            if let Some(flow) = session.flow() {
                self.pass("step", vec![format!("it is no step of flow {}: it may come at any time", flow.name())]);
            }
            return Ok(());
        };
        let Some((flow, steps)) = session.steps() else { return Ok(()) };
        let since = self.now.steady.since(session.opened());
        let mut facts = facts::about_step(flow, &steps, attempt, since);
        if has_key && attempt.writes {
            facts.push(
                "whether its Idempotency-Key came before is not looked at; then it would get the first answer".into(),
            );
        }
        // What entering would change goes no further than this copy.
        let mut copy = steps;
        let (mark, refused) = match flow.enter(&mut copy, attempt, since) {
            Ok((mark, ..)) => (mark, false),
            Err(mark) => (mark, true),
        };
        if let (Some((denial, severity)), Some(step)) = (mark.broken, flow.step(attempt.step)) {
            let why = facts::about_denial(flow, &steps, step, denial, since);
            if refused {
                let next = facts::names(flow, flow.allowed(&steps, since));
                let next = if next.is_empty() { "none".to_owned() } else { next };
                return Err(self.refuse(
                    "step",
                    denial.rejection(),
                    facts,
                    vec![why, format!("next may come: {next}")],
                ));
            }
            facts.push(format!("{why}; severity {}, so it passes", severity.as_str()));
        }
        self.pass("step", facts);
        Ok(())
    }

    /// Shows times, client and scopes as the stages they are; one constructor has judged all three.
    fn split<'s>(
        &mut self,
        route: &Route,
        presented: &Presented<'_>,
        caller: &Caller,
        may_use: &str,
        identified: Result<Identified<'s>, Rejection>,
    ) -> Result<Identified<'s>, Verdict> {
        let refused = identified.as_ref().err().copied();
        let client = &caller.owner().client;
        let lacking = needs(route).unwrap_or_default();
        let why_not = match refused {
            Some(Rejection::ClientNotAllowed) => match self.live.clients.as_ref().map(|registry| registry.snapshot()) {
                Some(clients) if clients.get(client.as_str()).is_some() => "the registry has it disabled".to_owned(),
                _ => "the registry does not know it".to_owned(),
            },
            _ => format!("client-id says {}", presented.client()),
        };
        let mut scopes = vec![format!("the token has {}", quoted(caller.scope()))];
        if **caller.scope() != *may_use {
            scopes.push(format!("its client may use {} of them", quoted(may_use)));
        }
        let stages = [
            ("token", self.about_token(caller), vec![]),
            ("client", vec![format!("the token is of client {client}")], vec![why_not]),
            ("scopes", scopes, vec![lacking]),
        ];
        let stops_at = refused.map(|rejection| match rejection {
            Rejection::ClientMismatch | Rejection::ClientNotAllowed | Rejection::SessionMismatch => "client",
            Rejection::ScopeInsufficient => "scopes",
            _ => "token",
        });
        for (name, facts, remedies) in stages {
            match refused.filter(|_| stops_at == Some(name)) {
                Some(rejection) => return Err(self.refuse(name, rejection, facts, remedies)),
                None => self.pass(name, facts),
            }
        }
        identified.map_err(|rejection| self.refuse("token", rejection, vec![], vec![]))
    }

    /// The rules that count such a call, and what a running gate has left of them.
    fn limits(&mut self, call: &Limits<'_, '_>) -> Result<(), Verdict> {
        let session = call.session.map(|(key, _)| key);
        let counted = Counted::of(self.live, call.head, call.route, session, call.owner, call.own_rate);
        let looked = self.limiter.map(|limiter| limiter.look(&self.live.rates, &counted, self.now.steady));
        let (mut facts, mut refused) = (Vec::new(), None);
        let own = call.own_rate.map(|rate| (RuleId::OwnRate, "for the client", rate, Severity::Enforce));
        let rules = self.live.rates.of(call.route).map(|(number, rule)| {
            let per = match rule.per {
                Per::Session => "for a session",
                Per::Client => "for a client without a rate of its own",
                Per::Address => "from an address",
                Per::Route => "on the route",
                Per::All => "in all",
            };
            (RuleId::Numbered(number), per, rule.rate, rule.severity)
        });
        for (rule, per, rate, severity) in own.into_iter().chain(rules) {
            let (name, burst) = (self.live.rates.name(rule), rate.burst());
            let most = format!("{burst} calls at once {per}, as many again in {} s", rate.full_in().as_secs_f64());
            let found = looked.as_ref().and_then(|all| all.iter().find(|(known, _)| *known == rule));
            let left = match found.map(|(_, left)| left) {
                None => String::new(),
                // The one that is asked about is not taken.
                Some(Ok(spare)) => format!("; {} are left", spare.calls.saturating_add(1)),
                Some(Err(empty)) => {
                    if severity == Severity::Enforce {
                        refused = refused.or(Some(Rejection::RateLimited(empty.retry_after())));
                    }
                    format!("; none is left, and one will be in {} s", empty.retry_after().0)
                }
            };
            facts.push(format!("{name} ({}): {most}{left}", severity.as_str()));
        }
        let needs_gate = looked.is_none() && !facts.is_empty();
        self.budget(call.session, &mut facts, &mut refused);
        match refused {
            Some(rejection) => return Err(self.refuse("limits", rejection, facts, vec![])),
            None if needs_gate => {
                facts.push("what is left of them: needs the running gate".into());
                self.stages.push(Stage { name: "limits", result: Said::NeedsGate, facts });
            }
            None if facts.is_empty() => {}
            None => self.pass("limits", facts),
        }
        Ok(())
    }

    /// What a session may use up in its life.
    fn budget(
        &self,
        session: Option<(SessionKey, Option<&Session>)>,
        facts: &mut Vec<String>,
        refused: &mut Option<Rejection>,
    ) {
        let (Some(budget), Some((_, session))) = (&self.live.sessions.budget, session) else { return };
        let calls = budget.calls.map(|most| format!("{most} calls"));
        let bytes = budget.bytes.map(|most| format!("{most} bytes"));
        let most: Vec<_> = calls.into_iter().chain(bytes).collect();
        let used = session.map_or_else(String::new, |session| format!("; it has made {} calls", session.calls()));
        facts.push(format!("{} ({}): {}{used}", RuleId::BUDGET, budget.severity.as_str(), most.join(" and ")));
        if let Some(session) = session.filter(|session| !session.has_call_left(budget))
            && budget.severity == Severity::Enforce
        {
            let spent = session.spent(self.now.steady);
            let left = spent.wait().map_or(Duration::ZERO, |wait| Duration::from_secs(wait.0.into()));
            facts.push(format!("it can do no more; it ends in {}", whole(left)));
            *refused = refused.or(Some(spent));
        }
    }

    fn pass(&mut self, name: &'static str, facts: Vec<String>) {
        self.stages.push(Stage { name, result: Said::Passed, facts });
    }

    fn refuse(
        &mut self,
        name: &'static str,
        rejection: Rejection,
        mut facts: Vec<String>,
        more: Vec<String>,
    ) -> Verdict {
        let row = rejection.row();
        if let Rejection::TokenInvalid(why) = rejection {
            facts.push(explain_why(why).into());
        }
        facts.extend(more);
        self.stages.push(Stage { name, result: Said::Refused, facts });
        Verdict::Refused {
            status: self.live.errors.status(rejection).as_u16(),
            code: row.code,
            reason: row.reason,
            remedy: row.detail,
        }
    }

    /// The path, and the fields that the gate takes out because clients may not say what they say.
    fn about_target(&self, head: &Head<'_>) -> Vec<String> {
        let removed = |role| {
            use Role::{Forwarded, ForwardedFor, ForwardedHost, ForwardedProto, Reserved};
            matches!(role, Reserved | Forwarded | ForwardedFor | ForwardedProto | ForwardedHost)
        };
        let names = self.asked.headers.keys().filter(|name| removed(self.live.names.role(name)));
        let removed: Vec<_> = names.map(http::HeaderName::as_str).collect();
        let mut facts = vec![format!("path {}", head.path())];
        if !removed.is_empty() {
            facts.push(format!("taken out, since clients may not say it: {}", removed.join(", ")));
        }
        facts
    }

    fn about_token(&self, caller: &Caller) -> Vec<String> {
        let owner = caller.owner();
        let mut facts = vec!["the signature is good".to_owned()];
        facts.extend(owner.issuer.as_ref().map(|issuer| format!("issuer {issuer}")));
        facts.extend(owner.subject.as_ref().map(|subject| format!("subject {subject}")));
        let binding = owner.binding;
        let key = binding.and_then(|binding| binding.key());
        facts.extend(
            key.map(|key| format!("bound to the key {key}; whether the proof is good: needs the running gate")),
        );
        let certificate = binding.and_then(|binding| binding.certificate());
        facts.extend(certificate.map(|print| format!("bound to the certificate {print}; the connection must show it")));
        let (expires, now) = (caller.expires(), self.now.wall);
        let ago = expires < now;
        let apart = if ago { now.since(expires) } else { expires.since(now) };
        let apart = format!("{} s", apart.as_secs());
        facts.push(if ago {
            format!("expired {apart} ago, at {expires}")
        } else {
            format!("expires in {apart}, at {expires}")
        });
        facts
    }

    fn goes_to(&self, route: &Route) -> String {
        let Action::Forward(id) = route.action else { return "the gate answers it".into() };
        match self.live.pools.get(id.0) {
            Some(pool) => {
                let endpoints = pool.endpoints.iter().map(|endpoint| endpoint.authority.to_str().unwrap_or("?"));
                format!("it goes to upstream {} ({})", pool.name, endpoints.collect::<Vec<_>>().join(", "))
            }
            None => "it goes to its upstream".into(),
        }
    }

    fn name_violations(&self, found: Violations) -> Vec<String> {
        found.iter().map(|(field, fault)| format!("{} is {}", self.live.names.name(field), fault.as_str())).collect()
    }
}

/// A call, as what counts it sees it.
struct Limits<'c, 'r> {
    head: &'c Head<'r>,
    route: u16,
    own_rate: Option<Rate>,
    owner: &'c Owner,
    /// The key of its session, and what is known of it if the call is forwarded.
    session: Option<(SessionKey, Option<&'c Session>)>,
}
