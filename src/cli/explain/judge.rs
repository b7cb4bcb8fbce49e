//! Takes a call through the stages of the gate and notes what each one says.

use std::sync::Arc;

use http::header::HeaderMap;
use http::{Method, Uri, Version};
use serde::Serialize;
use sessiongate::config::Snapshot;
use sessiongate::policy::binding::{Binding, Possession};
use sessiongate::policy::call::{Identified, Routed};
use sessiongate::policy::claims::Caller;
use sessiongate::policy::clients::Registered;
use sessiongate::policy::credentials::{Presented, Scheme};
use sessiongate::policy::fields::Role;
use sessiongate::policy::flow::{Flow, StepSet};
use sessiongate::policy::head::{Head, RawHead};
use sessiongate::policy::method::Verb;
use sessiongate::policy::rates::{Per, Rate, RuleId};
use sessiongate::policy::rejection::{Rejection, Why};
use sessiongate::policy::route::{Action, Route};
use sessiongate::policy::severity::Severity;
use sessiongate::policy::time::Now;
use sessiongate::policy::violation::Violations;

/// The call that is asked about.
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path and query.
    pub uri: &'a Uri,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Whether a body follows.
    pub has_body: bool,
}

/// What the gate would say, and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The method.
    pub method: String,
    /// The path without its query, which may hold secrets.
    pub path: String,
    /// The stages, in the order of the gate; those behind a refusal are not reached.
    pub stages: Vec<Stage>,
    /// What comes out.
    pub verdict: Verdict,
}

/// One stage.
#[derive(Debug, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub result: Said,
    /// What it saw. Tokens and session-ids are not in here.
    pub facts: Vec<String>,
}

/// What a stage says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The call goes on.
    Passed,
    /// The call ends here.
    Refused,
    /// Only a running gate can tell.
    NeedsGate,
}

/// What comes out.
#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It goes on.
    Admitted {
        /// What happens then.
        then: String,
    },
    /// It goes on if the session is live and the caller's.
    AdmittedInSession {
        /// What happens then.
        then: String,
    },
    /// Only the running gate can tell whose token it is.
    NeedsGate {
        /// What it knows that is not known here.
        what: String,
    },
    /// It is refused.
    Refused {
        /// The status of the answer.
        status: u16,
        /// The problem code.
        code: &'static str,
        /// The finest reason that the log shows.
        reason: &'static str,
        /// What would change it.
        remedy: &'static str,
    },
}

/// Explains a call at a moment.
pub fn explain(live: &Snapshot, asked: &Asked<'_>, now: Now) -> Explanation {
    let mut stages = Vec::new();
    let verdict = Judge { live, asked, now, stages: &mut stages }.judge().unwrap_or_else(|refusal| refusal);
    Explanation { method: asked.method.to_string(), path: asked.uri.path().to_owned(), stages, verdict }
}

struct Judge<'a> {
    live: &'a Snapshot,
    asked: &'a Asked<'a>,
    now: Now,
    stages: &'a mut Vec<Stage>,
}

