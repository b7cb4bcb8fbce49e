//! What the gate would say to a call, stage by stage, and why: for the command `explain` and for `POST /explain` of the
//! admin listener. It makes the decisions with the code of the gate, on copies: nothing is counted, entered, extended,
//! remembered or fetched.

mod facts;
mod judge;
mod session;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use serde::Serialize;

pub use self::session::{SessionSnapshot, ToldSession};

use crate::config::Snapshot;
use crate::gate::limiter::Limiter;
use crate::policy::ids::SessionId;
use crate::policy::session::Session;
use crate::policy::time::Now;
use crate::policy::violation::Field;

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
    /// Where it comes from, if that is known.
    pub address: Option<IpAddr>,
}

/// The session that the call is made in.
pub enum InSession {
    /// Nobody knows it here.
    Unknown,
    /// As somebody tells it.
    Told(Box<ToldSession>),
    /// What a running gate has under the session-id.
    Found(Option<Arc<Session>>),
}

/// What is known beside the call.
pub struct Known<'a> {
    /// The session.
    pub session: InSession,
    /// The buckets of rate rules of a running gate.
    pub limiter: Option<&'a Limiter>,
    /// The moment that the call is judged at.
    pub now: Now,
}

/// What the gate would say, and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The method.
    pub method: String,
    /// The path without its query, which may hold secrets.
    pub path: String,
    /// The moment that the call is judged at, RFC 3339.
    pub time: String,
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

/// Explains a call.
#[must_use]
pub fn explain(live: &Snapshot, asked: &Asked<'_>, known: Known<'_>) -> Explanation {
    let Known { session, limiter, now } = known;
    let (stages, verdict) = judge::judge(live, asked, session, limiter, now);
    let (method, path) = (asked.method.to_string(), asked.uri.path().to_owned());
    Explanation { method, path, time: now.wall.to_string(), stages, verdict }
}

/// The session-id that a call shows, if it has the form of one.
#[must_use]
pub fn session_id(live: &Snapshot, headers: &HeaderMap) -> Option<SessionId> {
    headers.get(live.names.name(Field::SessionId)).and_then(|value| SessionId::parse(value.as_bytes()).ok())
}

/// Shows a session-id where the session is named beside the call, by a snapshot or a key: who explains what happened rarely
/// has the id.
pub fn stand_in(live: &Snapshot, headers: &mut HeaderMap, id: Option<SessionId>) {
    let name = live.names.name(Field::SessionId);
    let id = id.unwrap_or_else(|| SessionId::from_random([0; 16]));
    if !headers.contains_key(name)
        && let Ok(value) = HeaderValue::try_from(id.reveal())
    {
        headers.insert(name.clone(), value);
    }
}

/// Whether a call with these fields has a body.
#[must_use]
pub fn says_body(headers: &HeaderMap) -> bool {
    let named = |name: HeaderName| headers.get(name).is_some_and(|value| value.as_bytes() != b"0");
    named(header::CONTENT_LENGTH) || named(header::TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests;
