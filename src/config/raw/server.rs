//! The process, its listeners, limits, sessions, refusals and logs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dpop::SenderConstraintName;
use super::issuers::SecretRef;
use super::names::NameList;
use super::place::{At, Table};
use super::rates::SessionBudget;
use super::values::{BodyLimit, Period, Size};

/// The process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Worker threads, each with its own runtime: 1 to 1024. Default: one per core. A change needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<At<usize>>,
    /// The name of this gateway in `via` fields (RFC 9110 section 7.6.3), by which forwarding loops are found. Gateways
    /// that stand one behind the other need different names.
    pub via: At<String>,
    /// Addresses of proxies in front of this gateway that are believed about who the client is (`x-forwarded-for` and
    /// the like). Networks or single addresses. Default: none, and loopback is not an exception.
    /// Example: `["10.0.0.0/8", "192.0.2.7"]`.
    pub trusted_proxies: Vec<At<String>>,
    /// How the process stops.
    pub drain: Table<Drain>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: None,
            via: "sessiongate".to_owned().into(),
            trusted_proxies: Vec::new(),
            drain: Table::default(),
        }
    }
}

/// How the process stops: readiness goes off, after `delay` it accepts no more, at `deadline` it ends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long connections are still accepted after readiness went off. 5 s is usual in Kubernetes.
    pub delay: At<Period>,
    /// How long running calls may take before the process ends anyway.
    pub deadline: At<Period>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Period::secs(0).into(), deadline: Period::secs(30).into() }
    }
}

/// One listening address for calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// IP address and port. A change needs a restart. Example: `"0.0.0.0:8443"`, `"[::]:8443"`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<At<String>>,
    /// Certificates and keys, and what clients show. Default: none, the listener speaks cleartext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Table<Tls>>,
    /// The PROXY protocol, by which a load balancer says whose connection it passes on: the version that is taken.
    /// Every connection must begin with it then. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<At<ProxyVersion>>,
    /// Who may send a PROXY header: networks or single addresses. All others are closed at once. Default:
    /// `server.trusted_proxies`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol_from: Option<At<Vec<At<String>>>>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
    /// Either.
    Any,
}

/// Certificates of a listener, and those of its clients. At least one of `cert` with `key`, and `certs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate chain, leaf first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<At<String>>,
    /// PEM file of the private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<At<String>>,
    /// More certificates. A client gets the one that has the name it asks for; the first of all if none has.
    /// Example: `[{ cert = "tls/shop.pem", key = "tls/shop.key" }]`.
    pub certs: Vec<Table<CertAndKey>>,
    /// Oldest version of TLS that is spoken. Default: `"1.2"`.
    pub min_version: TlsVersion,
    /// PEM file of the authorities that issue client certificates. Default: none, and clients are not asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<At<String>>,
    /// PEM file of revocation lists, one for each issuer of a client certificate. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_crl: Option<At<String>>,
    /// Whether a client must show a certificate. Default: `"required"`, where there is a `client_ca`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<At<ClientAuthMode>>,
    /// Whether upstreams are shown the client's certificate, in `client-cert` (RFC 9440). Default: `false`.
    pub forward_client_cert: At<bool>,
}

/// A certificate chain and its private key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CertAndKey {
    /// PEM file of the certificate chain, leaf first.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<At<String>>,
    /// PEM file of the private key.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<At<String>>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuthMode {
    /// Who has none, or a bad one, is refused in the handshake.
    Required,
    /// A bad one is refused, none is not.
    Optional,
}

/// The operator's listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// IP address and port. A change needs a restart.
    pub address: At<String>,
    /// The bearer token that opens sessions, trails and reload, at least 16 bytes. Default: none, and only health and
    /// metrics are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<At<SecretRef>>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: "127.0.0.1:9901".to_owned().into(), token: None }
    }
}

