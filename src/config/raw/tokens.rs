//! Tokens that the gate issues.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::issuers::SecretRef;
use super::place::{At, Table};
use super::values::Period;

/// Tokens that the gate issues to its sessions (RFC 9068): signed by it, bound to one session.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// The `iss` of these tokens. No other issuer may have it. Example: `"https://gate.example.com"`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<At<String>>,
    /// The `aud` of these tokens: whom they are meant for. Default: the issuer alone.
    pub audiences: Vec<At<String>>,
    /// How long a token is good for, 10 s to 24 h; never beyond the absolute end of its session.
    pub lifetime: At<Period>,
    /// Private keys. The first one signs, all of them verify and are in the key set. At least one.
    #[schemars(length(min = 1), extend("x-required" = true))]
    pub keys: Vec<Table<SigningKey>>,
    /// Where the key set (RFC 7517) is published, on every listener and host, for everybody.
    pub key_set_path: At<String>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            lifetime: Period::secs(15 * 60).into(),
            keys: Vec::new(),
            key_set_path: "/.well-known/jwks.json".to_owned().into(),
        }
    }
}

/// A private key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SigningKey {
    /// The key in PEM (PKCS #8): EC P-256 (ES256) or Ed25519 (EdDSA).
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pem: Option<At<SecretRef>>,
    /// The `kid` of the key. Default: its thumbprint (RFC 7638).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<At<String>>,
}
