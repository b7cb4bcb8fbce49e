//! Plays a scenario: the gate's own line from head to admission, with a time that passes only as the file says, and an
//! upstream that answers as the file says.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, StatusCode, Version};
use serde_json::{Value, json};
use sessiongate::auth::keys::VerificationKey;
use sessiongate::auth::{Authenticator, CACHE_CAPACITY, Issuer};
use sessiongate::clock::Clock;
use sessiongate::config::Snapshot;
use sessiongate::explain::{self, Asked, Explanation, InSession, Verdict};
use sessiongate::gate::idempotency::Printer;
use sessiongate::gate::memo::TokenMemo;
use sessiongate::gate::settle::{Hold, Repeated};
use sessiongate::gate::{Admission, Gate, Known};
use sessiongate::policy::call::Passage;
use sessiongate::policy::claims::{ClaimRules, ScopeClaim};
use sessiongate::policy::flow::Outcome;
use sessiongate::policy::head::{Head, RawHead, Sender};
use sessiongate::policy::ids::SessionId;
use sessiongate::policy::rejection::{Rejection, Wait};
use sessiongate::policy::target::SESSION_PATH;
use sessiongate::policy::time::{Now, Timestamp};
use sessiongate::policy::violation::Field;
use sessiongate::store::answers::Kept;
use sessiongate::store::memory::MemoryStore;
use sessiongate::store::{AnyStore, SessionStore};

use super::file::Answer;
use super::{Call, Fields, Mismatch, Scenario, Who};
use crate::cli::failure::Failure;
use crate::cli::token;

/// The key of all tokens here. It opens nothing: no gate knows it.
const KEY: &[u8] = b"sessiongate test, known to no one";

/// When every scenario begins: 2026-01-01T00:00:00Z.
const BEGINNING: Timestamp = Timestamp::from_secs(1_767_225_600);

/// How long tokens are good, in seconds. Each call brings a new one.
const TOKEN_LIFE: u64 = 300;

/// Where calls come from (RFC 5737).
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The client where nobody names one and there is no registry.
const CLIENT: &str = "test";

/// A configuration whose tokens are made here. What its first issuer demands of them holds, but for what they are bound to.
///
/// # Errors
/// [`Failure::Runtime`] if the key is none.
pub fn live(live: Snapshot) -> Result<Snapshot, Failure> {
    let key =
        VerificationKey::from_secret(KEY, None, &[]).map_err(|error| Failure::runtime("cannot make a key", error))?;
    let rules = live.auth.issuers().first().map(|issuer| issuer.claims.clone()).unwrap_or_default();
    let issuer = Issuer::with_keys("test", ClaimRules { sender: None, ..rules }, vec![key]);
    let auth = Authenticator::new(vec![issuer], live.auth.scopes().clone(), CACHE_CAPACITY);
    Ok(Snapshot { auth, ..live })
}

impl Answer {
    /// What the client is told in its place.
    pub const fn rejection(self) -> Option<Rejection> {
        match self {
            Self::Status(_) => None,
            Self::Timeout => Some(Rejection::UpstreamTimeout),
            Self::Reset => Some(Rejection::UpstreamFailed),
            Self::Unreachable => Some(Rejection::UpstreamUnavailable(Wait(1))),
        }
    }

    const fn outcome(self) -> Outcome {
        match self {
            Self::Status(status) => Outcome::of_status(status),
            Self::Timeout | Self::Reset => Outcome::Indeterminate,
            Self::Unreachable => Outcome::Unsent,
        }
    }
}

/// What came of a call.
#[derive(Default)]
struct Got {
    refusal: Option<Rejection>,
    replayed: bool,
    /// Where the session stood afterwards.
    session: Option<State>,
    why: Vec<String>,
}

struct State {
    name: &'static str,
    step: Option<String>,
    allowed_next: Vec<String>,
}

/// A request, ready to be sent.
struct Request<'c> {
    method: &'c Method,
    uri: &'c http::Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A gate and the time of one scenario.
pub struct Player<'a> {
    live: &'a Snapshot,
    scenario: &'a Scenario,
    gate: Gate,
    now: Now,
    /// The session of the calls: the one that was opened last.
    session: Option<SessionId>,
    client: String,
}

