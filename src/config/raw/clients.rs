//! Where the registry of clients is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::At;

/// The registry of clients: which of them may call, with which scopes, with how many live sessions. It is read again when
/// it changes, and when the configuration is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Clients {
    /// A TOML file with `[[client]]` tables, or a folder of such files (`*.toml`). Example: `"./clients.toml"`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<At<String>>,
}
