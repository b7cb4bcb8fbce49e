//! The rules of the six required header fields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::{At, Table};

/// Rules of the six required header fields. In a route these overrule the ones of the file, field by field; names,
/// aliases and `identity` hold for the whole gateway and cannot be set there.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Headers {
    /// The rules to start from. Default: `"strict"`; in a route: that of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ConfigMode>,
    /// Further fields that tell upstreams who the caller is. They are removed from every call, whoever sent it.
    /// `x-sg-*`, `x-user`, `remote-user` and the like always are. Example: `["x-tenant"]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identity: Vec<At<String>>,
    /// The access token. Name: `authorization`. Required: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Table<RuledHeader>>,
    /// The client application. Name: `client-id`. Required: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Table<RuledHeader>>,
    /// The session. Name: `session-id`. Required: except-create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Table<RuledHeader>>,
    /// Ties the calls of one business operation together. Name: `x-correlation-id`; aliases: `correlation-id`,
    /// `x-transaction-id`, `x-trace-id`, `x-correlator`. Required: except-create. If missing: reject (strict) or
    /// generate (lenient).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Table<RuledHeader>>,
    /// Media type of the body. Name: `content-type`. Required: with-body. Severity: enforce (strict) or off (lenient).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Table<RuledHeader>>,
    /// Media types the client takes. Name: `accept`. Required: except-create. Severity: enforce (strict) or off
    /// (lenient).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<Table<RuledHeader>>,
    /// Makes a repeated `POST /session` safe. Name: `idempotency-key`. Only `name` and `aliases` can be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Table<RuledHeader>>,
}

/// The rule of one header field. What is not set stays as the mode has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuledHeader {
    /// The name of the field, from clients and toward upstreams. Not in routes. Example: `"x-session-id"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// Other names under which clients may send it; they replace the default ones. Not in routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aliases: Option<Vec<At<String>>>,
    /// The calls on which it must be there. Fixed for `authorization`, `client-id` and `session-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_on: Option<At<Requirement>>,
    /// A regular expression that the whole value must match, beyond the form the field has anyway. For `authorization`
    /// the value is the token. Example: `"[A-Z]{2}-[0-9]+"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<At<String>>,
    /// Longest value in bytes. Default and most: 8192 for `authorization` (of its token), 128 for `client-id` and
    /// `correlation-id`, 36 for `session-id`. Default 256 for `content-type`, 1024 for `accept`; most 8192.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_len: Option<At<usize>>,
    /// What its absence leads to. Only `correlation-id` can be generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_missing: Option<At<MissingAction>>,
    /// What a violation leads to. Fixed for `authorization`, `client-id` and `session-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<At<RuleSeverity>>,
    /// Only `content-type` and `accept`: media types that are taken or produced, each with at most one `*`. Default:
    /// `["application/json", "application/*+json"]`. Example: `["application/grpc*"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<At<Vec<At<String>>>>,
}

/// The rules to start from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigMode {
    /// All six fields are demanded on every call but `POST /session`; `content-type` only where there is a body.
    #[default]
    Strict,
    /// `authorization`, `client-id` and `session-id` are demanded, a missing correlation-id is generated,
    /// `content-type` and `accept` are not looked at.
    Lenient,
}

/// The calls on which a field must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// Every call.
    Always,
    /// Every call but `POST /session`.
    ExceptCreate,
    /// Calls with a body.
    WithBody,
    /// No call.
    Never,
}

/// What an absent field leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingAction {
    /// The call is refused.
    Reject,
    /// The gateway makes a value.
    Generate,
}

/// What a broken rule leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSeverity {
    /// The rule is not looked at.
    Off,
    /// The call passes; the violation is counted and recorded.
    Observe,
    /// As `observe`, and a response field names the violation.
    Warn,
    /// The call is refused.
    Enforce,
}
