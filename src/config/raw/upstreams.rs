//! Upstreams, and how their names are resolved.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::place::{At, Table};
use super::server::TlsVersion;
use super::values::{Limit, Period};

/// A pool of equal servers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Its name in routes, metrics and logs: letters, digits, `.`, `_`, `-`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// Its servers, `http://host:port` or `https://host:port`, or `{ url = "http://host:port", weight = 2 }`. At least one. Names are followed as
    /// their addresses change. Example: `["http://10.0.0.5:8080"]`.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub endpoints: Vec<At<Server>>,
    /// Which server a call goes to.
    pub balance: BalanceName,
    /// Longest time to a connection. Beyond it: 504.
    pub connect_timeout: At<Period>,
    /// Longest time from the end of the request to the first byte of the response. Beyond it: 504.
    pub response_timeout: At<Period>,
    /// Longest time from the admission of a call to the last byte of its response, or `"off"`. Beyond it: 504, or the
    /// response breaks off.
    pub total_timeout: At<Limit>,
    /// Longest time between two bytes of a response body, or `"off"`. Beyond it the response breaks off.
    pub stall_timeout: At<Limit>,
    /// How long an idle connection is kept. Keep it shorter than the servers do (5 s in Node.js).
    pub idle_timeout: At<Period>,
    /// Most idle connections per worker and endpoint.
    pub max_idle: At<NonZeroU32>,
    /// Most open connections, all workers together; then calls wait, at most `connect_timeout`. Beyond it: 503
    /// `overloaded`. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<At<NonZeroU32>>,
    /// Most calls that wait for a connection; 0: none. Only with `max_connections`. Default: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending: Option<At<u32>>,
    /// Most running calls, all workers together. Beyond it: 503 `overloaded`. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<At<NonZeroU32>>,
    /// The `host` field that the servers see.
    pub host: HostAction,
    /// Active health checks. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Table<HealthCheck>>,
    /// Servers whose calls fail are left out for a while.
    pub ejection: Table<Ejection>,
    /// How long a server that came back takes to its full share: 0 s to 1 h.
    pub slow_start: At<Period>,
    /// How many calls may be sent a second time.
    pub retry_budget: Table<RetryBudget>,
    /// What is spoken with the servers.
    pub protocol: At<ProtocolName>,
    /// HTTP/2 connections to the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2: Option<Table<UpstreamHttp2>>,
    /// TLS with `https://` servers. They are always verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Table<UpstreamTls>>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            name: None,
            endpoints: Vec::new(),
            balance: BalanceName::default(),
            connect_timeout: Period::secs(2).into(),
            response_timeout: Period::secs(30).into(),
            total_timeout: Limit(None).into(),
            stall_timeout: Limit(Some(Period::secs(60))).into(),
            idle_timeout: Period::secs(4).into(),
            max_idle: NonZeroU32::MIN.saturating_add(255).into(),
            max_connections: None,
            max_pending: None,
            max_requests: None,
            host: HostAction::default(),
            health: None,
            ejection: Table::default(),
            slow_start: Period::secs(0).into(),
            retry_budget: Table::default(),
            protocol: ProtocolName::default().into(),
            http2: None,
            tls: None,
        }
    }
}

/// The protocol toward an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProtocolName {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: over TLS by ALPN, over `http://` by prior knowledge.
    Http2,
    /// What the server chooses by ALPN; over `http://` HTTP/1.1.
    Auto,
}

/// HTTP/2 connections to an upstream.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamHttp2 {
    /// Most connections per worker and endpoint. A further one is opened when the calls on the others are as many as the
    /// server allows, or 128 on each. Beyond it: 503, if no call ends within `connect_timeout`.
    pub max_connections: At<NonZeroU32>,
    /// How often a connection that carries calls is asked whether it is still there. gRPC servers close those that ask
    /// more often than every 5 minutes, unless they are told otherwise.
    pub ping_interval: At<Period>,
}

impl Default for UpstreamHttp2 {
    fn default() -> Self {
        Self { max_connections: NonZeroU32::MIN.saturating_add(7).into(), ping_interval: Period::secs(360).into() }
    }
}

/// TLS toward an upstream.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// PEM file of the authorities whose certificates are accepted. Default: those the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<At<String>>,
    /// Name that the server's certificate must be for. Default: the host of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<At<String>>,
    /// PEM file of the certificate chain that the gate shows, leaf first. Needs `key`. Default: it shows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<At<String>>,
    /// PEM file of the private key of `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<At<String>>,
    /// Oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Its share beside the others: 1 to 1000.
    pub weight: u32,
}

