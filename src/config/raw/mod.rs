//! The file as written. Every field is documented here, once: the JSON Schema, editors and the reference show these
//! texts, and `Default` is the one place of each default.
//!
//! Reading a file checks its shape only: keys, types, the spelling of words. What a value means, alone and beside
//! others, is for `compile` to judge; so most fields are wrapped in [`At`], which knows their place.

mod clients;
mod cors;
mod dpop;
mod flows;
mod headers;
mod issuers;
mod names;
mod overload;
mod place;
mod rates;
mod routes;
mod server;
mod tokens;
mod upstreams;
mod values;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use clients::Clients;
pub use cors::Cors;
pub use dpop::{Dpop, SenderConstraintName};
pub use flows::{Flow, FlowStep, IdempotencyRule};
pub use headers::{ConfigMode, Headers, MissingAction, Requirement, RuleSeverity, RuledHeader};
pub use issuers::{
    ClientClaimName, Introspection, Issuer, Key, KeySet, ScopeClaimName, SecretRef, SignatureAlgorithm, TokenTypeName,
};
pub use names::NameList;
pub use overload::Overload;
pub use place::{At, Table};
pub use rates::{PerName, RateLimit, SessionBudget};
pub use routes::{AuthorizationAction, RetryAction, Route};
pub use server::{Admin, Drain, Errors, Limits, Listener, Logs, Server};
pub use server::{CertAndKey, ClientAuthMode, ProxyVersion, Tls, TlsVersion};
pub use server::{LogFormatName, OnForeignUse, SessionIdForm, Sessions, Tombstone};
pub use tokens::{SigningKey, Tokens};
pub use upstreams::Server as UpstreamServer;
pub use upstreams::{
    BalanceName, Ejection, HealthCheck, HostAction, ProtocolName, Resolver, RetryBudget, Upstream, UpstreamHttp2,
    UpstreamTls,
};
pub use values::{BodyLimit, Count, Limit, Period, Size};

/// The version of the file format that this program reads.
pub const VERSION: i64 = 1;

/// Configuration of sessiongate, a session-enforcing API gateway.
///
/// Durations are text with a unit (`"30s"`, `"5m"`, `"1h30m"`), sizes are text with a unit (`"64KiB"`, `"10MiB"`) or a
/// number of bytes. Secrets are never written here; they come from a file or an environment variable. Relative file
/// paths start at the folder of this file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "sessiongate configuration")]
pub struct File {
    /// Version of the file format. Always 1.
    #[schemars(range(min = 1, max = 1), extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<At<i64>>,
    /// The process: workers, trusted proxies, drain.
    pub server: Table<Server>,
    /// Where calls come in. At least one.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub listeners: Vec<Table<Listener>>,
    /// The operator's own listener: health, metrics, sessions. Without this table there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Table<Admin>>,
    /// Limits of connections and messages.
    pub limits: Table<Limits>,
    /// Sessions: how long they live, and what opening one demands.
    pub sessions: Table<Sessions>,
    /// Rules of the six required header fields, for all routes.
    pub headers: Table<Headers>,
    /// Authorization servers whose tokens are accepted. At least one.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub issuers: Vec<Table<Issuer>>,
    /// Clients that were onboarded. Default: every client of a valid token is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<Table<Clients>>,
    /// Tokens that the gate issues to its sessions. Without this table `POST /session` gives the token back that opened
    /// the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Table<Tokens>>,
    /// How proofs of possession (DPoP, RFC 9449) are judged.
    pub dpop: Table<Dpop>,
    /// How names of upstream servers are resolved.
    pub resolver: Table<Resolver>,
    /// Pools of servers that calls are forwarded to. At least one.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub upstreams: Vec<Table<Upstream>>,
    /// Which call goes where, and what it must show. At least one; `/session` is always there and is not listed.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub routes: Vec<Table<Route>>,
    /// In which order the calls of a session come. Default: in any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<Table<Flow>>,
    /// How many calls may run at once. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overload: Option<Table<Overload>>,
    /// How fast calls may come. Default: as fast as they like.
    pub rate_limits: Vec<Table<RateLimit>>,
    /// What pages of other origins may do, on all routes without a table of their own. Default: nothing is shared here,
    /// and preflights are calls like others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Table<Cors>>,
    /// How refusals are shown.
    pub errors: Table<Errors>,
    /// The access log and the form of log lines.
    pub logs: Table<Logs>,
}
