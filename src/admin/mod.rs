//! The operator's listener: health and metrics for everyone who can reach it, everything else behind a bearer token.

mod clients;
mod explain;
mod health;
mod issuers;
mod metrics;
mod pools;
mod sessions;
mod trail;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::config::Live;
use crate::front::Proxy;
use crate::gate::Gate;
use crate::policy::credentials::{self, Scheme};
use crate::telemetry::Telemetry;
use crate::trail::Trail;
use crate::upstream::Upstreams;
use crate::upstream::upload::BoxError;

/// Longest body of an admin request, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// Results of reloads since start.
#[derive(Debug, Default)]
pub struct ReloadCounts {
    /// Taken.
    pub accepted: AtomicU64,
    /// Refused; the configuration before stayed.
    pub refused: AtomicU64,
    /// Whether the last one was refused: 0 or 1.
    pub last_refused: AtomicU64,
}

impl ReloadCounts {
    /// Counts one reload.
    pub fn count(&self, accepted: bool) {
        let (total, last) = if accepted { (&self.accepted, 0) } else { (&self.refused, 1) };
        total.fetch_add(1, Ordering::Relaxed);
        self.last_refused.store(last, Ordering::Relaxed);
    }
}

/// Connections of clients, all workers together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// Accepted since start.
    pub accepted: u64,
    /// Open now.
    pub open: u64,
    /// Failed accepts, by reason.
    pub accept_errors: Vec<(&'static str, u64)>,
    /// TLS handshakes, by result.
    pub handshakes: Vec<(&'static str, u64)>,
    /// Connections that were ended for what they did, by reason.
    pub refused: Vec<(&'static str, u64)>,
}

/// What the admin listener shows and acts on.
pub struct Admin {
    /// Decides about calls; knows the sessions.
    pub gate: Arc<Gate>,
    /// The configuration in force.
    pub live: Arc<Live>,
    /// Counters of calls.
    pub telemetry: Arc<Telemetry>,
    /// The last calls of sessions.
    pub trail: Arc<Trail>,
    /// What all workers know of the pools.
    pub upstreams: Arc<Upstreams>,
    /// The fronts of all workers, for their part of the pools.
    pub proxies: Box<dyn Fn() -> Vec<Arc<Proxy>> + Send + Sync>,
    /// Counts of client connections.
    pub connections: Box<dyn Fn() -> ConnectionCounts + Send + Sync>,
    /// Results of reloads.
    pub reloads: Arc<ReloadCounts>,
    /// Metrics of the process itself.
    pub process: prometheus::Registry,
}

/// An answer to the operator.
type Reply = Response<Full<Bytes>>;

/// Why an admin request is not done: a status and what to do about it.
#[derive(Debug)]
struct Refusal(StatusCode, &'static str);

const STORE: Refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, "the session store does not answer; try again");

const OTHER_METHODS: Refusal =
    Refusal(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods; see the documentation");

impl Admin {
    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let reply = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/livez") => Ok(health::live()),
            (&Method::GET | &Method::HEAD, "/readyz") => Ok(health::ready(self.gate.is_draining())),
            (&Method::GET | &Method::HEAD, "/metrics") => metrics::scrape(self),
            (_, "/livez" | "/readyz" | "/metrics") => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "use GET")),
            _ => match self.authorize(&request) {
                Ok(()) => self.act(request).await,
                Err(refusal) => Err(refusal),
            },
        };
        reply.unwrap_or_else(|Refusal(status, detail)| {
            let mut reply = json(status, &serde_json::json!({ "status": status.as_u16(), "detail": detail }));
            if status == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static("Bearer realm=\"sessiongate admin\"");
                reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            reply
        })
    }

    fn authorize<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        // From the configuration in force, so that a reload rotates it.
        let live = self.live.snapshot();
        let Some(token) = live.admin.as_ref().and_then(|admin| admin.token.as_ref()) else {
            let detail = "no admin token is configured, so only /livez, /readyz and /metrics are open; set admin.token";
            return Err(Refusal(StatusCode::FORBIDDEN, detail));
        };
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = match given.map(credentials::token) {
            Some(Ok((Scheme::Bearer, given))) => Some(given),
            Some(Ok((Scheme::Dpop, _)) | Err(_)) | None => None,
        };
        let same = |given: &str| {
            aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), token.expose_secret().as_bytes())
                .is_ok()
        };
        match given {
            Some(given) if same(given) => Ok(()),
            _ => {
                // Without the path: it may name a session by its id.
                tracing::warn!(method = %request.method(), "admin request without a valid token");
                Err(Refusal(StatusCode::UNAUTHORIZED, "send the admin token as 'authorization: Bearer <token>'"))
            }
        }
    }

    async fn act<B>(&self, request: Request<B>) -> Result<Reply, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let (parts, body) = request.into_parts();
        let read = Limited::new(body, BODY_MAX).collect().await;
        let body = read
            .map_err(|_| Refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is broken or longer than 64 KiB"))?
            .to_bytes();
        let segments: Vec<&str> = parts.uri.path().trim_start_matches('/').split('/').collect();
        match (&parts.method, segments.as_slice()) {
            (&Method::GET, ["issuers"]) => Ok(issuers::list(self)),
            (&Method::POST, ["issuers", name, "refresh"]) => issuers::refresh(self, name).await,
            (&Method::GET, ["pools"]) => Ok(pools::list(self)),
            (&Method::GET, ["clients"]) => clients::list(self, parts.uri.query().unwrap_or_default()),
            (&Method::GET, ["clients", id]) => clients::show(self, id),
            (&Method::POST, ["explain"]) => explain::explain(self, &body).await,
            (&Method::GET, ["sessions"]) => sessions::list(self, parts.uri.query().unwrap_or_default()).await,
            (&Method::POST, ["sessions", "revoke"]) => sessions::revoke(self, &body).await,
            (&Method::GET, ["sessions", name]) => sessions::show(self, name).await,
            (&Method::GET, ["sessions", name, "trail"]) => trail::show(self, name, &parts),
            (&Method::DELETE, ["sessions", name]) => sessions::end(self, name).await,
            (&Method::POST, ["sessions", name, "suspend"]) => sessions::suspend(self, name, true).await,
            (&Method::POST, ["sessions", name, "resume"]) => sessions::suspend(self, name, false).await,
            (_, ["issuers"] | ["issuers", _, "refresh"] | ["pools"] | ["clients"] | ["clients", _] | ["explain"]) => {
                Err(OTHER_METHODS)
            }
            (_, ["sessions"] | ["sessions", _] | ["sessions", _, "suspend" | "resume" | "trail"]) => Err(OTHER_METHODS),
            _ => Err(Refusal(
                StatusCode::NOT_FOUND,
                "no such path; there are /livez, /readyz, /metrics, /issuers, /pools, /clients, /sessions and /explain",
            )),
        }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let body = serde_json::to_string(value).unwrap_or_else(|_| "{}".into());
    text(status, "application/json", body + "\n")
}
