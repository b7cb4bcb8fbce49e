//! Senders of tokens, and the proofs they make.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::At;
use super::values::Period;

/// How proofs of possession (DPoP, RFC 9449) are judged.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dpop {
    /// How old a proof may be: 1 s to 10 min.
    pub max_age: At<Period>,
    /// How far the clock of a client may be ahead: 0 s to 5 min.
    pub leeway: At<Period>,
    /// Most proofs that are remembered so that none is used twice; each is for up to twice `max_age` and `leeway`. Beyond
    /// it: 503. A proof takes about 40 bytes.
    pub replay_max: At<NonZeroU32>,
}

impl Default for Dpop {
    fn default() -> Self {
        Self {
            max_age: Period::secs(60).into(),
            leeway: Period::secs(5).into(),
            replay_max: NonZeroU32::MIN.saturating_add(999_999).into(),
        }
    }
}

/// What tokens must be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SenderConstraintName {
    /// A key of the client, with a proof on every call (DPoP, RFC 9449).
    Dpop,
    /// The certificate that the client shows (RFC 8705).
    Mtls,
    /// Either of the two.
    Any,
}