impl<'a> Player<'a> {
    /// A player with a gate of its own.
    pub fn new(live: &'a Snapshot, scenario: &'a Scenario) -> Self {
        let gate = Gate::new(AnyStore::Memory(MemoryStore::default()), Clock::default());
        let enabled = live.clients.as_ref().and_then(|registry| {
            let clients = registry.snapshot();
            clients.after(None).find(|(_, client)| client.enabled).map(|(id, _)| id.to_owned())
        });
        let client = enabled.unwrap_or_else(|| CLIENT.to_owned());
        Self { live, scenario, gate, now: Now { wall: BEGINNING, steady: BEGINNING }, session: None, client }
    }

    /// Plays the calls up to the first that is not as expected. A session is opened first, unless the scenario does so.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if a token cannot be made.
    pub async fn play(mut self) -> Result<Option<Mismatch>, Failure> {
        let opens = |call: &Call| call.method == Method::POST && call.uri.path() == SESSION_PATH;
        if let Some(first) = self.scenario.calls.first().filter(|call| !opens(call)) {
            let uri = http::Uri::from_static(SESSION_PATH);
            let request = self.request(&Method::POST, &uri, &Who::default(), None, &[])?;
            let got = self.make(&request, Answer::Status(200)).await;
            if let Some(refusal) = got.refusal {
                let what = format!("POST {SESSION_PATH}, which opens its session");
                let differences = vec![("ok".to_owned(), refused(refusal))];
                return Ok(Some(Mismatch { call: None, line: first.line, what, differences, why: got.why }));
            }
        }
        for (place, call) in self.scenario.calls.iter().enumerate() {
            self.now = Now { wall: self.now.wall.after(call.after), steady: self.now.steady.after(call.after) };
            let request = self.request(&call.method, &call.uri, &call.who, call.body.as_deref(), &call.headers)?;
            let got = self.make(&request, call.answer).await;
            let differences = compare(call, &got);
            if !differences.is_empty() {
                let what = format!("{} {}", call.method, call.uri.path());
                return Ok(Some(Mismatch { call: Some(place + 1), line: call.line, what, differences, why: got.why }));
            }
        }
        Ok(None)
    }

