//! The issuers: which keys are known of them, and how fresh they are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use super::{Admin, Refusal, Reply, json};
use crate::auth::introspection::Introspection;
use crate::auth::key_set::KeySet;
use crate::auth::keys::VerificationKey;
use crate::auth::{Issuer, Keys};

#[derive(Serialize)]
struct Shown {
    name: Arc<str>,
    issuer: Option<Arc<str>>,
    available: bool,
    keys: Vec<ShownKey>,
    key_set: Option<ShownSet>,
    introspection: Option<ShownIntrospection>,
}

#[derive(Serialize)]
struct ShownIntrospection {
    url: String,
    answers: Answers,
    last_error: Option<ShownError>,
}

#[derive(Serialize)]
struct Answers {
    active: u64,
    inactive: u64,
    failed: u64,
}

#[derive(Serialize)]
struct ShownKey {
    kid: Option<String>,
    algorithms: Vec<String>,
}

#[derive(Serialize)]
struct ShownSet {
    url: String,
    /// When it was last known to be the issuer's.
    confirmed_at: Option<String>,
    age: Option<u64>,
    skipped: usize,
    fetches: Fetches,
    last_error: Option<ShownError>,
}

#[derive(Serialize)]
struct Fetches {
    changed: u64,
    unchanged: u64,
    failed: u64,
}

#[derive(Serialize)]
struct ShownError {
    at: String,
    reason: String,
}

/// `GET /issuers`.
pub(super) fn list(admin: &Admin) -> Reply {
    let issuers: Vec<_> = admin.live.snapshot().auth.issuers().iter().map(|issuer| show(admin, issuer)).collect();
    json(StatusCode::OK, &serde_json::json!({ "issuers": issuers }))
}

/// `POST /issuers/{name}/refresh`.
pub(super) async fn refresh(admin: &Admin, name: &str) -> Result<Reply, Refusal> {
    let live = admin.live.snapshot();
    let issuer = live.auth.issuers().iter().find(|issuer| &*issuer.name == name);
    let issuer = issuer.ok_or(Refusal(StatusCode::NOT_FOUND, "no such issuer; GET /issuers lists them"))?;
    let Some(set) = issuer.key_set() else {
        return Err(Refusal(StatusCode::CONFLICT, "its keys stand in the configuration; a reload reads them again"));
    };
    let status = match set.refresh().await {
        Ok(()) => StatusCode::OK,
        // What is shown says why.
        Err(_) => StatusCode::BAD_GATEWAY,
    };
    Ok(json(status, &show(admin, issuer)))
}

fn show(admin: &Admin, issuer: &Issuer) -> Shown {
    let (keys, key_set): (Vec<_>, _) = match &issuer.keys {
        Keys::Fixed(keys) => (keys.iter().map(show_key).collect(), None),
        Keys::Published(set) => (set.report().keys.iter().map(show_key).collect(), Some(show_set(admin, set))),
    };
    let asked = issuer.introspection.as_ref();
    let answers = asked.is_none_or(|introspection| introspection.report().0);
    // Who has neither keys nor a key set is only asked.
    let only_asked = asked.is_some() && matches!(&issuer.keys, Keys::Fixed(keys) if keys.is_empty());
    Shown {
        name: Arc::clone(&issuer.name),
        issuer: issuer.claims.issuer.clone(),
        available: answers && (only_asked || !keys.is_empty()),
        keys,
        key_set,
        introspection: asked.map(|introspection| show_introspection(admin, introspection)),
    }
}

fn show_introspection(admin: &Admin, introspection: &Introspection) -> ShownIntrospection {
    let counts = introspection.counts();
    ShownIntrospection {
        url: introspection.config().url.to_string(),
        answers: Answers {
            active: counts.active.load(Ordering::Relaxed),
            inactive: counts.inactive.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
        },
        last_error: introspection.report().1.map(|error| show_error(admin, error)),
    }
}

fn show_error(admin: &Admin, (span, reason): (Duration, String)) -> ShownError {
    ShownError { at: admin.gate.clock().wall().before(span).to_string(), reason }
}

fn show_key(key: &VerificationKey) -> ShownKey {
    let algorithms = key.algorithms().iter().map(|algorithm| format!("{algorithm:?}")).collect();
    ShownKey { kid: key.kid().map(str::to_owned), algorithms }
}

fn show_set(admin: &Admin, set: &KeySet) -> ShownSet {
    let (report, counts, now) = (set.report(), set.counts(), admin.gate.clock().wall());
    ShownSet {
        url: set.config().source.url().to_string(),
        confirmed_at: report.age.map(|age| now.before(age).to_string()),
        age: report.age.map(|age| age.as_secs()),
        skipped: report.skipped,
        fetches: Fetches {
            changed: counts.changed.load(Ordering::Relaxed),
            unchanged: counts.unchanged.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
        },
        last_error: report.error.map(|error| show_error(admin, error)),
    }
}
