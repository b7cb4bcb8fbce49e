//! What a configuration compiles to: everything a call needs, immutable, swapped as a whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use ipnet::IpNet;

use super::clients::Registry;
use crate::auth::Authenticator;
use crate::auth::dpop::DpopRules;
use crate::policy::claims::Caller;
use crate::policy::clients::Registered;
use crate::policy::fields::FieldNames;
use crate::policy::flow::Flows;
use crate::policy::method::MethodSet;
use crate::policy::overload::OverloadRule;
use crate::policy::rates::RateRules;
use crate::policy::rejection::{Rejection, Row};
use crate::policy::route::RouteTable;
use crate::policy::session::{Budget, ForeignUseRule, Lifetimes};
use crate::trail::config::TrailConfig;
use crate::upstream::{PoolConfig, ResolverConfig};

/// One listening address for calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// What TLS needs; none: cleartext.
    pub tls: Option<TlsConfig>,
    /// Whether load balancers say whose connection it is; none: connections are the peer's.
    pub proxy: Option<ProxyConfig>,
}

/// Versions of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyVersions {
    /// Version 1, a line of text.
    pub v1: bool,
    /// Version 2, binary.
    pub v2: bool,
}

/// The PROXY protocol of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The versions that are taken.
    pub versions: ProxyVersions,
    /// Who may speak it; none: the trusted proxies.
    pub senders: Option<Vec<IpNet>>,
}

/// TLS of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates; the first one answers for names that are in none of them.
    pub certificates: Vec<TlsFiles>,
    /// Whether clients show certificates; none: they are not asked.
    pub clients: Option<ClientAuth>,
    /// Whether TLS 1.2 is refused.
    pub tls13_only: bool,
}

/// How client certificates are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// PEM file of the authorities that issue them.
    pub authorities: PathBuf,
    /// PEM file of revocation lists.
    pub revoked: Option<PathBuf>,
    /// Whether a client without one is refused.
    pub required: bool,
    /// Whether upstreams are shown the certificate (RFC 9440).
    pub forward: bool,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The operator's listener.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bearer token that opens more than health and metrics; none: nothing more is open.
    pub token: Option<secrecy::SecretString>,
}

/// Limits of connections and messages; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Longest request head.
    pub head: usize,
    /// Longest request target.
    pub uri: usize,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest time from the first byte of a head to its last.
    pub head_timeout: Duration,
    /// Longest stall of a request body.
    pub body_timeout: Duration,
    /// Longest time a client may take no byte of a response.
    pub write_timeout: Duration,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// Most open client connections, all workers together.
    pub max_connections: usize,
    /// Most concurrent streams of an HTTP/2 connection.
    pub h2_streams: u32,
    /// Most calls on a connection; none: no limit.
    pub requests_per_connection: Option<NonZeroU32>,
    /// Bytes per second that a request body must come at; none: any.
    pub body_rate: Option<NonZeroU64>,
}

/// How sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionConfig {
    /// How long they live.
    pub lifetimes: Lifetimes,
    /// Most live sessions of one client; none: no cap.
    pub max_live_per_client: Option<u32>,
    /// What one session may use up; none: any number of calls and bytes.
    pub budget: Option<Budget>,
    /// When a session that others try to use is suspended; none: never.
    pub on_foreign_use: Option<ForeignUseRule>,
    /// Status of a successful `POST /session`: 201 or 200.
    pub create_status: StatusCode,
    /// How long the end of a session is remembered for its owner.
    pub tombstone_ttl: Duration,
    /// Most ended sessions that are remembered.
    pub tombstone_max: usize,
    /// How long an Idempotency-Key of `POST /session` is remembered.
    pub idempotency_ttl: Duration,
}

/// How refusals are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorConfig {
    /// Base of problem types; the code is appended.
    pub type_base: Box<str>,
    /// Statuses other than the table's, by code.
    pub status: HashMap<&'static str, StatusCode>,
}

impl ErrorConfig {
    /// The status of a refusal.
    #[must_use]
    pub fn status(&self, rejection: Rejection) -> StatusCode {
        let Row { code, status, .. } = rejection.row();
        if self.status.is_empty() { *status } else { self.status.get(code).copied().unwrap_or(*status) }
    }
}

/// Cross-origin resource sharing (Fetch standard).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    /// For calls that no route takes; none: nothing is shared.
    pub unrouted: Option<Arc<CorsConfig>>,
    /// By the number of the route.
    pub routes: Vec<Option<Arc<CorsConfig>>>,
}