    /// The call with all fields that a well-behaved client sends, but for those that the file says otherwise.
    fn request<'c>(
        &self,
        method: &'c Method,
        uri: &'c http::Uri,
        who: &Who,
        body: Option<&str>,
        own: &[(http::HeaderName, Option<HeaderValue>)],
    ) -> Result<Request<'c>, Failure> {
        let names = &self.live.names;
        let at_endpoint = uri.path() == SESSION_PATH;
        let writes = matches!(*method, Method::POST | Method::PUT | Method::PATCH) && !at_endpoint;
        let body = body.unwrap_or(if writes { "{}" } else { "" });
        let client = who.client.as_ref().or(self.scenario.who.client.as_ref()).unwrap_or(&self.client);
        let bearer = format!("Bearer {}", self.token(client, who)?);
        let mut usual = vec![
            (header::HOST, "localhost".to_owned()),
            (names.name(Field::Authorization).clone(), bearer),
            (names.name(Field::ClientId).clone(), client.clone()),
            (names.name(Field::Correlation).clone(), "test".into()),
            (header::ACCEPT, "application/json".into()),
        ];
        if let Some(id) = self.session.filter(|_| !(at_endpoint && *method == Method::POST)) {
            usual.push((names.name(Field::SessionId).clone(), id.reveal()));
        }
        if !body.is_empty() {
            usual.push((header::CONTENT_TYPE, "application/json".into()));
            usual.push((header::CONTENT_LENGTH, body.len().to_string()));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in usual {
            let value = HeaderValue::try_from(value).map_err(|error| Failure::runtime("cannot make a call", error))?;
            headers.insert(name, value);
        }
        let written: &Fields = &self.scenario.headers;
        for (name, value) in written.iter().chain(own) {
            match value {
                Some(value) => _ = headers.insert(name.clone(), value.clone()),
                None => _ = headers.remove(name),
            }
        }
        Ok(Request { method, uri, headers, body: body.as_bytes().to_vec() })
    }

    /// A token of the scenario's client, as the issuer of the configuration would make it.
    fn token(&self, client: &str, who: &Who) -> Result<String, Failure> {
        let (scenario, rules) = (&self.scenario.who, self.live.auth.issuers().first().map(|issuer| &issuer.claims));
        let mut claims = serde_json::Map::new();
        let Some(rules) = rules else { return Err(Failure::Runtime("there is no issuer".into())) };
        claims.extend(rules.required.iter().map(|name| (name.to_string(), Value::from("test"))));
        claims.extend(rules.issuer.as_ref().map(|issuer| ("iss".to_owned(), json!(issuer))));
        claims.extend(rules.audiences.first().map(|audience| ("aud".to_owned(), json!(audience))));
        claims.extend(rules.client_claims.first().map(|claim| (claim.as_str().to_owned(), json!(client))));
        let scopes = match who.scopes.as_ref().or(scenario.scopes.as_ref()) {
            Some(scopes) => scopes.join(" "),
            None => self.all_scopes(),
        };
        let scope_claim = match rules.scope_claims.first() {
            Some(ScopeClaim::Scp) => "scp",
            Some(ScopeClaim::Scope) | None => "scope",
        };
        claims.insert(scope_claim.into(), scopes.into());
        let subject = who.subject.as_ref().or(scenario.subject.as_ref());
        claims.insert("sub".into(), subject.map_or("customer", String::as_str).into());
        claims.insert("iat".into(), self.now.wall.as_secs().into());
        claims.insert("exp".into(), (self.now.wall.as_secs() + TOKEN_LIFE).into());
        token::mint(KEY, claims)
    }

    /// All scopes that routes name.
    fn all_scopes(&self) -> String {
        let routes = self.live.routes.routes().iter();
        let scopes: std::collections::BTreeSet<&str> =
            routes.flat_map(|route| route.scopes.text.split_ascii_whitespace()).collect();
        scopes.into_iter().collect::<Vec<_>>().join(" ")
    }

    /// Makes a call.
    async fn make(&mut self, request: &Request<'_>, answer: Answer) -> Got {
        let explanation = self.explain(request).await;
        let mut got = Got::default();
        got.refusal = self.admit(request, answer, &mut got.replayed).await.err();
        got.why = why(explanation, got.refusal);
        let found = match self.session {
            Some(id) => self.gate.store().find(id.key()).await.ok().flatten(),
            None => None,
        };
        got.session = found.map(|session| {
            let (now, outlook) = (self.now.steady, session.outlook(self.now.steady));
            let (step, allowed_next) = outlook.map_or((None, vec![]), |(flow, steps, next)| {
                let name = |step| flow.step_name(step).to_owned();
                (steps.last().map(name), next.iter().map(name).collect())
            });
            State { name: session.standing(now).as_str(), step, allowed_next }
        });
        got
    }

    /// What the gate sees in a call, before it is made.
    async fn explain(&self, request: &Request<'_>) -> Explanation {
        let Request { method, uri, headers, body } = request;
        let session = match explain::session_id(self.live, headers) {
            Some(id) => InSession::Found(self.gate.store().find(id.key()).await.ok().flatten()),
            None => InSession::Unknown,
        };
        let asked = Asked { method, uri, headers, has_body: !body.is_empty(), address: Some(ADDRESS) };
        let known = explain::Known { session, limiter: Some(self.gate.limiter()), now: self.now };
        explain::explain(self.live, &asked, known)
    }

    async fn admit(&mut self, request: &Request<'_>, answer: Answer, replayed: &mut bool) -> Result<(), Rejection> {
        let (live, now, gate) = (self.live, self.now, &self.gate);
        let raw = RawHead {
            method: request.method,
            uri: request.uri,
            version: Version::HTTP_11,
            headers: &request.headers,
            protocol: None,
            has_body: !request.body.is_empty(),
            trusted_peer: false,
        };
        let sender = Sender { address: Some(ADDRESS), ..Sender::default() };
        let head = Head::parse(raw, &live.names, &live.via)?;
        let head = head.with_body_length(u64::try_from(request.body.len()).ok()).with_sender(sender);
        let mut known = Known::default();
        match gate.admit(live, &head, now, &TokenMemo::default(), &mut known).await? {
            Admission::Forward(passage, hold) => self.forward(request, &passage, hold, answer),
            Admission::Repeat(repeat) => {
                let print = fingerprint(request).finish();
                match gate.repeat(live, *repeat, print, now.steady, &mut known).await? {
                    Repeated::Replay(_) => {
                        *replayed = true;
                        Ok(())
                    }
                    Repeated::Forward(again) => self.forward(request, &again.0, Some(again.1), answer),
                }
            }
            Admission::Open(open) => {
                let opened = gate.open(&open, &request.body, live, now).await?;
                *replayed = opened.replayed;
                self.session = Some(opened.id);
                Ok(())
            }
            Admission::End(owned) => gate.close(&owned, now).await,
            Admission::Read(_) | Admission::KeySet => Ok(()),
        }
    }

    /// Sends a call to the upstream, which does as the file says.
    fn forward(
        &self,
        request: &Request<'_>,
        passage: &Passage<'_>,
        hold: Option<Hold<'_>>,
        answer: Answer,
    ) -> Result<(), Rejection> {
        let counts_bytes = self.live.sessions.budget.is_some_and(|budget| budget.bytes.is_some());
        if let Some(call) = passage.validated().filter(|_| counts_bytes) {
            call.session().spend(u64::try_from(request.body.len()).unwrap_or(u64::MAX));
        }
        if let Some(hold) = hold {
            let outcome = answer.outcome();
            if outcome != Outcome::Unsent {
                hold.sent().store(true, Ordering::Relaxed);
                if let Some(print) = hold.fingerprint() {
                    _ = print.set(fingerprint(request).finish());
                }
            }
            let (_, claim) = hold.settle(outcome, self.now.steady);
            if let (Some(claim), Answer::Status(status)) = (claim, answer) {
                let status = StatusCode::from_u16(status).unwrap_or_default();
                claim.keep(Kept { status, fields: Vec::new(), body: Default::default() });
            }
        }
        answer.rejection().map_or(Ok(()), Err)
    }
}

