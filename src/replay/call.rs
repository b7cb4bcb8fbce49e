//! A recorded call, read once: what the rules that need no memory make of it, and what those need that have one.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, Method, Uri, Version};
use serde_json::json;

use super::verdict::{Gap, Old, Origin};
use crate::config::Snapshot;
use crate::policy::call::Routed;
use crate::policy::claims::{ClaimRules, Claims};
use crate::policy::clients::Registered;
use crate::policy::flow::Outcome;
use crate::policy::head::{Head, RawHead};
use crate::policy::ids::SessionKey;
use crate::policy::method::Verb;
use crate::policy::rejection::Rejection;
use crate::policy::route::Action;
use crate::policy::time::Timestamp;
use crate::policy::violation::Field;
use crate::telemetry::record::PATH_MAX;
use crate::trail::line::{Line, Verdict};
use crate::trail::record::TEXT_MAX;

/// What stands in a recorded path in place of the session-id.
const MASKED: &str = "{session-id}";

/// Most callers that are kept: pairs of client and scopes.
const CALLERS_MAX: usize = 100_000;

/// Most names that are kept.
const NAMES_MAX: usize = 100_000;

/// A recorded call.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// When it began.
    pub time: Timestamp,
    /// Its number in its session.
    pub number: u32,
    /// Its session, if that was known.
    pub session: Option<SessionKey>,
    /// Its request id.
    pub request: Box<str>,
    /// Its client; empty if it was not proven who called.
    pub client: Arc<str>,
    /// The method.
    pub verb: Option<Verb>,
    /// The route that it had.
    pub route: Arc<str>,
    /// What became of it.
    pub old: Old,
    pub(super) now: Stateless,
    pub(super) facts: Facts,
}

/// What the rules that need no memory make of a call.
#[derive(Debug, Clone)]
pub(super) enum Stateless {
    /// They refuse it.
    Refused(Rejection),
    /// They let it pass.
    Passed(Passed),
    /// No rule of a configuration is asked about it, or only after something else that decides.
    AsRecorded,
    /// The old rules refused it before it was known who called; the new ones do not.
    Released,
    /// The record does not say enough.
    Unknown(Gap),
}

/// A call that the rules which need no memory let pass.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    /// Number of the new route.
    pub route: u16,
    pub verb: Verb,
    /// Who calls; none where nobody is asked.
    pub caller: Option<Arc<Registered>>,
}

/// What was recorded of a call beside what the rules ask about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub has_key: bool,
    /// Whether an upstream was chosen.
    pub forwarded: bool,
    /// When its outcome was known, in milliseconds after its beginning.
    pub answered_after: u64,
    pub outcome: Outcome,
    pub bytes: u64,
}

/// Reads records, with the new configuration at hand.
#[derive(Debug)]
pub struct Reader {
    live: Arc<Snapshot>,
    callers: HashMap<Arc<str>, HashMap<Box<str>, Arc<Registered>>>,
    kept: usize,
    names: HashMap<Box<str>, Arc<str>>,
    no_fields: HeaderMap,
    target: String,
}

