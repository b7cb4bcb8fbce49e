//! What happens when there is more to do than can be done.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::At;

/// How many calls may run at once, in all workers. Beyond it: 503 `overloaded`, and those who would open a session first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Overload {
    /// Calls in sessions that run at once: from their admission to the last byte of their answer. Streams and tunnels are
    /// calls that last.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<At<NonZeroU32>>,
    /// Sessions are opened only while fewer than this percentage of `max_calls` run: 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub open_below: At<u8>,
}

impl Default for Overload {
    fn default() -> Self {
        Self { max_calls: None, open_below: 80.into() }
    }
}
