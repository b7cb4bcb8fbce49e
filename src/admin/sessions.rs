//! Sessions for the operator: list, show, revoke, suspend. They are named by their key; a session-id is taken too.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Admin, Refusal, Reply, STORE, json};
use crate::policy::flow::{Flow, StepSet, Steps};
use crate::policy::ids::SessionKey;
use crate::policy::rejection::Rejection;
use crate::policy::session::{EndCause, Session, Standing};
use crate::policy::time::Timestamp;
use crate::store::{Selector, SessionStore};

/// Sessions on a page unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 10_000;

const UNKNOWN: Refusal = Refusal(StatusCode::NOT_FOUND, "no session has this id or key");

/// A session as the operator sees it.
#[derive(Serialize)]
struct View {
    key: String,
    client_id: String,
    issuer: Option<Arc<str>>,
    subject: Option<Box<str>>,
    scope: String,
    state: &'static str,
    flow: Option<Arc<str>>,
    step: Option<Arc<str>>,
    /// Where it stands in its flow, if it has one.
    #[serde(flatten)]
    steps: Option<StepsView>,
    created_at: String,
    last_seen_at: String,
    expires_at: String,
    calls: u32,
}

/// What the rules of a flow know of a session.
#[derive(Serialize)]
struct StepsView {
    /// When the last step was done.
    step_at: Option<String>,
    done: Vec<Arc<str>>,
    running: Vec<Arc<str>>,
    unknown: Vec<Arc<str>>,
    /// Of steps that limit them.
    attempts: BTreeMap<Arc<str>, u8>,
}

impl StepsView {
    fn of(session: &Session, flow: &Flow, steps: &Steps) -> Self {
        let names = |set: StepSet| {
            let steps = set.iter().filter_map(|step| flow.step(step));
            steps.map(|step| Arc::clone(&step.name)).collect()
        };
        let tried = flow.steps().iter().filter_map(|step| Some((Arc::clone(&step.name), steps.attempts(step)?)));
        Self {
            step_at: steps.last().map(|_| session.opened().after(steps.last_at()).to_string()),
            done: names(steps.done()),
            running: names(steps.running()),
            unknown: names(steps.unknown()),
            attempts: tried.collect(),
        }
    }
}

impl View {
    fn of(session: &Session, now: Timestamp) -> Self {
        let owner = session.owner();
        let steps = session.steps();
        let step = steps.as_ref().and_then(|(flow, steps)| flow.step(steps.last()?));
        Self {
            key: session.key().to_string(),
            client_id: owner.client.to_string(),
            issuer: owner.issuer.clone(),
            subject: owner.subject.clone(),
            scope: session.scope().into(),
            state: session.standing(now).as_str(),
            flow: session.flow().map(|flow| Arc::clone(flow.name())),
            step: step.map(|step| Arc::clone(&step.name)),
            steps: steps.as_ref().map(|(flow, steps)| StepsView::of(session, flow, steps)),
            created_at: session.opened().to_string(),
            last_seen_at: session.last_seen().to_string(),
            expires_at: session.deadline().to_string(),
            calls: session.calls(),
        }
    }
}

/// One page.
#[derive(Serialize)]
struct Page {
    sessions: Vec<View>,
    /// To be given as `after` for the next page; absent on the last.
    next: Option<String>,
}

/// Which sessions to revoke; what is not given does not matter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    session: Option<String>,
    client_id: Option<Box<str>>,
    subject: Option<Box<str>>,
    /// RFC 3339.
    issued_before: Option<jiff::Timestamp>,
}

fn now(admin: &Admin) -> Timestamp {
    admin.gate.clock().now().steady
}

pub(super) fn key(name: &str) -> Result<SessionKey, Refusal> {
    SessionKey::parse_id_or_key(name)
        .map_err(|_| Refusal(StatusCode::BAD_REQUEST, "name a session by its id or its key (32 hex digits)"))
}

