//! How fast calls may come.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::RuleSeverity;
use super::place::At;
use super::values::{Period, Size};

/// How fast calls may come: so many in a time, of which so many at once. Beyond it: 429.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// The name of the rule, for clients, logs and metrics. Its buckets outlive reloads under it.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// Whose calls share a bucket.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<At<PerName>>,
    /// Calls in each `window`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<At<NonZeroU32>>,
    /// The time that `requests` are for: 1 ms to 24 h.
    pub window: At<Period>,
    /// Calls that may come at once, before the rate holds. Default: `requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<At<NonZeroU32>>,
    /// Names of the routes whose calls count; `"session"` is the session endpoint, but for DELETE, which is never refused.
    /// Default: all that are not exempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<At<Vec<At<String>>>>,
    /// What happens to calls beyond it.
    pub severity: RuleSeverity,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            name: None,
            per: None,
            requests: None,
            window: Period::secs(1).into(),
            burst: None,
            routes: None,
            severity: RuleSeverity::Enforce,
        }
    }
}

/// Whose calls share a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PerName {
    /// Those of one session.
    Session,
    /// Those of one client.
    Client,
    /// Those from one address: from one network of 64 bits in IPv6. Behind `server.trusted_proxies` it is the address they say.
    Address,
    /// Those on one route.
    Route,
    /// All that the rule is for.
    All,
}

/// What one session may use up in its life. Beyond it: 429.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionBudget {
    /// Calls. Those of the session endpoint count, and are never refused. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<At<NonZeroU32>>,
    /// Bytes of request and response bodies together. Judged when a call comes: the last one may go beyond. Default: any
    /// number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<At<Size>>,
    /// What happens to calls beyond it.
    pub severity: RuleSeverity,
}

impl Default for SessionBudget {
    fn default() -> Self {
        Self { calls: None, bytes: None, severity: RuleSeverity::Enforce }
    }
}
