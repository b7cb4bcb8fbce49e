//! Authorization servers and their keys.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::dpop::SenderConstraintName;
use super::place::{At, Table};
use super::values::Period;

/// An authorization server whose tokens are accepted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Issuer {
    /// Its name in metrics and logs: letters, digits, `.`, `_`, `-`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// The `iss` claim of its tokens. Default: any or none is accepted; at most one issuer may leave it out.
    /// Example: `"https://login.example.com/"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<At<String>>,
    /// Audiences of which the `aud` claim must name one. Default: `aud` is not looked at.
    pub audiences: Vec<At<String>>,
    /// How far clocks may differ, for `exp` and `nbf`: 0 s to 300 s.
    pub leeway: At<Period>,
    /// Claims that name the client, in the order they are tried.
    #[schemars(length(min = 1))]
    pub client_claims: At<Vec<ClientClaimName>>,
    /// Claims that hold the scopes, in the order they are tried.
    #[schemars(length(min = 1))]
    pub scope_claims: At<Vec<ScopeClaimName>>,
    /// Further claims that must be there, whatever they say. Example: `["sub", "jti"]`.
    pub required_claims: Vec<At<String>>,
    /// What the header of its tokens must say in `typ`.
    pub typ: TokenTypeName,
    /// Signature algorithms of its tokens. Default: all that its keys may verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<At<Vec<SignatureAlgorithm>>>,
    /// Whether a `sid` claim binds a token to the one session it names.
    pub sid_claim: bool,
    /// What its tokens must be bound to. Default: nothing; a token that is bound is held to it in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_constraint: Option<SenderConstraintName>,
    /// Its verification keys. At least one, unless there is a `key_set` or `introspection`.
    pub keys: Vec<Table<Key>>,
    /// The keys that it publishes, instead of `keys`: fetched in the background and followed as they change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_set: Option<Table<KeySet>>,
    /// How it is asked about tokens that are no JWTs (RFC 7662). One issuer at most has it. Default: such tokens are
    /// refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection: Option<Table<Introspection>>,
}

/// How an issuer is asked about tokens (RFC 7662).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Introspection {
    /// Where. Example: `"https://login.example.com/introspect"`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<At<String>>,
    /// The client that the gate is there.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<At<String>>,
    /// What the gate authenticates with, by HTTP Basic.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<At<SecretRef>>,
    /// PEM file of the authorities whose certificates are accepted. Default: those the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<At<String>>,
    /// Whether `http://` may be spoken with other hosts than this one. Tokens and the secret can be read on the way.
    pub allow_http: bool,
    /// Longest time to an answer: 100 ms to 60 s. Beyond it: 503.
    pub timeout: At<Period>,
    /// How long a good answer counts, at most until the token ends: 0 s to 1 h. A token that is revoked lives on so long.
    pub positive_ttl: At<Period>,
    /// How long a bad answer counts: 0 s to 5 min.
    pub negative_ttl: At<Period>,
}

impl Default for Introspection {
    fn default() -> Self {
        Self {
            url: None,
            client_id: None,
            client_secret: None,
            ca: None,
            allow_http: false,
            timeout: Period::secs(2).into(),
            positive_ttl: Period::secs(60).into(),
            negative_ttl: Period::secs(5).into(),
        }
    }
}

/// A key set that an issuer publishes. Symmetric keys in it are not used.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeySet {
    /// Where the set is. Default: where the document at `/.well-known/openid-configuration` beneath `issuer` says; that
    /// document must be of exactly this issuer. Example: `"https://login.example.com/jwks.json"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<At<String>>,
    /// PEM file of the authorities whose certificates are accepted. Default: those the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<At<String>>,
    /// Whether `http://` may be spoken with other hosts than this one. Who can change what is read there can sign tokens.
    pub allow_http: bool,
    /// Longest time of one fetch: 100 ms to 60 s.
    pub timeout: At<Period>,
    /// Shortest time between two fetches; the server's `max-age` counts within these bounds. 1 s to 24 h.
    pub min_refresh: At<Period>,
    /// Longest time between two fetches; it holds where the server says nothing. `min_refresh` to 24 h.
    pub max_refresh: At<Period>,
    /// Shortest time between two fetches because of tokens with unknown keys: 1 s to 1 h.
    pub cooldown: At<Period>,
    /// How long a call with an unknown key may wait for a fetch: 0 s to 30 s.
    pub wait: At<Period>,
    /// How long the last good set is used while no other can be fetched: `max_refresh` to 30 days.
    pub max_stale: At<Period>,
}