/// What the gate saw, where it explains what came: the stage that refused, or the order of steps, which let pass.
fn why(explanation: Explanation, refusal: Option<Rejection>) -> Vec<String> {
    let Explanation { stages, verdict, .. } = explanation;
    let Some(refusal) = refusal else {
        return stages.into_iter().find(|stage| stage.name == "step").map_or_else(Vec::new, |stage| stage.facts);
    };
    let row = refusal.row();
    let explained = matches!(verdict, Verdict::Refused { reason, .. } if reason == row.reason);
    let last = stages.into_iter().next_back().filter(|_| explained);
    last.into_iter().flat_map(|stage| stage.facts).chain([row.detail.to_owned()]).collect()
}

fn fingerprint(request: &Request<'_>) -> Printer {
    let target = request.uri.path_and_query().map_or("", |target| target.as_str());
    let mut printer = Printer::of(request.method, target);
    printer.body(&request.body);
    printer
}

/// A refusal as it is shown: code and reason.
fn refused(rejection: Rejection) -> String {
    format!("{} ({})", rejection.code(), rejection.row().reason)
}

/// What is not as expected, and what is there instead.
fn compare(call: &Call, got: &Got) -> Vec<(String, String)> {
    let expect = &call.expect;
    let mut differences = Vec::new();
    let same = got.refusal.map(Rejection::code) == expect.code
        && expect.reason.is_none_or(|reason| got.refusal.is_some_and(|refusal| refusal.row().reason == reason));
    if !same {
        let expected = match (expect.code, expect.reason) {
            (None, _) => "ok".to_owned(),
            (Some(code), None) => code.to_owned(),
            (Some(code), Some(reason)) => format!("{code} ({reason})"),
        };
        differences.push((expected, got.refusal.map_or_else(|| "ok".to_owned(), refused)));
    }
    let mut differ = |what: &str, expected: String, got: String| {
        if expected != got {
            differences.push((format!("{what} {expected}"), format!("{what} {got}")));
        }
    };
    if let Some(replayed) = expect.replayed {
        differ("replayed", replayed.to_string(), got.replayed.to_string());
    }
    let state = got.session.as_ref();
    let shown = |step: Option<&String>| step.map_or_else(|| "none".to_owned(), Clone::clone);
    if let Some(step) = &expect.step {
        differ("step", shown(step.as_ref()), shown(state.and_then(|state| state.step.as_ref())));
    }
    if let Some(expected) = &expect.allowed_next {
        let list = |steps: &[String]| {
            let mut steps = steps.to_vec();
            steps.sort_unstable();
            format!("[{}]", steps.join(", "))
        };
        differ("allowed_next", list(expected), list(state.map_or(&[], |state| &state.allowed_next)));
    }
    if let Some(expected) = &expect.session {
        differ("session", expected.clone(), state.map_or("none", |state| state.name).to_owned());
    }
    differences
}
