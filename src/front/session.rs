//! The session endpoint: `POST`, `GET`, `HEAD` and `DELETE /session`; and the key set of the tokens it gives.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde::Serialize;

use super::response::NO_STORE;
use crate::auth::issue::TokenIssuer;
use crate::config::Snapshot;
use crate::gate::{Gate, Known, OpenCall};
use crate::policy::call::{Owned, ValidatedCall};
use crate::policy::claims::Caller;
use crate::policy::ids::SessionId;
use crate::policy::rejection::Rejection;
use crate::policy::session::Session;
use crate::policy::target::SESSION_PATH;
use crate::policy::time::{Now, Timestamp};
use crate::store::Opened;
use crate::timer::Timer;
use crate::upstream::upload::{BoxError, UploadFault};

/// Longest payload of an opening with an Idempotency-Key, in bytes.
const PAYLOAD_MAX: usize = 64 * 1024;

/// How long others may keep the key set. New keys are published before they sign, so nobody misses one.
const FIVE_MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A session as its owner sees it. Times are RFC 3339 in UTC.
#[derive(Serialize)]
struct StateObject<'a> {
    session_id: String,
    client_id: &'a str,
    subject: Option<&'a str>,
    scope: &'a str,
    flow: Option<&'a str>,
    step: Option<&'a str>,
    allowed_next: Vec<&'a str>,
    state: &'static str,
    created_at: String,
    last_seen_at: String,
    idle_expires_at: String,
    expires_at: String,
    calls: u32,
}

/// A session and the token to use it with.
#[derive(Serialize)]
struct WithToken<'a> {
    #[serde(flatten)]
    session: StateObject<'a>,
    access_token: Cow<'a, str>,
    token_type: &'static str,
    /// Whole seconds.
    expires_in: u64,
}

impl<'a> StateObject<'a> {
    fn of(session: &'a Session, id: SessionId, now: Timestamp) -> Self {
        let owner = session.owner();
        let outlook = session.outlook(now);
        let (flow, step, allowed_next) = match &outlook {
            None => (None, None, Vec::new()),
            Some((flow, steps, next)) => {
                let name = |step| flow.step_name(step);
                (Some(&**flow.name()), steps.last().map(name), next.iter().map(name).collect())
            }
        };
        Self {
            session_id: id.reveal(),
            client_id: owner.client.as_str(),
            subject: owner.subject.as_deref(),
            scope: session.scope(),
            flow,
            step,
            allowed_next,
            state: session.standing(now).as_str(),
            created_at: session.opened().to_string(),
            last_seen_at: session.last_seen().to_string(),
            idle_expires_at: session.idle_expires().min(session.expires()).to_string(),
            expires_at: session.expires().to_string(),
            calls: session.calls(),
        }
    }
}

/// What the gate answers itself.
pub(super) struct Outcome {
    pub(super) status: StatusCode,
    pub(super) json: Option<Bytes>,
    /// `cache-control`.
    pub(super) cache: HeaderValue,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
}

/// Opens a session. `now` is moved on if that took time.
///
/// # Errors
/// What [`Gate::open`] refuses with, and `request-too-large`, `request-timeout`, `request-malformed` for the payload.
pub(super) async fn open<B>(
    gate: &Gate,
    live: &Snapshot,
    call: &OpenCall<'_, '_>,
    body: B,
    timer: &Timer,
    known: &mut Known,
    now: &mut Now,
) -> Result<Outcome, Rejection>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let mut payload = Bytes::new();
    if call.is_idempotent() {
        payload = read(body, PAYLOAD_MAX, timer, live.limits.body_timeout).await?;
        // The life of a session does not begin while its client still sends.
        *now = gate.clock().now();
    }
    let Opened { id, session, replayed } = gate.open(call, &payload, live, *now).await?;
    let caller = call.caller();
    let (access_token, expires) = match live.auth.own() {
        None => (Cow::Borrowed(call.token()), caller.expires()),
        Some(own) => issue(own, caller, &session, id, *now)?,
    };
    let json = json(&with_token(caller, &session, id, (access_token, expires), *now))?;
    let mut fields = vec![(header::LOCATION, HeaderValue::from_static(SESSION_PATH))];
    if replayed {
        fields.push((REPLAYED, HeaderValue::from_static("true")));
    }
    (known.session, known.session_id) = (Some(session), Some(id));
    Ok(Outcome { status: live.sessions.create_status, json: Some(json), cache: NO_STORE, fields })
}