impl From<String> for Server {
    fn from(url: String) -> Self {
        Self { url, weight: 1 }
    }
}

/// Its table.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Weighted {
    /// `http://host:port` or `https://host:port`.
    url: String,
    /// Its share beside the others.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    weight: u32,
}

const fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;

        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Server;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("http://host:port, or a table with `url` and `weight`")
            }

            fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<Server, E> {
                Ok(url.to_owned().into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Server, A::Error> {
                let Weighted { url, weight } = Weighted::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Server { url, weight })
            }
        }

        deserializer.deserialize_any(TextOrTable)
    }
}

impl Serialize for Server {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.weight {
            1 => self.url.serialize(serializer),
            weight => Weighted { url: self.url.clone(), weight }.serialize(serializer),
        }
    }
}

impl JsonSchema for Server {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Server".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<Weighted>();
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

/// Which server a call goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceName {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// Of two drawn at random, the one with fewer running calls.
    LeastRequests,
    /// All calls of a session to the same one; without a session, all calls of a client address.
    RingHash,
}

/// The `host` field toward an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostAction {
    /// The client's, so that the upstream can build links.
    #[default]
    Preserve,
    /// That of the endpoint.
    Endpoint,
}

/// Active health checks: each server is asked by GET, once per process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked for, with its query.
    pub path: At<String>,
    /// The `host` field of probes. Default: the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<At<String>>,
    /// Time between two probes, give or take a tenth: 100 ms to 1 h.
    pub interval: At<Period>,
    /// Longest time to the head of the answer, the connection included. At most `interval`.
    pub timeout: At<Period>,
    /// Statuses of a healthy server.
    pub expect: At<Vec<At<u16>>>,
    /// Passed probes in a row after which an unhealthy server gets calls again: 1 to 100.
    pub rise: At<u32>,
    /// Failed probes in a row after which a server gets no more calls: 1 to 100.
    pub fall: At<u32>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/healthz".to_owned().into(),
            host: None,
            interval: Period::secs(2).into(),
            timeout: Period::secs(1).into(),
            expect: vec![At::from(200)].into(),
            rise: 2.into(),
            fall: 3.into(),
        }
    }
}

/// Passive ejection: a server that refuses, breaks off or does not answer several calls in a row gets none for a while,
/// then one to try, and if that is answered all again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ejection {
    /// Whether it is done.
    pub enabled: bool,
    /// Failed calls in a row that eject a server: 1 to 1000.
    pub failures: At<u32>,
    /// Whether an answer of 500 to 599 counts as a failure.
    pub server_errors: bool,
    /// How long the first ejection lasts; each further one twice as long.
    pub base: At<Period>,
    /// How long an ejection lasts at most.
    pub max: At<Period>,
    /// Largest share of the servers that is out at once, in percent: 1 to 100. One always may be. If all that are left
    /// are out, all get calls.
    pub max_percent: At<u32>,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5.into(),
            server_errors: false,
            base: Period::secs(1).into(),
            max: Period::secs(30).into(),
            max_percent: 50.into(),
        }
    }
}

/// How many calls may be sent a second time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    /// Share of the calls of the last ten seconds, in percent: 0 to 100.
    pub percent: At<u32>,
    /// So many per second in any case.
    pub min_per_second: At<u32>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20.into(), min_per_second: 10.into() }
    }
}

/// How names of servers are resolved. IP addresses and `localhost` need no resolver.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resolver {
    /// Name servers, IP addresses with or without a port. Default: those of `/etc/resolv.conf`.
    /// Example: `["10.0.0.53", "127.0.0.1:5353"]`.
    pub servers: Vec<At<String>>,
    /// Longest time to an answer of one server: 10 ms to 1 min.
    pub timeout: At<Period>,
    /// An address is used for at least so long, whatever its TTL says: 100 ms to 24 h.
    pub min_ttl: At<Period>,
    /// A name is asked for again after so long at the latest, whatever its TTL says. At least `min_ttl`.
    pub max_ttl: At<Period>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Period::secs(2).into(),
            min_ttl: Period::secs(1).into(),
            max_ttl: Period::secs(300).into(),
        }
    }
}