impl Judge<'_> {
    /// The straight line of `Gate::admit`, up to the store.
    fn judge(&mut self) -> Result<Verdict, Verdict> {
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

        let caller = live.auth.identify(presented.token());
        if let Err(Rejection::IssuerUnavailable(_)) = caller {
            let facts = vec!["its issuer is asked about it, by the running gate".into()];
            self.stages.push(Stage { name: "token", result: Said::NeedsGate, facts });
            return Ok(Verdict::NeedsGate { what: "what the issuer of the token says".into() });
        }
        let caller = caller.map_err(|rejection| self.refuse("token", rejection, vec![], vec![]))?;
        let registered = match &live.clients {
            Some(registry) => registry.clients().register(Arc::clone(&caller), live.auth.scopes()),
            None => Registered::unlisted(Arc::clone(&caller)),
        };
        let may_use = Arc::clone(registered.caller().scope());
        let own_rate = registered.rate();
        let possession = supposed(&caller, presented.scheme());
        let identified = Identified::new(routed, &presented, registered, possession, self.now);
        self.split(route, &presented, &caller, &may_use, identified.err())?;

        let limits = self.about_limits(routed.number(), own_rate, presented.session().is_some() && !at_endpoint);
        let Some(id) = presented.session() else {
            self.count(limits);
            self.pass("session", vec!["this call opens one".into()]);
            return Ok(Verdict::Admitted { then: "a session is opened".into() });
        };
        let facts = vec![
            format!("session key {}", id.key()),
            "whether it is live and the caller's: needs the running gate".into(),
        ];
        self.stages.push(Stage { name: "session", result: Said::NeedsGate, facts });
        if !(at_endpoint && head.verb() == Verb::Delete) {
            self.count(limits);
        }
        let then = match (at_endpoint, head.verb()) {
            (true, Verb::Delete) => "it is closed".into(),
            (true, _) => "its state is shown".into(),
            (false, _) => self.goes_to(route),
        };
        Ok(Verdict::AdmittedInSession { then })
    }

    /// Shows times, client and scopes as the stages they are; one constructor has judged all three.
    fn split(
        &mut self,
        route: &Route,
        presented: &Presented<'_>,
        caller: &Caller,
        may_use: &str,
        refused: Option<Rejection>,
    ) -> Result<(), Verdict> {
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
        Ok(())
    }

    /// The rules that count such a call. What is left of them is known to the running gate only.
    fn about_limits(&self, route: u16, own: Option<Rate>, forwarded: bool) -> Vec<String> {
        let said = |name: &str, per: &str, rate: Rate, severity: Severity| {
            let (burst, secs) = (rate.burst(), rate.full_in().as_secs_f64());
            format!("{name} ({}): {burst} calls at once {per}, as many again in {secs} s", severity.as_str())
        };
        let own = own.map(|rate| said(RuleId::OWN_RATE, "for the client", rate, Severity::Enforce));
        let rules = self.live.rates.of(route).map(|(_, rule)| {
            let per = match rule.per {
                Per::Session => "for a session",
                Per::Client => "for a client without a rate of its own",
                Per::Address => "from an address",
                Per::Route => "on the route",
                Per::All => "in all",
            };
            said(&rule.name, per, rule.rate, rule.severity)
        });
        let mut facts: Vec<_> = own.into_iter().chain(rules).collect();
        if let Some(budget) = self.live.sessions.budget.filter(|_| forwarded) {
            let calls = budget.calls.map(|most| format!("{most} calls"));
            let bytes = budget.bytes.map(|most| format!("{most} bytes"));
            let most: Vec<_> = calls.into_iter().chain(bytes).collect();
            facts.push(format!("{} ({}): {}", RuleId::BUDGET, budget.severity.as_str(), most.join(" and ")));
        }
        facts
    }

    fn count(&mut self, mut facts: Vec<String>) {
        if !facts.is_empty() {
            facts.push("what is left of them: needs the running gate".into());
            self.stages.push(Stage { name: "limits", result: Said::NeedsGate, facts });
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

fn needs(route: &Route) -> Option<String> {
    let which = match (route.scopes.any.is_empty(), route.scopes.text.contains(' ')) {
        (false, _) => "one of ",
        (true, true) => "all of ",
        (true, false) => "",
    };
    (!route.scopes.text.is_empty()).then(|| format!("the route needs {which}{}", quoted(&route.scopes.text)))
}

/// What the call is in a flow, for the sessions that follow it.
fn is_step(flow: &Flow, route: &Route, verb: Verb) -> Option<String> {
    let step = flow.step(flow.step_of(&route.name, verb)?)?;
    let names = |steps: StepSet| steps.iter().map(|step| flow.step_name(step).to_owned()).collect::<Vec<_>>();
    let after = [(" and ", names(step.after_all)), (" or ", names(step.after_any))];
    let after = after.iter().filter(|(_, names)| !names.is_empty()).map(|(word, names)| names.join(word));
    let after: Vec<_> = after.collect();
    let order = if after.is_empty() { "at any time".to_owned() } else { format!("after {}", after.join(", and ")) };
    Some(format!("it is step {} of flow {}: {order}", step.name, flow.name()))
}

fn quoted(scopes: &str) -> String {
    if scopes.is_empty() { "no scope".into() } else { format!("scope \"{scopes}\"") }
}

/// What a running gate would have to be shown: here the proof and the certificate are taken to be good.
fn supposed(caller: &Caller, scheme: Scheme) -> Possession {
    let binding = caller.binding();
    Possession {
        key: binding.and_then(Binding::key).filter(|_| scheme == Scheme::Dpop),
        certificate: binding.and_then(Binding::certificate),
    }
}

const fn explain_why(why: Why) -> &'static str {
    match why {
        Why::Shape => "this is not a signed JSON Web Token",
        Why::Algorithm => "no key of the issuer verifies this algorithm",
        Why::Critical => "its header demands an extension that is not known (crit)",
        Why::Type => "its header does not say that it is an access token (typ)",
        Why::UnknownKey => "the issuer has no key with this kid",
        Why::Signature => "the signature does not match: another key signed it, or it was changed",
        Why::Issuer => "no configured issuer has this iss",
        Why::Audience => "aud names none of the configured audiences",
        Why::Claims => "a claim is missing or has the wrong type: exp and a client claim must be there",
        Why::Inactive => "its issuer says that it is not active",
        Why::Expired => "it has expired",
        Why::NotYetValid => "it is not valid yet (nbf)",
        Why::Confirmation => "it is bound to something that cannot be verified (cnf)",
        Why::Unbound => "it is not bound as its issuer or the route demands (cnf), or DPoP is the wrong scheme for it",
        Why::Downgraded => "it is bound to a key (cnf.jkt), so it goes with the scheme DPoP and a proof",
        Why::Certificate => "the connection does not show the certificate it is bound to (cnf.x5t#S256)",
        Why::Proof(_) => "its proof is wrong (DPoP)",
    }
}

#[cfg(test)]
mod tests;
