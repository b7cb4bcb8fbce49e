//! Pools as configured.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::tls::TlsClient;

/// What becomes of the `host` field toward an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostField {
    /// The client's goes on, so that the upstream can build links.
    Preserve,
    /// The endpoint's own authority is written.
    Endpoint,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or IP address, without brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// `host:port` as written in `host` fields.
    pub authority: HeaderValue,
    /// Whether it is reached over TLS.
    pub tls: bool,
}

impl Endpoint {
    /// `host:port`, for metrics and logs.
    #[must_use]
    pub fn label(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// How a pool chooses an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// Of two drawn at random the one with fewer running calls.
    LeastRequests,
    /// By session: all calls of one go to one endpoint.
    RingHash,
}

/// Active health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// What is asked for.
    pub path: PathAndQuery,
    /// The `host` field, if not the endpoint's own.
    pub host: Option<HeaderValue>,
    /// Time between two probes of one endpoint.
    pub interval: Duration,
    /// Longest time to the head of the answer, the connection included.
    pub timeout: Duration,
    /// Statuses of a healthy endpoint.
    pub expect: Vec<u16>,
    /// Passed probes in a row that make an unhealthy endpoint healthy.
    pub rise: u32,
    /// Failed probes in a row that make a healthy endpoint unhealthy.
    pub fall: u32,
}

/// Passive ejection: what calls find out about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionConfig {
    /// Failed calls in a row that eject an endpoint.
    pub failures: u32,
    /// Whether an answer of 500 to 599 is a failure.
    pub server_errors: bool,
    /// How long the first ejection lasts; each further one twice as long.
    pub base: Duration,
    /// How long one lasts at most.
    pub max: Duration,
    /// Largest share of the endpoints that is ejected at once, in percent; one always may be.
    pub max_percent: u32,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            server_errors: false,
            base: Duration::from_secs(1),
            max: Duration::from_secs(30),
            max_percent: 50,
        }
    }
}

/// What may be open and run at once, all workers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Most connections.
    pub max_connections: Option<NonZeroU32>,
    /// Most running calls.
    pub max_requests: Option<NonZeroU32>,
    /// Most calls that wait for a connection when there are `max_connections`.
    pub max_pending: u32,
}

/// How many calls may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Share of the calls of the last ten seconds, in percent.
    pub percent: u32,
    /// So many per second in any case, all workers together.
    pub min_per_second: u32,
}

/// What is spoken with the endpoints of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: over TLS by ALPN, in cleartext by prior knowledge (RFC 9113 section 3).
    Http2,
    /// What the endpoint chooses by ALPN; in cleartext HTTP/1.1.
    Auto,
}

/// How a pool speaks with its endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transport {
    /// For endpoints that are reached over TLS.
    pub tls: Option<TlsClient>,
    /// What is spoken.
    pub protocol: Protocol,
    /// HTTP/2 connections.
    pub http2: Http2Config,
}

/// HTTP/2 connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Config {
    /// Most connections per worker and endpoint; a further one is opened when all streams of the others are in use.
    pub max_connections: usize,
    /// How often a connection that carries calls is asked whether it is still there.
    pub ping_interval: Duration,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self { max_connections: 8, ping_interval: Duration::from_secs(360) }
    }
}

/// A pool of equal endpoints, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name: label of metrics and logs.
    pub name: Arc<str>,
    /// Its endpoints; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Their weights, in the same order; where one is missing it is 1.
    pub weights: Vec<u32>,
    /// How one is chosen.
    pub balance: Balance,
    /// Longest time to a connection.
    pub connect_timeout: Duration,
    /// Longest time from the end of the request to the first byte of the response.
    pub response_timeout: Duration,
    /// Longest time from the admission of a call to the last byte of its response.
    pub total_timeout: Option<Duration>,
    /// Longest time between two bytes of a response body.
    pub stall_timeout: Option<Duration>,
    /// How long an idle connection is kept; shorter than the upstream keeps it.
    pub idle_timeout: Duration,
    /// Most idle connections per worker and endpoint.
    pub max_idle: usize,
    /// The `host` field.
    pub host: HostField,
    /// Active health checks.
    pub probe: Option<ProbeConfig>,
    /// Passive ejection.
    pub ejection: Option<EjectionConfig>,
    /// How long an endpoint that came back takes to its full share.
    pub slow_start: Duration,
    /// Limits.
    pub breaker: BreakerConfig,
    /// Retries.
    pub budget: BudgetConfig,
    /// TLS and HTTP/2.
    pub transport: Transport,
}

impl PoolConfig {
    /// A pool of these endpoints with usual settings.
    #[must_use]
    pub fn new(name: &str, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name: name.into(),
            endpoints,
            weights: Vec::new(),
            balance: Balance::default(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(30),
            total_timeout: None,
            stall_timeout: Some(Duration::from_secs(60)),
            idle_timeout: Duration::from_secs(4),
            max_idle: 256,
            host: HostField::Preserve,
            probe: None,
            ejection: Some(EjectionConfig::default()),
            slow_start: Duration::ZERO,
            breaker: BreakerConfig { max_connections: None, max_requests: None, max_pending: 1024 },
            budget: BudgetConfig { percent: 20, min_per_second: 10 },
            transport: Transport::default(),
        }
    }

    /// The weight of an endpoint, by its place.
    pub(super) fn weight(&self, place: usize) -> u32 {
        self.weights.get(place).copied().unwrap_or(1)
    }
}

#[cfg(test)]
impl PoolConfig {
    /// A pool of so many endpoints, where nobody listens.
    pub(super) fn of(count: u16) -> Self {
        let authority = HeaderValue::from_static("origin");
        let endpoint = |port| Endpoint { host: "127.0.0.1".into(), port, authority: authority.clone(), tls: false };
        Self::new("shop", (1..=count).map(endpoint).collect())
    }
}