impl Default for KeySet {
    fn default() -> Self {
        Self {
            url: None,
            ca: None,
            allow_http: false,
            timeout: Period::secs(5).into(),
            min_refresh: Period::secs(60).into(),
            max_refresh: Period::secs(15 * 60).into(),
            cooldown: Period::secs(10).into(),
            wait: Period::secs(2).into(),
            max_stale: Period::secs(24 * 3600).into(),
        }
    }
}

impl Default for Issuer {
    fn default() -> Self {
        use ClientClaimName::{Appid, Azp, Cid, ClientId};
        Self {
            name: None,
            issuer: None,
            audiences: Vec::new(),
            leeway: Period::secs(30).into(),
            client_claims: vec![ClientId, Azp, Cid, Appid].into(),
            scope_claims: vec![ScopeClaimName::Scope, ScopeClaimName::Scp].into(),
            required_claims: Vec::new(),
            typ: TokenTypeName::Any,
            algorithms: None,
            sid_claim: true,
            sender_constraint: None,
            keys: Vec::new(),
            key_set: None,
            introspection: None,
        }
    }
}

/// A claim that can name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientClaimName {
    /// RFC 9068.
    ClientId,
    /// OpenID Connect.
    Azp,
    /// Okta.
    Cid,
    /// Microsoft.
    Appid,
}

/// A claim that can hold the scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeClaimName {
    /// Names with spaces between them (RFC 9068).
    Scope,
    /// A list of names, or text as in `scope` (Microsoft, Okta).
    Scp,
}

/// What the `typ` of a token must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenTypeName {
    /// Anything, or nothing.
    #[serde(rename = "any")]
    Any,
    /// That it is an access token (RFC 9068).
    #[serde(rename = "at+jwt")]
    AtJwt,
}

/// A verification key: exactly one of `secret`, `pem` and `jwks`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Key {
    /// An HMAC secret of at least 32 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<At<SecretRef>>,
    /// A public key in PEM: RSA, EC P-256 or P-384, or Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pem: Option<At<SecretRef>>,
    /// A JSON Web Key Set (RFC 7517).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<At<SecretRef>>,
    /// The `kid` of the key; a token that names another `kid` is not checked with it. Not with `jwks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<At<String>>,
    /// Signature algorithms the key may verify. Default: HS256 for a secret, RS256 for RSA, the one of its curve for EC
    /// and Ed25519. Not with `jwks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<At<Vec<SignatureAlgorithm>>>,
}

/// A signature algorithm (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum SignatureAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Where a secret is read from when the configuration is loaded. One line end at its end does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// A file.
    File(String),
    /// An environment variable.
    Env(String),
}

/// The way a reference is written. An enum with a table per variant would take `{ file = .. }` too, but says less about
/// what is wrong.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Path of a file that holds the secret and nothing else.
    file: Option<String>,
    /// Name of an environment variable that holds the secret.
    env: Option<String>,
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reference;

        const HOW: &str = "write { file = \"path\" } or { env = \"NAME\" }";

        impl<'de> Visitor<'de> for Reference {
            type Value = SecretRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `file` or `env`")
            }

            // Someone may write the secret itself: it must not come back in a message.
            fn visit_str<E: Error>(self, _: &str) -> Result<SecretRef, E> {
                Err(E::custom(format_args!("secrets do not stand in this file; {HOW}")))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretRef, A::Error> {
                match Written::deserialize(MapAccessDeserializer::new(map))? {
                    Written { file: Some(file), env: None } => Ok(SecretRef::File(file)),
                    Written { file: None, env: Some(env) } => Ok(SecretRef::Env(env)),
                    Written { .. } => Err(A::Error::custom(format_args!("exactly one place is needed; {HOW}"))),
                }
            }
        }

        deserializer.deserialize_any(Reference)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Written::json_schema(generator);
        schema.insert("description".into(), "Where a secret is read from: exactly one of `file` and `env`.".into());
        schema.insert("minProperties".into(), 1.into());
        schema.insert("maxProperties".into(), 1.into());
        schema
    }
}
