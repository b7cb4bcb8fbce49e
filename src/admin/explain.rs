//! What the gate would say to a call, with all that it knows; no call is made, and nothing changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::json;

use super::{Admin, Refusal, Reply, STORE, json as reply, sessions};
use crate::explain::{self, Asked, InSession, Known, SessionSnapshot};
use crate::policy::ids::SessionId;
use crate::policy::time::{Now, Timestamp};
use crate::store::SessionStore;

const HEADERS: Refusal =
    Refusal(StatusCode::BAD_REQUEST, "headers is an object of field names and values; several values are a list");
const METHOD: Refusal = Refusal(StatusCode::BAD_REQUEST, "this is not a method");
const PATH: Refusal = Refusal(StatusCode::BAD_REQUEST, "path starts with / and may have a query");

/// The call that is asked about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    method: String,
    path: String,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    /// Whether it has a body; left out: if its fields say so.
    #[serde(default)]
    body: Option<bool>,
    /// Where it comes from.
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    session: Option<Told>,
    /// RFC 3339; left out: now.
    #[serde(default)]
    time: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

/// A session of the gate by its id or key, or another one as it is told.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Named(String),
    Snapshot(serde_json::Value),
}

/// `POST /explain`
pub(super) async fn explain(admin: &Admin, body: &[u8]) -> Result<Reply, Refusal> {
    let question: Question = match serde_json::from_slice(body) {
        Ok(question) => question,
        // Without the words of the parser, which may quote a token.
        Err(error) => {
            return Ok(wrong(&format!(
                "line {}, column {}: send JSON with method, path and, if wanted, host, headers, body, address, session, time",
                error.line(),
                error.column()
            )));
        }
    };
    let live = admin.live.snapshot();
    let method = Method::from_bytes(question.method.as_bytes()).map_err(|_| METHOD)?;
    let uri: Uri = question.path.parse().map_err(|_| PATH)?;
    if !question.path.starts_with('/') || uri.authority().is_some() {
        return Err(PATH);
    }
    let mut headers = fields(&question.headers)?;
    if !headers.contains_key(header::HOST) {
        let host = question.host.as_deref().unwrap_or("localhost");
        headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| HEADERS)?);
    }
    let now = moment(admin, question.time);
    let session = match question.session {
        Some(Told::Named(name)) => {
            let key = sessions::key(&name)?;
            explain::stand_in(&live, &mut headers, SessionId::parse(name.as_bytes()).ok());
            InSession::Found(admin.gate.store().find(key).await.map_err(|_| STORE)?)
        }
        Some(Told::Snapshot(told)) => {
            let told = serde_json::from_value::<SessionSnapshot>(told).map_err(|error| error.to_string());
            match told.and_then(|told| told.understand(&live, now)) {
                Ok(told) => {
                    explain::stand_in(&live, &mut headers, None);
                    InSession::Told(Box::new(told))
                }
                Err(error) => return Ok(wrong(&format!("session: {error}"))),
            }
        }
        None => match explain::session_id(&live, &headers) {
            Some(id) => InSession::Found(admin.gate.store().find(id.key()).await.map_err(|_| STORE)?),
            None => InSession::Unknown,
        },
    };
    let has_body = question.body.unwrap_or_else(|| explain::says_body(&headers));
    let asked = Asked { method: &method, uri: &uri, headers: &headers, has_body, address: question.address };
    let known = Known { session, limiter: Some(admin.gate.limiter()), now };
    Ok(reply(StatusCode::OK, &explain::explain(&live, &asked, known)))
}

fn wrong(detail: &str) -> Reply {
    let status = StatusCode::BAD_REQUEST;
    reply(status, &json!({ "status": status.as_u16(), "detail": detail }))
}

fn fields(written: &BTreeMap<String, Values>) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, values) in written {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HEADERS)?;
        let values = match values {
            Values::One(value) => std::slice::from_ref(value),
            Values::Several(values) => values,
        };
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value).map_err(|_| HEADERS)?);
        }
    }
    Ok(headers)
}

/// Both readings of time at a moment of the wall clock.
fn moment(admin: &Admin, wall: Option<jiff::Timestamp>) -> Now {
    let now = admin.gate.clock().now();
    let Some(wall) = wall else { return now };
    let wall = Timestamp::from_millis(u64::try_from(wall.as_millisecond()).unwrap_or(0));
    Now { wall, steady: now.steady.after(wall.since(now.wall)).before(now.wall.since(wall)) }
}
