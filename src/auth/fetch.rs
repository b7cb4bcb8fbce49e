//! Calls of the gate's own: to where issuers publish their keys, and to where they tell of tokens. Bounded in time and
//! size; redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

/// Largest answer, in bytes.
pub const BODY_MAX: usize = 256 * 1024;

/// How long a connection is kept for the next call: shorter than servers keep theirs.
const IDLE: Duration = Duration::from_secs(4);

/// Whom such calls trust. Two are equal if they trust the same.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    fingerprint: [u8; 32],
}

impl Trust {
    /// What TLS needs, and what tells it from others.
    #[must_use]
    pub const fn new(config: Arc<ClientConfig>, fingerprint: [u8; 32]) -> Self {
        Self { config, fingerprint }
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// How an issuer is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    /// Whom to trust; none: no `https://` address can be reached.
    pub trust: Option<Trust>,
    /// Whether `http://` may be spoken with other hosts than this one.
    pub allow_http: bool,
    /// Longest time of one call, from the connection to the last byte.
    pub timeout: Duration,
}

impl Reach {
    /// Whether an address may be called.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn permits(&self, url: &Url) -> Result<(), &'static str> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds credentials");
        }
        match url.scheme() {
            "https" if self.trust.is_some() => Ok(()),
            "https" => Err("needs TLS, for which nothing is set up"),
            "http" if self.allow_http || is_loopback(url) => Ok(()),
            "http" => Err("is not encrypted, and not on this host"),
            _ => Err("is neither https:// nor http://"),
        }
    }
}

/// Whether an address is on this host.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Why there was no answer, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url} {why}")]
    NotPermitted { url: Url, why: &'static str },
    #[error("{url}: no answer within {timeout:?}")]
    Timeout { url: Url, timeout: Duration },
    #[error("{url}: {reason}")]
    Transport { url: Url, reason: String },
    #[error("{url}: the answer is broken or larger than {BODY_MAX} bytes")]
    Body { url: Url },
    #[error("{url} answers {status}; redirects are not followed")]
    Redirect { url: Url, status: StatusCode },
    #[error("{url} answers {status}")]
    Status { url: Url, status: StatusCode },
    #[error("{url}: {reason}")]
    Content { url: Url, reason: String },
}

/// An answer, 200 or 304.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) unchanged: bool,
    pub(super) etag: Option<HeaderValue>,
    /// How long it may be kept, as the server says.
    pub(super) max_age: Option<Duration>,
    pub(super) body: Bytes,
}

/// A client for one issuer.
pub(super) struct Fetcher {
    reach: Reach,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Fetcher {
    pub(super) fn new(reach: Reach) -> Self {
        let tls = reach.trust.as_ref().map_or_else(trusting_nobody, |trust| ClientConfig::clone(&trust.config));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(reach.timeout));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(4)
            .build(connector.wrap_connector(tcp));
        Self { reach, client }
    }

    /// Fetches a JSON document, unless it is still the one with this tag.
    pub(super) async fn get(&self, url: &Url, etag: Option<&HeaderValue>) -> Result<Answer, FetchError> {
        let mut request = Request::get(url.as_str());
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        self.send(url, request, Bytes::new()).await
    }

    /// Posts a form.
    pub(super) async fn post(
        &self,
        url: &Url,
        authorization: &HeaderValue,
        form: String,
    ) -> Result<Answer, FetchError> {
        let request = Request::post(url.as_str())
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(url, request, form.into()).await
    }

    async fn send(&self, url: &Url, request: http::request::Builder, body: Bytes) -> Result<Answer, FetchError> {
        self.reach.permits(url).map_err(|why| FetchError::NotPermitted { url: url.clone(), why })?;
        let request = request.header(header::ACCEPT, "application/json").header(header::USER_AGENT, "sessiongate");
        let transport = |reason: String| FetchError::Transport { url: url.clone(), reason };
        let request = request.body(Full::new(body)).map_err(|error| transport(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| transport(causes(&error)))?;
            let status = response.status();
            match status {
                StatusCode::OK | StatusCode::NOT_MODIFIED => {}
                status if status.is_redirection() => {
                    return Err(FetchError::Redirect { url: url.clone(), status });
                }
                status => return Err(FetchError::Status { url: url.clone(), status }),
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY_MAX).collect().await;
            let body = body.map_err(|_| FetchError::Body { url: url.clone() })?.to_bytes();
            Ok(Answer {
                unchanged: status == StatusCode::NOT_MODIFIED,
                etag: head.headers.get(header::ETAG).cloned(),
                max_age: head.headers.get(header::CACHE_CONTROL).and_then(max_age),
                body,
            })
        };
        let timeout = self.reach.timeout;
        let answered = tokio::time::timeout(timeout, exchange).await;
        answered.unwrap_or_else(|_| Err(FetchError::Timeout { url: url.clone(), timeout }))
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// An error of the client with what lies beneath it, which says more.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        text = format!("{text}: {cause}");
        beneath = cause.source();
    }
    text
}

/// `max-age` of a `cache-control` field (RFC 9111 section 5.2.2.1); zero where it must not be kept.
fn max_age(value: &HeaderValue) -> Option<Duration> {
    let directives = value.to_str().ok()?.split(',').map(|directive| directive.trim().to_ascii_lowercase());
    let mut found = None;
    for directive in directives {
        match directive.split_once('=') {
            None if matches!(&*directive, "no-store" | "no-cache") => return Some(Duration::ZERO),
            Some(("max-age", secs)) => {
                found = secs.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
            _ => {}
        }
    }
    found
}

fn trusting_nobody() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.unwrap_or_else(|_| ClientConfig::builder());
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_answer_may_be_kept_is_read_with_care() {
        for (text, secs) in [
            ("max-age=60", Some(60)),
            ("public, Max-Age=\"5\" , must-revalidate", Some(5)),
            ("max-age=60, no-cache", Some(0)),
            ("no-store", Some(0)),
            ("max-age=-1", None),
            ("max-age=99999999999999999999", None),
            ("s-maxage=1", None),
            ("", None),
        ] {
            assert_eq!(max_age(&HeaderValue::from_str(text).unwrap()), secs.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn cleartext_stays_on_this_host_unless_it_may_leave() {
        let reach = |allow_http| Reach { trust: None, allow_http, timeout: Duration::from_secs(1) };
        for (url, here) in [
            ("http://127.0.0.1:1/", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]/", true),
            ("http://localhost:8080/x", true),
            ("http://LocalHost./", true),
            ("http://localhost.example/", false),
            ("http://10.0.0.1/", false),
            ("http://127.0.0.1.nip.example/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(reach(false).permits(&url).is_ok(), here, "{url}");
            assert!(reach(true).permits(&url).is_ok(), "{url}");
        }
        for url in ["ftp://localhost/", "http://u:p@localhost/", "file:///etc/passwd", "https://login.example/"] {
            assert!(reach(true).permits(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
    }
}
