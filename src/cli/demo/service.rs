//! The ordering service of the demo: eligibility, offers, configurations, orders, installations, all in memory.
//!
//! It trusts what the gate tells it, as any service behind the gate may. It can be told to be slow or to fail, by
//! `?delay_ms=` and `?fail=` or by `x-demo-delay-ms` and `x-demo-fail`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Longest delay it can be told.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Largest body it reads, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// Sessions it remembers; it forgets all of them at this number.
const SESSIONS_MAX: usize = 10_000;

const OFFERS: [(&str, &str, u32); 3] =
    [("fiber-300", "Fiber 300", 3000), ("fiber-500", "Fiber 500", 4500), ("fiber-1000", "Fiber 1 Gig", 6500)];

/// A running ordering service.
#[derive(Debug, Default)]
pub struct Service {
    seen: Mutex<Seen>,
    sessions: Mutex<HashMap<String, Progress>>,
}

/// What reached the service.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How many calls.
    pub calls: u64,
    /// The fields of the last one that the gate vouches for, by name.
    pub last: HashMap<&'static str, String>,
}

/// Fields that the gate vouches for.
const VOUCHED: [&str; 5] = ["client-id", "session-id", "x-correlation-id", "x-sg-subject", "x-sg-scopes"];

/// How far the order of a session has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    offer: Option<&'static str>,
    order: Option<String>,
}

impl Service {
    /// Starts the service on a free port; within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub async fn start() -> std::io::Result<(Arc<Self>, SocketAddr)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let service = Arc::new(Self::default());
        tokio::spawn(accept(listener, Arc::clone(&service)));
        Ok((service, address))
    }

    /// What has reached it so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        self.note(&parts);
        if let Some(delay) = told(&parts, "delay_ms", "x-demo-delay-ms") {
            tokio::time::sleep(Duration::from_millis(delay).min(DELAY_MAX)).await;
        }
        if let Some(status) = told(&parts, "fail", "x-demo-fail").and_then(|code| u16::try_from(code).ok()) {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return reply(status, &json!({ "error": "the ordering service was told to fail" }));
        }
        let body = match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return reply(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "error": "the body cannot be read" })),
        };
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (status, answer) = self.act(&parts, &body);
        reply(status, &answer)
    }

    fn note(&self, parts: &Parts) {
        let value = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let mut seen = self.seen.lock();
        seen.calls += 1;
        seen.last = VOUCHED.iter().filter_map(|name| Some((*name, value(*name)?.to_owned()))).collect();
    }

    fn act(&self, parts: &Parts, body: &Value) -> (StatusCode, Value) {
        let session = parts.headers.get("session-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut sessions = self.sessions.lock();
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(session) {
            sessions.clear();
        }
        let progress = sessions.entry(session.to_owned()).or_default();
        match (&parts.method, parts.uri.path()) {
            (&Method::POST, "/eligibility") => match body["address"].as_str() {
                Some(address) => (StatusCode::OK, json!({ "address": address, "eligible": true, "product": "fiber" })),
                None => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "error": "say which address" })),
            },
            (&Method::GET, "/offers") => {
                let offer =
                    |(id, name, cents): (&str, &str, u32)| json!({ "id": id, "name": name, "cents_a_month": cents });
                (StatusCode::OK, json!({ "offers": OFFERS.map(offer) }))
            }
            (&Method::PUT, path) if path.starts_with("/configurations/") => {
                let wanted = path.trim_start_matches("/configurations/");
                match OFFERS.into_iter().find(|(id, ..)| *id == wanted) {
                    Some((id, name, cents)) => {
                        progress.offer = Some(id);
                        (
                            StatusCode::OK,
                            json!({ "offer": id, "name": name, "options": body["options"], "cents_a_month": cents }),
                        )
                    }
                    None => (StatusCode::NOT_FOUND, json!({ "error": "there is no such offer" })),
                }
            }
            (&Method::POST, "/orders") => match progress.offer {
                Some(offer) => {
                    let order = format!("ord-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
                    progress.order = Some(order.clone());
                    (StatusCode::CREATED, json!({ "order": order, "offer": offer, "state": "accepted" }))
                }
                None => (StatusCode::CONFLICT, json!({ "error": "configure an offer first" })),
            },
            (&Method::POST, "/installations") => match &progress.order {
                Some(order) => {
                    (StatusCode::CREATED, json!({ "order": order, "date": body["date"], "state": "booked" }))
                }
                None => (StatusCode::CONFLICT, json!({ "error": "order first" })),
            },
            _ => (StatusCode::NOT_FOUND, json!({ "error": "there is no such call" })),
        }
    }
}

async fn accept(listener: TcpListener, service: Arc<Service>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: the next try may do better.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let calls = service_fn(|request| {
                let service = Arc::clone(&service);
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), calls).await {
                tracing::debug!(%error, "a connection of the ordering service broke");
            }
        });
    }
}

/// A number that a call carries for the demo, in its query or in a field.
fn told(parts: &Parts, query: &str, field: &str) -> Option<u64> {
    let pairs = parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let in_query = pairs.filter(|(name, _)| *name == query).map(|(_, value)| value).next();
    let in_field = || parts.headers.get(field).and_then(|value| value.to_str().ok());
    in_query.or_else(in_field)?.parse().ok()
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, uri: &str) -> Parts {
        let request = Request::builder().method(method).uri(uri).header("session-id", "s").body(()).unwrap();
        request.into_parts().0
    }

    #[test]
    fn an_order_needs_a_configured_offer_and_an_installation_needs_an_order() {
        let service = Service::default();
        let act = |method, uri, body: Value| service.act(&parts(method, uri), &body).0.as_u16();
        assert_eq!(act("POST", "/eligibility", json!({})), 422);
        assert_eq!(act("POST", "/orders", Value::Null), 409);
        assert_eq!(act("PUT", "/configurations/none", Value::Null), 404);
        assert_eq!(act("PUT", "/configurations/fiber-500", json!({ "options": [] })), 200);
        assert_eq!(act("POST", "/installations", Value::Null), 409);
        assert_eq!(act("POST", "/orders", Value::Null), 201);
        assert_eq!(act("POST", "/installations", json!({ "date": "2027-01-15" })), 201);
        assert_eq!(act("DELETE", "/orders", Value::Null), 404);
    }

    #[test]
    fn it_does_as_it_is_told() {
        assert_eq!(told(&parts("GET", "/offers?a=1&delay_ms=20"), "delay_ms", "x"), Some(20));
        assert_eq!(told(&parts("GET", "/offers"), "delay_ms", "x"), None);
        assert_eq!(told(&parts("GET", "/offers?delay_ms=soon"), "delay_ms", "x"), None);
    }
}
