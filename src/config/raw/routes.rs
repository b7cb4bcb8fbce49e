//! Routes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cors::Cors;
use super::dpop::SenderConstraintName;
use super::headers::Headers;
use super::names::NameList;
use super::place::{At, Table};
use super::values::{BodyLimit, Limit, Period};

/// A route: which calls it takes, what they must show, where they go.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Its name in metrics and logs: letters, digits, `.`, `_`, `-`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// Host names it is for, without port; `*.example.com` for all below. Default: every host.
    pub hosts: Vec<At<String>>,
    /// Path pattern. `{id}` takes one segment, `{*rest}` at the end takes all the rest. The most specific path wins.
    /// Example: `"/orders/{id}"`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<At<String>>,
    /// Methods it takes: `GET` (which brings `HEAD`, and WebSocket over HTTP/1.1 and HTTP/2), `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, `OPTIONS`.
    /// Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<MethodName>>")]
    pub methods: Option<At<Vec<At<String>>>>,
    /// Scopes that a token must have. Default: none.
    pub scopes: At<NameList>,
    /// What tokens must be bound to. Default: nothing; a token that is bound is held to it in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_constraint: Option<At<SenderConstraintName>>,
    /// Name of the upstream that calls go to.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<At<String>>,
    /// Whether calls need neither credentials nor a session. For health pages and the like; nothing about the caller
    /// is checked then.
    pub exempt: bool,
    /// Longest request body: a size or `"unlimited"`. Default: `limits.body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<At<BodyLimit>>,
    /// Longest time to the first byte of the response. Default: that of the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_timeout: Option<At<Period>>,
    /// Longest time from the admission of a call to the last byte of its response, or `"off"`. Default: that of the
    /// upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<At<Limit>>,
    /// Longest time between two bytes of a response body, or `"off"`, as event streams need it. Default: that of the
    /// upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_timeout: Option<At<Limit>>,
    /// What may be sent a second time after it may have reached the upstream.
    pub retry: RetryAction,
    /// What becomes of the `authorization` field toward the upstream.
    pub authorization: At<AuthorizationAction>,
    /// Header rules of this route, where they differ from those of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Table<Headers>>,
    /// What pages of other origins may do with this route, in place of what the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Table<Cors>>,
}

/// What may be sent a second time. What certainly did not reach the upstream always may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryAction {
    /// `GET`, `HEAD` and `OPTIONS` without a body, if a kept connection turned out to be closed.
    #[default]
    Safe,
    /// These and `PUT` and `DELETE`, as long as nothing of a body was read, whenever a connection ends without a byte of
    /// an answer.
    Idempotent,
}

/// For the schema; [`Verb::named`](crate::policy::method::Verb::named) reads them.
#[derive(JsonSchema)]
#[schemars(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum MethodName {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// The `authorization` field toward an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorizationAction {
    /// It goes on as it came.
    #[default]
    Keep,
    /// It is removed.
    Strip,
    /// A token that the gate issues takes its place. Needs `[tokens]`; not on exempt routes.
    Replace,
}
