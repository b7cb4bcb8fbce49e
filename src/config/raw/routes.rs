//! Upstreams, and the routes that lead to them.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::cors::Cors;
use super::headers::Headers;
use super::place::{At, Table};
use super::values::{BodyLimit, Period};

/// A pool of equal servers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Its name in routes, metrics and logs: letters, digits, `.`, `_`, `-`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// Addresses of its servers, `http://host:port`. At least one. Example: `["http://10.0.0.5:8080"]`.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub endpoints: Vec<At<String>>,
    /// Longest time to a connection. Beyond it: 504.
    pub connect_timeout: At<Period>,
    /// Longest time from the end of the request to the first byte of the response. Beyond it: 504.
    pub response_timeout: At<Period>,
    /// How long an idle connection is kept. Keep it shorter than the servers do (5 s in Node.js).
    pub idle_timeout: At<Period>,
    /// Most idle connections per worker and endpoint.
    pub max_idle: At<NonZeroU32>,
    /// The `host` field that the servers see.
    pub host: HostAction,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            name: None,
            endpoints: Vec::new(),
            connect_timeout: Period::secs(2).into(),
            response_timeout: Period::secs(30).into(),
            idle_timeout: Period::secs(4).into(),
            max_idle: NonZeroU32::MIN.saturating_add(255).into(),
            host: HostAction::default(),
        }
    }
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
    /// Methods it takes: `GET` (which brings `HEAD`), `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, `OPTIONS`.
    /// Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<MethodName>>")]
    pub methods: Option<At<Vec<At<String>>>>,
    /// Scopes that a token must have. Default: none.
    pub scopes: At<ScopeList>,
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
    /// What becomes of the `authorization` field toward the upstream.
    pub authorization: AuthorizationAction,
    /// Header rules of this route, where they differ from those of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Table<Headers>>,
    /// What pages of other origins may do with this route, in place of what the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Table<Cors>>,
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
}

/// Scopes that a token must have: a list of which all are needed, or `{ all = [..], any = [..] }`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeList {
    /// All of these.
    pub all: Vec<At<String>>,
    /// And one of these, unless empty.
    pub any: Vec<At<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Both {
    all: Vec<At<String>>,
    any: Vec<At<String>>,
}

impl<'de> Deserialize<'de> for ScopeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;

        impl<'de> Visitor<'de> for ListOrTable {
            type Value = ScopeList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of scopes, or a table with `all` and `any`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ScopeList, A::Error> {
                let all = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(ScopeList { all, any: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScopeList, A::Error> {
                let Both { all, any } = Both::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ScopeList { all, any })
            }
        }

        deserializer.deserialize_any(ListOrTable)
    }
}

impl Serialize for ScopeList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.any.is_empty() {
            return self.all.serialize(serializer);
        }
        serializer.collect_map([("all", &self.all), ("any", &self.any)])
    }
}

impl JsonSchema for ScopeList {
    fn schema_name() -> Cow<'static, str> {
        "ScopeList".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let list = json_schema!({ "type": "array", "items": { "type": "string" } });
        json_schema!({
            "description": "Scopes that a token must have: a list of which all are needed, or a table.",
            "anyOf": [list, {
                "type": "object",
                "properties": {
                    "all": { "description": "All of these.", "type": "array", "items": { "type": "string" } },
                    "any": { "description": "And one of these.", "type": "array", "items": { "type": "string" } },
                },
                "additionalProperties": false,
            }],
        })
    }
}