/// Shows a session to its owner. Where the gate issues tokens, whoever comes with one of the authorization server gets a
/// fresh one of the gate; a token of the gate does not prolong itself.
///
/// # Errors
/// `internal`.
pub(super) fn read_state(live: &Snapshot, call: &ValidatedCall<'_>, now: Now) -> Result<Outcome, Rejection> {
    let (caller, session, id) = (call.caller(), call.session(), call.id());
    let json = match live.auth.own().filter(|_| !caller.is_issued()) {
        None => json(&StateObject::of(session, id, now.steady))?,
        Some(own) => json(&with_token(caller, session, id, issue(own, caller, session, id, now)?, now))?,
    };
    Ok(Outcome { status: StatusCode::OK, json: Some(json), cache: NO_STORE, fields: Vec::new() })
}

/// Shows the keys of the tokens that the gate issues.
///
/// # Errors
/// `route-unknown` where it issues none.
pub(super) fn key_set(live: &Snapshot) -> Result<Outcome, Rejection> {
    let own = live.auth.own().ok_or(Rejection::RouteUnknown)?;
    Ok(Outcome { status: StatusCode::OK, json: Some(own.key_set().clone()), cache: FIVE_MINUTES, fields: Vec::new() })
}

fn issue<'a>(
    own: &TokenIssuer,
    caller: &Caller,
    session: &Session,
    id: SessionId,
    now: Now,
) -> Result<(Cow<'a, str>, Timestamp), Rejection> {
    let issued = own.issue(caller, session, id, now).map_err(|_| Rejection::Internal)?;
    Ok((Cow::Owned(issued.text), issued.expires))
}

fn with_token<'a>(
    caller: &'a Caller,
    session: &'a Session,
    id: SessionId,
    (access_token, expires): (Cow<'a, str>, Timestamp),
    now: Now,
) -> WithToken<'a> {
    WithToken {
        // The scope next to a token is the token's (RFC 6749 section 5.1).
        session: StateObject { scope: caller.scope(), ..StateObject::of(session, id, now.steady) },
        access_token,
        token_type: caller.scheme().as_str(),
        expires_in: expires.since(now.wall).as_secs(),
    }
}

/// Closes a session for its owner.
///
/// # Errors
/// What [`Gate::close`] refuses with.
pub(super) async fn close(gate: &Gate, owned: &Owned<'_>, now: Now) -> Result<Outcome, Rejection> {
    gate.close(owned, now).await?;
    Ok(Outcome { status: StatusCode::NO_CONTENT, json: None, cache: NO_STORE, fields: Vec::new() })
}

fn json(value: &impl Serialize) -> Result<Bytes, Rejection> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|_| Rejection::Internal)
}

/// Reads a body of at most `limit` bytes, for which its client may take `patience`.
///
/// # Errors
/// `request-too-large`, `request-timeout`, `request-malformed`.
pub(super) async fn read<B>(body: B, limit: usize, timer: &Timer, patience: Duration) -> Result<Bytes, Rejection>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let reading = std::pin::pin!(Limited::new(body, limit).collect());
    match timer.timeout(patience, reading).await {
        Err(_) => Err(Rejection::RequestTimeout),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Rejection::BodyTooLarge),
        Ok(Err(error)) => {
            let fault = error.downcast_ref::<UploadFault>().and_then(|fault| fault.rejection());
            Err(fault.unwrap_or(Rejection::RequestMalformed))
        }
    }
}
