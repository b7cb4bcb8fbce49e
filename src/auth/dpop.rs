//! Proofs of possession (RFC 9449): the sender of a token shows on every call that it holds the key the token is bound to.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use crate::policy::binding::Thumbprint;
use crate::policy::claims::NumericDate;
use crate::policy::digest::sha256;
use crate::policy::members::Members;
use crate::policy::proof::{ProofFault, Proven};
use crate::policy::time::Timestamp;

/// Longest proof, in bytes.
pub const PROOF_MAX: usize = 8 * 1024;

/// The algorithms we take, as challenges name them (RFC 9449 section 7.1).
pub const ALGORITHMS: &str = "ES256 EdDSA RS256 PS256";

/// How proofs are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DpopRules {
    /// How old a proof may be.
    pub max_age: Duration,
    /// How far the client's clock may be ahead.
    pub leeway: Duration,
    /// Most proofs that are remembered; beyond it calls with proofs get 503.
    pub replay_max: usize,
}

impl DpopRules {
    /// How long a proof that was taken must be remembered.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.max_age.saturating_add(self.leeway)
    }
}

impl Default for DpopRules {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(60), leeway: Duration::from_secs(5), replay_max: 1_000_000 }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    jwk: Option<Box<RawValue>>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
    #[serde(default)]
    b64: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: NumericDate,
    #[serde(default)]
    ath: Option<String>,
}

/// A public key as proofs bring it (RFC 7517). Any private member betrays the key (RFC 9449 section 4.2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl Jwk {
    const fn is_private(&self) -> bool {
        self.d.is_some()
            || self.p.is_some()
            || self.q.is_some()
            || self.dp.is_some()
            || self.dq.is_some()
            || self.qi.is_some()
            || self.oth.is_some()
            || self.k.is_some()
    }

    /// The key and its thumbprint (RFC 7638). What the key is made of was decoded as base64url, so nothing in it can pose
    /// as JSON.
    fn public(&self, algorithm: Algorithm) -> Option<(DecodingKey, Thumbprint)> {
        let (crv, x, y) = (self.crv.as_deref(), self.x.as_deref(), self.y.as_deref());
        let (key, members) = match (algorithm, &*self.kty, crv) {
            (Algorithm::ES256, "EC", Some("P-256")) => {
                let (x, y) = (x?, y?);
                let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (DecodingKey::from_ec_components(x, y), members)
            }
            (Algorithm::EdDSA, "OKP", Some("Ed25519")) => {
                let x = x?;
                (DecodingKey::from_ed_components(x), format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
            }
            (Algorithm::RS256 | Algorithm::PS256, "RSA", _) => {
                let (n, e) = (self.n.as_deref()?, self.e.as_deref()?);
                (DecodingKey::from_rsa_components(n, e), format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#))
            }
            _ => return None,
        };
        Some((key.ok()?, Thumbprint(sha256(members.as_bytes()))))
    }
}

/// A proof that was taken apart; nothing of it is verified.
pub struct Proof<'p> {
    message: &'p str,
    signature: &'p str,
    algorithm: Algorithm,
    key: DecodingKey,
    thumbprint: Thumbprint,
    claims: Claims,
}

impl std::fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}

/// What a verified proof must not be used for a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofName(pub [u8; 16]);

impl<'p> Proof<'p> {
    /// Takes the value of a `dpop` field apart.
    ///
    /// # Errors
    /// [`ProofFault::TooLarge`], `Shape`, `Type`, `Algorithm`, `Critical`, `Jwk`, `PrivateKey` or `Claims`.
    pub fn parse(text: &'p str) -> Result<Self, ProofFault> {
        if text.len() > PROOF_MAX {
            return Err(ProofFault::TooLarge);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(ProofFault::Shape)?;
        let (header, payload) = message.split_once('.').ok_or(ProofFault::Shape)?;
        if payload.contains('.') || signature.is_empty() {
            return Err(ProofFault::Shape);
        }
        let header: Header = read(&decoded(header)?).ok_or(ProofFault::Shape)?;
        if header.typ.as_deref() != Some("dpop+jwt") {
            return Err(ProofFault::Type);
        }
        if header.crit.is_some() || header.b64.is_some() {
            return Err(ProofFault::Critical);
        }
        let algorithm = match &*header.alg {
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            "RS256" => Algorithm::RS256,
            "PS256" => Algorithm::PS256,
            _ => return Err(ProofFault::Algorithm),
        };
        let jwk = header.jwk.ok_or(ProofFault::Jwk)?;
        let jwk: Jwk = read(jwk.get()).ok_or(ProofFault::Jwk)?;
        if jwk.is_private() {
            return Err(ProofFault::PrivateKey);
        }
        let (key, thumbprint) = jwk.public(algorithm).ok_or(ProofFault::Jwk)?;
        let claims: Claims = read(&decoded(payload)?).ok_or(ProofFault::Claims)?;
        if claims.jti.is_empty() {
            return Err(ProofFault::Claims);
        }
        Ok(Self { message, signature, algorithm, key, thumbprint, claims })
    }

    /// Verifies that the holder of the key `bound` made the proof for this call and this token, at this time (RFC 9449
    /// section 4.3). Whether it was used before is for the memory of proofs to say, by the name that comes back. Only
    /// the right key ever costs a signature.
    ///
    /// # Errors
    /// [`ProofFault::Key`], `Method`, `Target`, `Token`, `Stale`, `Early` or `Signature`.
    pub fn verify(
        &self,
        bound: Thumbprint,
        call: &Proven<'_>,
        token: &str,
        rules: &DpopRules,
        wall: Timestamp,
    ) -> Result<ProofName, ProofFault> {
        let claims = &self.claims;
        if self.thumbprint != bound {
            return Err(ProofFault::Key);
        }
        if claims.htm != call.method {
            return Err(ProofFault::Method);
        }
        if !call.is_at(&claims.htu) {
            return Err(ProofFault::Target);
        }
        let ath = URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()));
        if claims.ath.as_deref() != Some(&*ath) {
            return Err(ProofFault::Token);
        }
        if claims.iat.0.after(rules.max_age) < wall {
            return Err(ProofFault::Stale);
        }
        if claims.iat.0 > wall.after(rules.leeway) {
            return Err(ProofFault::Early);
        }
        let good = jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), &self.key, self.algorithm);
        if !matches!(good, Ok(true)) {
            return Err(ProofFault::Signature);
        }
        let mut name = Context::new(&SHA256);
        name.update(&self.thumbprint.0);
        name.update(claims.jti.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&name.finish().as_ref()[..16]);
        Ok(ProofName(short))
    }
}

/// Reads an object in which nothing is there twice, at whatever depth.
fn read<T: DeserializeOwned>(json: &str) -> Option<T> {
    Members::read(json)?;
    serde_json::from_str(json).ok()
}

fn decoded(part: &str) -> Result<String, ProofFault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| ProofFault::Shape)?;
    String::from_utf8(bytes).map_err(|_| ProofFault::Shape)
}

#[cfg(test)]
mod tests;
