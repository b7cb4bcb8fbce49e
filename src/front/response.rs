//! What every answer carries, ours and the upstream's, and what never leaves with one.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};

use super::body::Answer;
use super::connection::Scope;
use super::grpc;
use super::prepared::Prepared;
use super::problem::{self, Details};
use super::rates;
use super::session::{Outcome, REPLAYED};
use crate::gate::Known;
use crate::policy::binding::SenderConstraint;
use crate::policy::credentials::Scheme;
use crate::policy::fields::FieldNames;
use crate::policy::grpc::is_grpc;
use crate::policy::ids::SessionId;
use crate::policy::rejection::{Rejection, Why};
use crate::policy::route::Route;
use crate::policy::session::Session;
use crate::policy::severity::Severity;
use crate::policy::time::Timestamp;
use crate::policy::violation::{Fault, Field};
use crate::store::answers::Kept;
use crate::telemetry::record::CallRecord;
use crate::upstream::forward::REQUEST_ID;

pub(super) const EXPIRES_IN: HeaderName = HeaderName::from_static("session-expires-in");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const WARNED: HeaderName = HeaderName::from_static("x-sg-warning");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Adds the ids of the call and, for its owner, the session and its remaining time.
pub(super) fn add_ids(
    fields: &mut HeaderMap,
    names: &FieldNames,
    record: &CallRecord,
    session: Option<(&Session, HeaderValue)>,
    now: Timestamp,
) {
    fields.insert(REQUEST_ID, record.request_id.clone());
    fields.insert(names.name(Field::Correlation), record.correlation.clone());
    if let Some((session, id)) = session {
        fields.insert(names.name(Field::SessionId), id);
        fields.insert(EXPIRES_IN, HeaderValue::from(session.expires_in(now)));
    }
    let step = record.step.and_then(|step| step.broken).filter(|(_, severity)| *severity == Severity::Warn);
    if !record.observed.warned.is_empty() || step.is_some() {
        let named = record.observed.warned.iter();
        let named = named.map(|(field, fault)| format!("{} {}", names.name(field), fault.as_str()));
        let list: Vec<_> = named.chain(step.map(|(denial, _)| format!("step {}", denial.as_str()))).collect();
        if let Ok(value) = HeaderValue::try_from(list.join(", ")) {
            fields.insert(WARNED, value);
        }
    }
}