/// Limits of connections and messages.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest request head: 8 KiB to 1 MiB. Beyond it: 431.
    pub head: At<Size>,
    /// Longest request target: 256 B to 63 KiB, at most `head`. Beyond it: 414.
    pub uri: At<Size>,
    /// Longest request body, where a route has no `max_body`: a size or `"unlimited"`. Beyond it: 413.
    pub body: At<BodyLimit>,
    /// Longest TLS handshake.
    pub handshake_timeout: At<Period>,
    /// Longest time from the first byte of a request head to its last. Beyond it: 408.
    pub head_timeout: At<Period>,
    /// Longest stall of a request body. Beyond it: 408.
    pub body_timeout: At<Period>,
    /// Longest time a client may take no byte of a response.
    pub write_timeout: At<Period>,
    /// How long a client connection may be idle between calls.
    pub idle_timeout: At<Period>,
    /// Most open client connections, all workers together. More wait in the system's queue.
    pub max_connections: At<NonZeroU32>,
    /// Most concurrent streams of an HTTP/2 connection.
    pub h2_streams: At<NonZeroU32>,
    /// Most calls on a connection; the last one is answered with `connection: close`, over HTTP/2 GOAWAY follows.
    /// Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_connection: Option<At<NonZeroU32>>,
    /// Slowest request body, in bytes per second of waiting for it, after 5 seconds of that. Beyond it: 408. Bodies
    /// that stay open, as of gRPC streams, fall under it too. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_rate: Option<At<Size>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Size::kib(32).into(),
            uri: Size::kib(8).into(),
            body: BodyLimit(Some(Size::kib(10 * 1024))).into(),
            handshake_timeout: Period::secs(10).into(),
            head_timeout: Period::secs(10).into(),
            body_timeout: Period::secs(30).into(),
            write_timeout: Period::secs(30).into(),
            idle_timeout: Period::secs(60).into(),
            max_connections: NonZeroU32::MIN.saturating_add(32_767).into(),
            h2_streams: NonZeroU32::MIN.saturating_add(127).into(),
            requests_per_connection: None,
            body_rate: None,
        }
    }
}

/// Sessions.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Longest time between two admitted calls of a session. At most `absolute`.
    pub idle: At<Period>,
    /// Longest time from the opening of a session to its end.
    pub absolute: At<Period>,
    /// Most live sessions of one client; at the cap `POST /session` gets 429. Default: no cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_live_per_client: Option<At<NonZeroU32>>,
    /// What one session may use up. Default: any number of calls and bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Table<SessionBudget>>,
    /// Status of a successful `POST /session`: 201 or 200.
    #[schemars(extend("enum" = [201, 200]))]
    pub create_status: At<u16>,
    /// How long the end of a session is remembered, so that its owner is told why it ended.
    pub tombstone: Table<Tombstone>,
    /// What becomes of a session that others try to use: callers with a good token of another issuer, client or subject.
    /// They get 404 in any case. Default: nothing, it is logged and counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_foreign_use: Option<Table<OnForeignUse>>,
    /// How long an `idempotency-key` of `POST /session` is remembered.
    pub idempotency_ttl: At<Period>,
    /// Scopes that the session endpoint demands. Default: none.
    pub scopes: At<NameList>,
    /// What tokens must be bound to at the session endpoint. Default: nothing; a token that is bound is held to it in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_constraint: Option<SenderConstraintName>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            idle: Period::secs(30 * 60).into(),
            absolute: Period::secs(4 * 3600).into(),
            max_live_per_client: None,
            budget: None,
            create_status: 201.into(),
            tombstone: Table::default(),
            on_foreign_use: None,
            idempotency_ttl: Period::secs(10 * 60).into(),
            scopes: At::default(),
            sender_constraint: None,
        }
    }
}

/// The suspension of a session that others try to use. Only the operator lets it go on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OnForeignUse {
    /// It is suspended at this many foreign uses: 1 to 10000.
    #[schemars(range(min = 1, max = 10000))]
    pub suspend_after: At<u16>,
    /// How long foreign uses count, from the first one on.
    pub within: At<Period>,
}

impl Default for OnForeignUse {
    fn default() -> Self {
        Self { suspend_after: 5.into(), within: Period::secs(60).into() }
    }
}

/// The memory of ended sessions.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tombstone {
    /// How long an end is remembered.
    pub ttl: At<Period>,
    /// Most ends that are remembered; 0 for none.
    pub max: At<u32>,
}

impl Default for Tombstone {
    fn default() -> Self {
        Self { ttl: Period::secs(24 * 3600).into(), max: 100_000.into() }
    }
}

/// How refusals are shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Errors {
    /// Base of problem types (RFC 9457 section 3.1.1): an absolute URI, to which the problem code is appended.
    pub type_base: At<String>,
    /// Other statuses than the usual ones, by problem code: 400 to 599. Default: none.
    /// Example: `{ "session-expired" = 410 }`.
    pub status: BTreeMap<At<String>, At<u16>>,
}

impl Default for Errors {
    fn default() -> Self {
        Self { type_base: "https://sessiongate.dev/problems/".to_owned().into(), status: BTreeMap::new() }
    }
}

/// Logging.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// One line per call: `"stdout"`, `"off"`, or the path of a file (with a `/` in it) to append to. A change needs a
    /// restart.
    pub access: At<String>,
    /// The form of log lines. A change needs a restart.
    pub format: LogFormatName,
    /// How sessions are named in logs.
    pub session_id: SessionIdForm,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            access: "stdout".to_owned().into(),
            format: LogFormatName::default(),
            session_id: SessionIdForm::default(),
        }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormatName {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// How sessions are named in logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SessionIdForm {
    /// By their key, a digest of the session-id that opens nothing.
    #[default]
    Key,
    /// By the session-id itself. Whoever reads the log can then act in the session, given a token.
    Clear,
}
