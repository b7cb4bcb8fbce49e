//! Cross-origin resource sharing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::At;
use super::routes::MethodName;
use super::values::Period;

/// What pages of other origins may do with the API (CORS, Fetch standard). Preflights are answered here, without
/// credentials; `access-control-*` fields of upstreams are replaced.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins of the pages: `scheme://host`, with a port if it is not the usual one; `https://*.example.com` for all
    /// below; `["*"]` for all. None: nothing is shared, which takes a route out.
    /// Example: `["https://shop.example.com"]`.
    pub origins: At<Vec<At<String>>>,
    /// Methods that scripts may use. Default: those of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<MethodName>>")]
    pub methods: Option<At<Vec<At<String>>>>,
    /// Request fields that scripts may send, beside the six required ones and `idempotency-key`.
    pub headers: Vec<At<String>>,
    /// Response fields that scripts may read, beside `session-id`, `session-expires-in`, `x-request-id` and the
    /// correlation id.
    pub expose: Vec<At<String>>,
    /// Whether browsers send cookies and client certificates with calls. Not with `origins = ["*"]`.
    pub credentials: At<bool>,
    /// How long a browser may remember the answer to a preflight. Browsers have limits of their own.
    pub max_age: At<Period>,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: At::default(),
            methods: None,
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false.into(),
            max_age: Period::secs(600).into(),
        }
    }
}
