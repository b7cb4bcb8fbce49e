//! The order of steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::RuleSeverity;
use super::names::NameList;
use super::place::{At, Table};
use super::routes::MethodName;
use super::values::Period;

/// A flow: steps and what must come before each. A session follows the flow it was opened with until it ends, whatever a
/// reload changes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    /// Its name in state objects, metrics and logs: letters, digits, `.`, `_`, `-`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// Clients whose sessions follow it. Default: all that no other flow names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<At<String>>,
    /// Its steps, 1 to 32.
    #[schemars(length(min = 1, max = 32), extend("x-required" = true))]
    pub steps: Vec<Table<FlowStep>>,
}

/// A step: which calls it is, and when they may come.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FlowStep {
    /// Its name in refusals, state objects, metrics and logs, and toward upstreams: letters, digits, `.`, `_`, `-`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// Names of the routes whose calls it is. Calls of routes that no step names come in any order.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub routes: Vec<At<String>>,
    /// The methods that it is. Default: those of its routes that change something; of routes that only read, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<MethodName>>")]
    pub methods: Option<At<Vec<At<String>>>>,
    /// Steps that must have been done before: a list of all of them, or `{ all = [..], any = [..] }`. Default: none.
    pub after: At<NameList>,
    /// Whether it may be done again once it was done.
    pub repeat: At<bool>,
    /// Whether nothing else may be changed in the session while it runs, or while its outcome is unknown.
    pub exclusive: At<bool>,
    /// How often it may be tried in a session, failures included: 1 to 255. At most eight steps of a flow have this.
    /// Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<At<u16>>,
    /// Shortest time since the step before, or since the opening of the session. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gap: Option<At<Period>>,
    /// Longest time since the step before, or since the opening of the session. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gap: Option<At<Period>>,
    /// Whether it is the last one: after it no step can be done.
    pub terminal: At<bool>,
    /// Only with `terminal`: for how long after it calls of steps that only read are still taken. Default: `"15m"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_grace: Option<At<Period>>,
    /// What it has to do with the `idempotency-key` field. Default: `"optional"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<At<IdempotencyRule>>,
    /// What a call that breaks one of these rules leads to. Default: `"enforce"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<At<RuleSeverity>>,
}

/// What a step has to do with the `idempotency-key` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IdempotencyRule {
    /// A call without one is refused.
    Required,
    /// A call may bring one.
    Optional,
    /// It is the upstream's business.
    Off,
}