impl Reader {
    /// A reader for this configuration.
    #[must_use]
    pub fn new(live: Arc<Snapshot>) -> Self {
        let (callers, names, no_fields) = (HashMap::new(), HashMap::new(), HeaderMap::new());
        Self { live, callers, kept: 0, names, no_fields, target: String::new() }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Gap::Time`], [`Gap::Code`]: it cannot be placed among the others.
    pub fn read(&mut self, line: &Line<'_>) -> Result<Recorded, Gap> {
        let time = line.moment().and_then(|moment| u64::try_from(moment.as_millisecond()).ok()).ok_or(Gap::Time)?;
        let old = Old::of(line, |name| self.name(name)).ok_or(Gap::Code)?;
        let facts = Facts {
            has_key: line.headers.contains(Field::IdempotencyKey),
            forwarded: forwarded(line),
            answered_after: line.first_byte_us.map_or(line.total_us, u64::from) / 1000,
            outcome: outcome(line),
            bytes: line.bytes_in.saturating_add(line.bytes_out),
        };
        Ok(Recorded {
            time: Timestamp::from_millis(time),
            number: line.number,
            session: SessionKey::parse(&line.session).ok(),
            request: (&*line.request_id).into(),
            client: self.name(&line.client),
            verb: Verb::named(&line.method),
            route: self.name(&line.route),
            now: self.judge(line, &old),
            old,
            facts,
        })
    }

    fn judge(&mut self, line: &Line<'_>, old: &Old) -> Stateless {
        let Some(verb) = Verb::named(&line.method).filter(|_| !line.path.is_empty()) else {
            // Its head was refused: that is no matter of routes.
            return if old.is_refused() { Stateless::AsRecorded } else { Stateless::Unknown(Gap::Path) };
        };
        if old.origin() == Origin::Head || is_preflight(line, verb) {
            return Stateless::AsRecorded;
        }
        if line.path.len() >= PATH_MAX || line.scope.len() >= TEXT_MAX {
            return Stateless::Unknown(Gap::Cut);
        }
        let live = Arc::clone(&self.live);
        let method = Method::from_bytes(verb.as_str().as_bytes()).unwrap_or_default();
        let Some(uri) = self.uri(line) else { return Stateless::Unknown(Gap::Path) };
        let has_body = line.body || line.bytes_in > 0;
        let raw = RawHead {
            method: &method,
            uri: &uri,
            version: if line.host.is_empty() { Version::HTTP_10 } else { Version::HTTP_2 },
            headers: &self.no_fields,
            protocol: None,
            has_body,
            trusted_peer: false,
        };
        let routed = match Head::parse(raw, &live.names, &live.via).map(|head| Routed::find(&live.routes, &head)) {
            Ok(Ok(routed)) => routed,
            Ok(Err(rejection)) => return Stateless::Refused(rejection),
            Err(_) => return Stateless::Unknown(Gap::Path),
        };
        if old.origin() == Origin::Body && !forwarded(line) {
            return Stateless::AsRecorded;
        }
        let (route, number) = (routed.route(), routed.number());
        if routed.exempt().is_some() || route.action == Action::KeySet {
            return Stateless::Passed(Passed { route: number, verb, caller: None });
        }
        let create = route.action == Action::Session && verb == Verb::Post;
        let presence = route.headers.check_presence(|field| line.headers.contains(field), has_body, create);
        if let Err(rejection) = presence {
            return Stateless::Refused(rejection);
        }
        match old.origin() {
            Origin::Values => return Stateless::Unknown(Gap::Values),
            // Presence explains these only if a field was missing.
            Origin::Media(field) if line.headers.contains(field) => return Stateless::Unknown(Gap::Values),
            Origin::Token => return Stateless::AsRecorded,
            Origin::Rules | Origin::Media(_) if line.client.is_empty() => return Stateless::Released,
            _ if line.client.is_empty() => return Stateless::Unknown(Gap::Caller),
            _ => {}
        }
        let Some(caller) = self.caller(&live, &line.client, &line.scope) else {
            return Stateless::Unknown(Gap::Caller);
        };
        if !caller.is_allowed() {
            return Stateless::Refused(Rejection::ClientNotAllowed);
        }
        if !route.scopes.admits(caller.caller().scopes()) {
            return Stateless::Refused(Rejection::ScopeInsufficient);
        }
        Stateless::Passed(Passed { route: number, verb, caller: Some(caller) })
    }

    /// The target of a call, as over HTTP/2, where it says the host, too.
    fn uri(&mut self, line: &Line<'_>) -> Option<Uri> {
        self.target.clear();
        if !line.host.is_empty() {
            self.target.push_str("http://");
            self.target.push_str(&line.host);
        }
        match line.path.contains(MASKED) {
            true => self.target.push_str(&line.path.replace(MASKED, "00000000-0000-4000-8000-000000000000")),
            false => self.target.push_str(&line.path),
        }
        self.target.parse().ok()
    }

    /// Who calls, as the registry has it: the caller of a token that says the same.
    fn caller(&mut self, live: &Snapshot, client: &str, scope: &str) -> Option<Arc<Registered>> {
        if let Some(known) = self.callers.get(client).and_then(|scopes| scopes.get(scope)) {
            return Some(Arc::clone(known));
        }
        let claims = Claims::read(&json!({ "client_id": client, "scope": scope, "exp": 0 }).to_string()).ok()?;
        let caller = claims.caller(&ClaimRules::default(), live.auth.scopes(), |text| text.into()).ok()?;
        let registered = Arc::new(live.register(Arc::new(caller)));
        if self.kept < CALLERS_MAX {
            self.kept += 1;
            let client = self.name(client);
            self.callers.entry(client).or_default().insert(scope.into(), Arc::clone(&registered));
        }
        Some(registered)
    }

    /// One copy of a name that many records have.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = name.into();
        if self.names.len() < NAMES_MAX {
            self.names.insert(name.into(), Arc::clone(&shared));
        }
        shared
    }
}

fn forwarded(line: &Line<'_>) -> bool {
    line.upstream != "-" && !line.upstream.is_empty()
}

/// Whether the gate answered a question of a browser, which it does before it asks any rule of a route.
fn is_preflight(line: &Line<'_>, verb: Verb) -> bool {
    verb == Verb::Options && line.verdict == Verdict::Admitted && line.client.is_empty() && !forwarded(line)
}

/// What became of a step: as recorded, or else what the answer says to a step of the new rules that was none of the old.
fn outcome(line: &Line<'_>) -> Outcome {
    let recorded = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == line.step_outcome);
    recorded.unwrap_or_else(|| match (line.verdict, &*line.code) {
        // The client left before an answer came.
        (Verdict::Admitted, _) if line.status == 0 => Outcome::Indeterminate,
        (Verdict::Admitted, _) => Outcome::of_status(line.status),
        (Verdict::Refused, "upstream-failed" | "upstream-timeout") => Outcome::Indeterminate,
        (Verdict::Refused, "request-too-large" | "request-timeout") => Outcome::RolledBack,
        (Verdict::Refused, _) => Outcome::Unsent,
    })
}