/// `GET /sessions?client_id=&subject=&state=&after=&limit=`
pub(super) async fn list(admin: &Admin, query: &str) -> Result<Reply, Refusal> {
    let (mut selector, mut after, mut limit) = (Selector::default(), None, PAGE);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "client_id" => selector.client = Some((*value).into()),
            "subject" => selector.subject = Some((*value).into()),
            "state" => {
                let named = Standing::ALL.into_iter().find(|standing| standing.as_str() == &*value);
                let detail = "state is live, suspended, expired, closed or revoked";
                selector.standing = Some(named.ok_or(Refusal(StatusCode::BAD_REQUEST, detail))?);
            }
            "after" => after = Some(key(&value)?),
            "limit" => {
                let parsed = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                limit = parsed.ok_or(Refusal(StatusCode::BAD_REQUEST, "limit is a number from 1 to 10000"))?;
            }
            _ => {
                let detail = "the parameters are client_id, subject, state, after and limit";
                return Err(Refusal(StatusCode::BAD_REQUEST, detail));
            }
        }
    }
    let found = admin.gate.store().list(&selector, after, limit).await.map_err(|_| STORE)?;
    let next = (found.len() == limit).then(|| found.last().map(|session| session.key().to_string())).flatten();
    let sessions = found.iter().map(|session| View::of(session, now(admin))).collect();
    Ok(json(StatusCode::OK, &Page { sessions, next }))
}

/// `GET /sessions/{id or key}`
pub(super) async fn show(admin: &Admin, name: &str) -> Result<Reply, Refusal> {
    let found = admin.gate.store().find(key(name)?).await.map_err(|_| STORE)?.ok_or(UNKNOWN)?;
    Ok(json(StatusCode::OK, &View::of(&found, now(admin))))
}

/// `DELETE /sessions/{id or key}`
pub(super) async fn end(admin: &Admin, name: &str) -> Result<Reply, Refusal> {
    let key = key(name)?;
    admin.gate.store().find(key).await.map_err(|_| STORE)?.ok_or(UNKNOWN)?;
    let revoked = admin.gate.store().end(key, EndCause::Revoked, now(admin)).await.map_err(|_| STORE)?;
    tracing::info!(session = %key, revoked, "admin: session revoked");
    Ok(json(StatusCode::OK, &serde_json::json!({ "revoked": u8::from(revoked) })))
}

/// `POST /sessions/revoke`
pub(super) async fn revoke(admin: &Admin, body: &[u8]) -> Result<Reply, Refusal> {
    let form = "send JSON with one or more of session, client_id, subject and issued_before (RFC 3339)";
    let wanted: Revocation = serde_json::from_slice(body).map_err(|_| Refusal(StatusCode::BAD_REQUEST, form))?;
    let issued_before =
        wanted.issued_before.map(|moment| Timestamp::from_millis(u64::try_from(moment.as_millisecond()).unwrap_or(0)));
    let session = wanted.session.as_deref().map(key).transpose()?;
    let (client, subject) = (wanted.client_id, wanted.subject);
    let selector = Selector { key: session, client, subject, issued_before, ..Selector::default() };
    if selector.key.is_none()
        && selector.client.is_none()
        && selector.subject.is_none()
        && selector.issued_before.is_none()
    {
        return Err(Refusal(StatusCode::BAD_REQUEST, form));
    }
    let revoked = admin.gate.revoke(&selector).await.map_err(|_| STORE)?;
    tracing::info!(
        client = selector.client.as_deref(),
        subject = selector.subject.as_deref(),
        session = selector.key.map(|key| key.to_string()),
        issued_before = selector.issued_before.map(|moment| moment.to_string()),
        revoked,
        "admin: sessions revoked"
    );
    Ok(json(StatusCode::OK, &serde_json::json!({ "revoked": revoked })))
}

/// `POST /sessions/{id or key}/suspend` and `/resume`
pub(super) async fn suspend(admin: &Admin, name: &str, suspend: bool) -> Result<Reply, Refusal> {
    let key = key(name)?;
    let (from, to) =
        if suspend { (Standing::Live, Standing::Suspended) } else { (Standing::Suspended, Standing::Live) };
    let visit = |progress: &mut crate::policy::session::Progress| {
        if progress.standing == from {
            progress.standing = to;
        }
        if progress.standing == to { Ok(()) } else { Err(Rejection::SessionClosed) }
    };
    match admin.gate.store().transact(key, visit, now(admin)).await {
        Ok(()) => {
            tracing::info!(session = %key, state = to.as_str(), "admin: session suspended or resumed");
            show(admin, name).await
        }
        Err(Rejection::SessionUnknown) => Err(UNKNOWN),
        Err(Rejection::SessionClosed) => Err(Refusal(StatusCode::CONFLICT, "the session has ended")),
        Err(_) => Err(STORE),
    }
}
