//! What stages saw, in words. Tokens and session-ids never come here.

use std::time::Duration;

use crate::policy::binding::{Binding, Possession};
use crate::policy::claims::Caller;
use crate::policy::credentials::Scheme;
use crate::policy::flow::{Attempt, Denial, Flow, Step, StepSet, Steps};
use crate::policy::ids::Owner;
use crate::policy::method::Verb;
use crate::policy::rejection::Why;
use crate::policy::route::Route;
use crate::policy::session::Session;
use crate::policy::time::Now;

pub(super) fn needs(route: &Route) -> Option<String> {
    let which = match (route.scopes.any.is_empty(), route.scopes.text.contains(' ')) {
        (false, _) => "one of ",
        (true, true) => "all of ",
        (true, false) => "",
    };
    (!route.scopes.text.is_empty()).then(|| format!("the route needs {which}{}", quoted(&route.scopes.text)))
}

/// What the call is in a flow, for the sessions that follow it.
pub(super) fn is_step(flow: &Flow, route: &Route, verb: Verb) -> Option<String> {
    let step = flow.step(flow.step_of(&route.name, verb)?)?;
    let names = |steps: StepSet| steps.iter().map(|step| flow.step_name(step).to_owned()).collect::<Vec<_>>();
    let after = [(" and ", names(step.after_all)), (" or ", names(step.after_any))];
    let after = after.iter().filter(|(_, names)| !names.is_empty()).map(|(word, names)| names.join(word));
    let after: Vec<_> = after.collect();
    let order = if after.is_empty() { "at any time".to_owned() } else { format!("after {}", after.join(", and ")) };
    Some(format!("it is step {} of flow {}: {order}", step.name, flow.name()))
}

pub(super) fn quoted(scopes: &str) -> String {
    if scopes.is_empty() { "no scope".into() } else { format!("scope \"{scopes}\"") }
}

/// What a running gate would have to be shown: here the proof and the certificate are taken to be good.
pub(super) fn supposed(caller: &Caller, scheme: Scheme) -> Possession {
    let binding = caller.binding();
    Possession {
        key: binding.and_then(Binding::key).filter(|_| scheme == Scheme::Dpop),
        certificate: binding.and_then(Binding::certificate),
    }
}

pub(super) const fn explain_why(why: Why) -> &'static str {
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

/// When a session was opened and used, and when it ends.
pub(super) fn about_session(session: &Session, now: Now) -> Vec<String> {
    let ago = |time| whole(now.steady.since(time));
    let state = session.standing(now.steady).as_str();
    let lives = match session.expires_in(now.steady) {
        0 => format!("it is {state}"),
        left => format!("it is {state}; without another call it ends in {}", whole(Duration::from_secs(left))),
    };
    vec![
        format!("session key {}", session.key()),
        format!(
            "opened {} ago, last call {} ago, {} calls",
            ago(session.opened()),
            ago(session.last_seen()),
            session.calls()
        ),
        lives,
    ]
}

/// Whose the session is, for a caller whose it is not.
pub(super) fn other_owner(owner: &Owner, caller: &Owner) -> String {
    let said = |text: Option<&str>| text.map_or_else(|| "none".to_owned(), ToOwned::to_owned);
    let parts = [
        ("client", said(Some(owner.client.as_str())), said(Some(caller.client.as_str()))),
        ("subject", said(owner.subject.as_deref()), said(caller.subject.as_deref())),
        ("issuer", said(owner.issuer.as_deref()), said(caller.issuer.as_deref())),
    ];
    let differ = parts.iter().filter(|(_, its, callers)| its != callers);
    let differ: Vec<_> = differ.map(|(what, its, callers)| format!("{what} {its}, and not {callers}")).collect();
    match differ.is_empty() {
        true => "it is bound to another key than the token".into(),
        false => format!("it belongs to {}", differ.join("; ")),
    }
}

/// Where a session stands in its flow, before a call that is a step of it.
pub(super) fn about_step(flow: &Flow, steps: &Steps, attempt: Attempt, since: Duration) -> Vec<String> {
    let mut facts = vec![format!("it is step {} of flow {}", flow.step_name(attempt.step), flow.name())];
    let sets = [("done", steps.done()), ("running", steps.running()), ("with an unknown outcome", steps.unknown())];
    let sets = sets.into_iter().filter(|(_, set)| !set.is_empty());
    facts.extend(sets.map(|(what, set)| format!("{what}: {}", names(flow, set))));
    facts.push(match steps.last() {
        None => "no step was done yet".into(),
        Some(last) => {
            let ago = whole(since.saturating_sub(steps.last_at()));
            format!("the last one was {}, {ago} ago", flow.step_name(last))
        }
    });
    facts
}

/// Which rule speaks against a step, and what would have to be.
pub(super) fn about_denial(flow: &Flow, steps: &Steps, step: &Step, denial: Denial, since: Duration) -> String {
    let gap = whole(since.saturating_sub(steps.last_at()));
    let span = |limit: Option<Duration>| whole(limit.unwrap_or_default());
    let why = match denial {
        Denial::KeyMissing => "it needs an Idempotency-Key, and the call has none".to_owned(),
        Denial::Over => "the last step of the flow was done".into(),
        Denial::Order => {
            let missing: StepSet = step.after_all.iter().filter(|before| !steps.done().contains(*before)).collect();
            let all = (!missing.is_empty()).then(|| format!("not done yet: {}", names(flow, missing)));
            let any = !step.after_any.is_empty() && !step.after_any.meets(steps.done());
            let any = any.then(|| format!("none of these was done: {}", names(flow, step.after_any)));
            all.into_iter().chain(any).collect::<Vec<_>>().join("; ")
        }
        Denial::Repeat => "it was done, and may be done once".into(),
        Denial::InProgress => "it runs, or a step that must be alone does".into(),
        Denial::Indeterminate => "nobody knows what came of an earlier call; only that call may come again".into(),
        Denial::Attempts => format!("it was tried {} times", steps.attempts(step).unwrap_or_default()),
        Denial::TooEarly(wait) => {
            format!("{gap} after the step before, and not {}; in {} s it may", span(step.min_gap), wait.0)
        }
        Denial::TooLate => format!("{gap} after the step before, and {} at most", span(step.max_gap)),
    };
    format!("rule {}: {why}", denial.as_str())
}

/// The names of steps.
pub(super) fn names(flow: &Flow, steps: StepSet) -> String {
    steps.iter().map(|step| flow.step_name(step)).collect::<Vec<_>>().join(", ")
}

/// A span in whole seconds, for people.
pub(super) fn whole(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}