/// The id as a field value, lower case.
pub(super) fn session_value(id: SessionId) -> HeaderValue {
    let mut text = [0; SessionId::TEXT_LEN];
    HeaderValue::from_str(id.write(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// How a client reads a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// As a problem (RFC 9457).
    Http,
    /// As trailers.
    Grpc,
}

/// The dialect of a message with these fields over HTTP/2.
pub(super) fn dialect(fields: &HeaderMap) -> Dialect {
    let is_grpc = fields.get(header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()));
    if is_grpc { Dialect::Grpc } else { Dialect::Http }
}

/// A refusal.
pub(super) fn refuse(
    scope: &Scope,
    rejection: Rejection,
    dialect: Dialect,
    mut record: Box<CallRecord>,
    known: &Known,
    now: Timestamp,
) -> Response<Answer> {
    let prepared = &scope.prepared;
    let live = &prepared.snapshot;
    let template = &prepared.problems[rejection.index()];
    record.rejection = Some(rejection);
    record.status = template.status.as_u16();
    if record.admitted.is_none() {
        record.admitted = Some(record.elapsed());
    }
    // A token that is no good any more proves no owner.
    let session = known.session.as_deref().filter(|_| !matches!(rejection, Rejection::TokenInvalid(_)));
    let mut fields = HeaderMap::with_capacity(16);
    let (status, body) = match dialect {
        Dialect::Http => {
            fields.insert(header::CONTENT_TYPE, PROBLEM_JSON);
            let body = template.render(&Details {
                rejection,
                request_id: record.request_id(),
                correlation_id: record.correlation.to_str().unwrap_or_default(),
                names: &live.names,
                session: session.map(|session| (session, now)),
            });
            (template.status, body)
        }
        Dialect::Grpc => {
            fields.insert(header::CONTENT_TYPE, grpc::GRPC);
            template.grpc.write(rejection, &live.names, &mut fields);
            (StatusCode::OK, String::new())
        }
    };
    fields.insert(header::CACHE_CONTROL, NO_STORE);
    fields.insert(PROXY_STATUS, template.proxy_status.clone());
    let route = known.route.and_then(|number| live.routes.routes().get(usize::from(number)));
    let scheme = challenged(route, live.auth.demands_proofs(), rejection, known);
    let challenge = match rejection {
        Rejection::ScopeInsufficient => {
            route.and_then(|route| problem::scope_challenge(scheme, &route.scopes.text, template.status))
        }
        // RFC 6750 section 3 is about the token only; a 401 has a challenge in any case.
        Rejection::HeaderRepeated(found)
            if !found.contains(Field::Authorization, Fault::Repeated) && status != StatusCode::UNAUTHORIZED =>
        {
            None
        }
        Rejection::TokenInvalid(Why::Proof(_)) => problem::proof_challenge(template.status),
        _ => template.challenges.of(scheme).cloned(),
    };
    if let Some(challenge) = challenge {
        fields.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if rejection.closes_connection() && !record.arrival.http2 {
        fields.insert(header::CONNECTION, CLOSE);
    }
    if let Some(wait) = rejection.wait() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(wait.0));
    }
    if let Rejection::MethodNotAllowed(allowed) = rejection
        && let Ok(allowed) = HeaderValue::try_from(allowed.to_string())
    {
        fields.insert(header::ALLOW, allowed);
    }
    let session = session.zip(known.session_id).map(|(session, id)| (session, session_value(id)));
    add_ids(&mut fields, &live.names, &record, session, now);
    rates::tell(&mut fields, live, &known.rated);
    let mut response = Response::new(Answer::own(body.into(), record));
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// The scheme that a refused call should have used: DPoP where proofs are demanded or its token is bound to a key.
fn challenged(route: Option<&Route>, everywhere: bool, rejection: Rejection, known: &Known) -> Scheme {
    let demanded = everywhere || route.is_some_and(|route| route.sender == Some(SenderConstraint::Dpop));
    let bound = rejection == Rejection::TokenInvalid(Why::Downgraded);
    if demanded || bound { Scheme::Dpop } else { known.scheme }
}

/// The trailers that end an answer which cannot be completed.
pub(super) fn last_word(prepared: &Prepared, rejection: Rejection, record: &CallRecord) -> HeaderMap {
    let names = &prepared.snapshot.names;
    let mut trailers = HeaderMap::with_capacity(8);
    prepared.problems[rejection.index()].grpc.write(rejection, names, &mut trailers);
    trailers.insert(REQUEST_ID, record.request_id.clone());
    trailers.insert(names.name(Field::Correlation), record.correlation.clone());
    trailers
}

/// Says in `proxy-status` more precisely what failed than the refusal does (RFC 9209 section 2.3).
pub(super) fn set_proxy_error(fields: &mut HeaderMap, via: &str, kind: &str, rejection: Rejection) {
    if let Ok(value) = problem::proxy_status(via, kind, rejection.row().code) {
        fields.insert(PROXY_STATUS, value);
    }
}

/// An answer of the gate itself.
pub(super) fn answer(
    scope: &Scope,
    outcome: Outcome,
    mut record: Box<CallRecord>,
    known: &Known,
    now: Timestamp,
) -> Response<Answer> {
    let names = &scope.prepared.snapshot.names;
    record.status = outcome.status.as_u16();
    let mut fields = HeaderMap::with_capacity(12);
    if outcome.json.is_some() {
        fields.insert(header::CONTENT_TYPE, JSON);
    }
    fields.insert(header::CACHE_CONTROL, outcome.cache);
    fields.extend(outcome.fields);
    let session = known.session.as_deref().zip(known.session_id).map(|(session, id)| (session, session_value(id)));
    add_ids(&mut fields, names, &record, session, now);
    rates::tell(&mut fields, &scope.prepared.snapshot, &known.rated);
    let mut response = Response::new(Answer::own(outcome.json.unwrap_or_default(), record));
    *response.status_mut() = outcome.status;
    *response.headers_mut() = fields;
    response
}

/// The answer that the first call with an Idempotency-Key got, for one that repeats it.
pub(super) fn replay(
    scope: &Scope,
    kept: &Kept,
    mut record: Box<CallRecord>,
    known: &Known,
    now: Timestamp,
) -> Response<Answer> {
    record.status = kept.status.as_u16();
    let mut fields = HeaderMap::with_capacity(kept.fields.len() + 8);
    for (name, value) in &kept.fields {
        fields.append(name, value.clone());
    }
    fields.insert(REPLAYED, HeaderValue::from_static("true"));
    let session = known.session.as_deref().zip(known.session_id).map(|(session, id)| (session, session_value(id)));
    add_ids(&mut fields, &scope.prepared.snapshot.names, &record, session, now);
    let mut response = Response::new(Answer::own(kept.body.clone(), record));
    *response.status_mut() = kept.status;
    *response.headers_mut() = fields;
    response
}

/// The answer to a preflight.
pub(super) fn preflight(
    scope: &Scope,
    fields: HeaderMap,
    mut record: Box<CallRecord>,
    now: Timestamp,
) -> Response<Answer> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = fields;
    record.status = response.status().as_u16();
    record.admitted = Some(record.elapsed());
    add_ids(response.headers_mut(), &scope.prepared.snapshot.names, &record, None, now);
    response.map(|()| Answer::own(Bytes::new(), record))
}

/// Removes from an upstream's answer, or from its trailers, what it may not say. What concerns only its hop is gone
/// already, but for an offer to switch protocols.
pub(super) fn clean(fields: &mut HeaderMap, names: &FieldNames) {
    let mut gone: Vec<HeaderName> = Vec::new();
    for name in fields.keys() {
        if is_hop(name) || names.is_ours(name) || *name == EXPIRES_IN {
            gone.push(name.clone());
        }
    }
    for name in gone {
        fields.remove(name);
    }
}

/// The head of an interim response as the client gets it, if it gets it: `100` and `101` are about one hop, and others
/// than these two are unknown (RFC 9110 section 15.2).
pub(super) fn interim(parts: &Parts, names: &FieldNames, via: &HeaderValue) -> Option<Vec<u8>> {
    let mut head = match parts.status.as_u16() {
        102 => b"HTTP/1.1 102 Processing\r\n".to_vec(),
        103 => b"HTTP/1.1 103 Early Hints\r\n".to_vec(),
        _ => return None,
    };
    let mut fields = parts.headers.clone();
    clean(&mut fields, names);
    fields.append(header::VIA, via.clone());
    for (name, value) in &fields {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Some(head)
}

fn is_hop(name: &HeaderName) -> bool {
    *name == header::UPGRADE || *name == header::TE || *name == header::PROXY_AUTHENTICATE
}