/// What is shared with pages of other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsConfig {
    /// With whom.
    pub origins: Origins,
    /// Methods that their scripts may use.
    pub methods: MethodSet,
    /// Request fields that they may send, beside those that the gateway demands.
    pub headers: Vec<HeaderName>,
    /// Response fields that they may read, beside the ids.
    pub expose: Vec<HeaderName>,
    /// Whether browsers send cookies and certificates.
    pub credentials: bool,
    /// How long browsers may remember a preflight.
    pub max_age: Duration,
}

/// Origins of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// These, exactly or as `https://*.example.com`.
    Listed(Vec<Box<str>>),
}

impl Origins {
    /// Whether an `origin` field is one of them.
    #[must_use]
    pub fn contains(&self, origin: &[u8]) -> bool {
        let Self::Listed(listed) = self else { return true };
        listed.iter().any(|known| match known.split_once('*') {
            None => known.as_bytes() == origin,
            Some((scheme, domain)) => {
                let name = origin.strip_prefix(scheme.as_bytes()).and_then(|rest| rest.strip_suffix(domain.as_bytes()));
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
                name.is_some_and(|name| !name.is_empty() && name.iter().all(is_name))
            }
        })
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To this file, appended.
    File(PathBuf),
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// One line per call.
    pub access: AccessLog,
    /// The form of both logs.
    pub format: LogFormat,
    /// Whether session-ids are shown instead of session keys.
    pub clear_session_ids: bool,
}

/// A whole valid configuration. What is fixed at start (listeners, admin address, workers, logs) is here too, so that
/// a reload can say that it changed.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the snapshots of this process, from 1.
    pub generation: u64,
    /// Worker threads; none: one per core.
    pub workers: Option<usize>,
    /// Listeners for calls; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// The operator's listener.
    pub admin: Option<AdminConfig>,
    /// How long a drain may last.
    pub drain_deadline: Duration,
    /// How long the gate still accepts after readiness is off.
    pub drain_delay: Duration,
    /// Limits.
    pub limits: LimitsConfig,
    /// The names of fields.
    pub names: FieldNames,
    /// All routes; number 0 is the session endpoint.
    pub routes: RouteTable,
    /// How fast calls may come.
    pub rates: RateRules,
    /// How many calls may run at once; none: any number.
    pub overload: Option<OverloadRule>,
    /// The order of steps in sessions.
    pub flows: Flows,
    /// Upstream pools, in the order of their numbers.
    pub pools: Vec<PoolConfig>,
    /// How names of endpoints are resolved.
    pub resolver: ResolverConfig,
    /// Identifies callers.
    pub auth: Authenticator,
    /// How proofs of possession are judged.
    pub dpop: DpopRules,
    /// Clients that may call; none: all of them.
    pub clients: Option<Registry>,
    /// Sessions.
    pub sessions: SessionConfig,
    /// Peers that are believed about who the client is.
    pub trusted_proxies: Vec<IpNet>,
    /// What pages of other origins may do.
    pub cors: Cors,
    /// Refusals.
    pub errors: ErrorConfig,
    /// Logging.
    pub logs: LogConfig,
    /// The trail; none: no record of calls is kept.
    pub trail: Option<TrailConfig>,
    /// The pseudonym in `via`.
    pub via: Arc<str>,
}

impl Snapshot {
    /// What the registry of clients makes of a caller; without one every client may call.
    #[must_use]
    pub fn register(&self, caller: Arc<Caller>) -> Registered {
        match &self.clients {
            Some(registry) => registry.clients().register(caller, self.auth.scopes()),
            None => Registered::unlisted(caller),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_names_below_and_for_nothing_else() {
        let origins = Origins::Listed(vec!["https://shop.example".into(), "https://*.shop.example".into()]);
        for (origin, known) in [
            ("https://shop.example", true),
            ("https://a.shop.example", true),
            ("https://a.b.shop.example", true),
            ("https://.shop.example", false),
            ("https://ashop.example", false),
            ("http://a.shop.example", false),
            ("https://evil.test/.shop.example", false),
            ("https://evil.test:1@a.shop.example", false),
            ("https://shop.example:8443", false),
            ("https://shop.example.evil.test", false),
            ("null", false),
        ] {
            assert_eq!(origins.contains(origin.as_bytes()), known, "{origin}");
        }
    }
}
