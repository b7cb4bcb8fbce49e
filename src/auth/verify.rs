//! The signature of a compact token (RFC 7515 section 3.1), and the little of its header that matters.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::keys::{KeyId, VerificationKey};
use crate::policy::claims::Claims;
use crate::policy::issued::IssuedClaims;
use crate::policy::members::Members;
use crate::policy::rejection::Why;

/// A compact token taken apart; nothing of it is verified.
pub(super) struct Unverified<'t> {
    /// Header and payload as they were signed.
    message: &'t str,
    payload: &'t str,
    signature: &'t str,
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
}

/// The header. `jwk`, `jku`, `x5u` and `x5c` bring keys of the sender's choice: they are not even read.
#[derive(Deserialize)]
struct JoseHeader {
    alg: Algorithm,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    b64: Option<serde::de::IgnoredAny>,
}

impl<'t> Unverified<'t> {
    /// Takes `token` apart.
    pub(super) fn parse(token: &'t str) -> Result<Self, Why> {
        let (message, signature) = token.rsplit_once('.').ok_or(Why::Shape)?;
        let (header, payload) = message.split_once('.').ok_or(Why::Shape)?;
        if payload.contains('.') || payload.is_empty() || signature.is_empty() {
            return Err(Why::Shape);
        }
        let header = text(header)?;
        if Members::read(&header).is_none() {
            return Err(Why::Shape);
        }
        let header: JoseHeader = serde_json::from_str(&header).map_err(|error| {
            // `none`, in whatever spelling, is an algorithm nobody has.
            if error.is_data() { Why::Algorithm } else { Why::Shape }
        })?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err(Why::Critical);
        }
        Ok(Self { message, payload, signature, algorithm: header.alg, kid: header.kid, typ: header.typ })
    }

    /// The claims as they stand there, to find the issuer by. Believe nothing of them before [`Self::verify`].
    pub(super) fn claims(&self) -> Result<Claims, Why> {
        Claims::read(&text(self.payload)?)
    }

    /// The same, of a token that the gate issued.
    pub(super) fn issued_claims(&self) -> Result<IssuedClaims, Why> {
        serde_json::from_str(&text(self.payload)?).map_err(|_| Why::Claims)
    }

    /// Whether the header says that this is an access token (RFC 9068 section 2.1). Media types have any case, and their
    /// prefix is usually left out (RFC 7515 section 4.1.9).
    pub(super) fn is_access_token(&self) -> bool {
        let typ = self.typ.as_deref().unwrap_or_default();
        ["at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
    }

    /// The key it names.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its algorithm, as it says itself.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Verifies the signature with the key that `kid` names, or without `kid` with every key that can verify the
    /// algorithm.
    pub(super) fn verify(&self, keys: &[VerificationKey]) -> Result<KeyId, Why> {
        let named = |key: &&VerificationKey| match (&self.kid, key.kid()) {
            (Some(wanted), Some(kid)) => wanted == kid,
            // A key without a name is tried for every token: a shared secret has none.
            (Some(_), None) | (None, _) => true,
        };
        let mut known = false;
        let mut fitting = false;
        for key in keys.iter().filter(named) {
            known = true;
            if !key.verifies(self.algorithm) {
                continue;
            }
            fitting = true;
            let good = jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key.key(), self.algorithm);
            if matches!(good, Ok(true)) {
                return Ok(key.id());
            }
        }
        Err(match (known, fitting) {
            (false, _) => Why::UnknownKey,
            (true, false) => Why::Algorithm,
            (true, true) => Why::Signature,
        })
    }
}

/// A part decoded. All of it must be UTF-8 (RFC 7515 section 3, RFC 7519 section 7.2); from bytes, `serde_json` would not
/// look at the members nobody asks for.
fn text(part: &str) -> Result<String, Why> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Why::Shape)?;
    String::from_utf8(bytes).map_err(|_| Why::Shape)
}
