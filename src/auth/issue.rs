//! Tokens that the gate issues to its sessions (RFC 9068), and the key set that verifies them (RFC 7517).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use http::HeaderValue;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use quick_cache::sync::Cache;

use super::keys::VerificationKey;
use crate::policy::binding::Binding;
use crate::policy::claims::Caller;
use crate::policy::ids::{SessionId, SessionKey};
use crate::policy::issued::{IssuedClaims, Validity};
use crate::policy::session::Session;
use crate::policy::time::{Now, Timestamp};

/// Tokens for upstreams that are remembered; each takes about a kilobyte.
const REMEMBERED: usize = 16_384;

/// A private key that cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a PKCS #8 private key in PEM for EC P-256 or Ed25519")]
pub struct UnusableKey;

/// A private key and what is published of it.
pub struct SigningKey {
    private: EncodingKey,
    header: Header,
    public: Jwk,
    verifier: VerificationKey,
}

/// Shows which key it is, never the key.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A PKCS #8 key in PEM: EC P-256 (ES256) or Ed25519 (EdDSA). Without `kid` it is named by its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn from_pem(pem: &[u8], kid: Option<&str>) -> Result<Self, UnusableKey> {
        let (private, algorithm) = match EncodingKey::from_ed_pem(pem) {
            Ok(key) => (key, Algorithm::EdDSA),
            Err(_) => (EncodingKey::from_ec_pem(pem).map_err(|_| UnusableKey)?, Algorithm::ES256),
        };
        let mut public = public_part(&private, algorithm).ok_or(UnusableKey)?;
        let kid = match kid {
            Some(kid) => kid.to_owned(),
            None => public.thumbprint(ThumbprintHash::SHA256).map_err(|_| UnusableKey)?,
        };
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let curve = match &public.algorithm {
            AlgorithmParameters::EllipticCurve(curve) => curve.curve == EllipticCurve::P256,
            AlgorithmParameters::OctetKeyPair(pair) => pair.curve == EllipticCurve::Ed25519,
            _ => false,
        };
        let verifier = VerificationKey::from_jwk(&public).filter(|_| curve).ok_or(UnusableKey)?;
        let header = Header { typ: Some("at+jwt".into()), kid: Some(kid), ..Header::new(algorithm) };
        let key = Self { private, header, public, verifier };
        // A key may be read and still not sign.
        jsonwebtoken::encode(&key.header, &(), &key.private).map_err(|_| UnusableKey)?;
        Ok(key)
    }

    /// Its `kid`.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }
}

/// The public half. An Ed25519 key may come with it or without (RFC 5958); the JWT library reads only the latter.
fn public_part(private: &EncodingKey, algorithm: Algorithm) -> Option<Jwk> {
    if algorithm != Algorithm::EdDSA {
        return Jwk::from_encoding_key(private, algorithm).ok();
    }
    let pair = Ed25519KeyPair::from_pkcs8(private.as_bytes()).ok()?;
    Jwk::from_decoding_key(&DecodingKey::from_ed_der(pair.public_key().as_ref()), Some(algorithm)).ok()
}

/// A token of the gate's own.
#[derive(Clone)]
pub struct IssuedToken {
    /// The token: a secret.
    pub text: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// Never shows the token.
impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A token that could not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed")]
pub struct SigningFailed;

/// Credentials for an upstream, and when (steady time) to make new ones.
#[derive(Debug, Clone)]
struct ForUpstream {
    credentials: HeaderValue,
    renew: Timestamp,
}

/// Issues tokens to sessions.
#[derive(Debug)]
pub struct TokenIssuer {
    issuer: Arc<str>,
    audiences: Box<[Box<str>]>,
    lifetime: Duration,
    signing: SigningKey,
    verifiers: Vec<VerificationKey>,
    key_set: Bytes,
    for_upstreams: Cache<(SessionKey, Arc<str>), ForUpstream>,
}

impl TokenIssuer {
    /// An issuer named `issuer` (`iss`) of tokens for `audiences` (`aud`) that live for `lifetime`, or to the end of
    /// their session. `signing` signs; `others` verify too, as a rotation of keys needs it.
    #[must_use]
    pub fn new(
        issuer: Arc<str>,
        audiences: Box<[Box<str>]>,
        lifetime: Duration,
        signing: SigningKey,
        others: Vec<SigningKey>,
    ) -> Self {
        let all = || std::iter::once(&signing).chain(&others);
        let set = JwkSet { keys: all().map(|key| key.public.clone()).collect() };
        // Texts in a list: nothing that JSON cannot hold.
        let key_set = serde_json::to_vec(&set).unwrap_or_default().into();
        let verifiers = all().map(|key| key.verifier.clone()).collect();
        let for_upstreams = Cache::new(REMEMBERED);
        Self { issuer, audiences, lifetime, signing, verifiers, key_set, for_upstreams }
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.issuer
    }

    /// The JSON Web Key Set that verifies its tokens.
    #[must_use]
    pub const fn key_set(&self) -> &Bytes {
        &self.key_set
    }

    pub(super) fn keys(&self) -> &[VerificationKey] {
        &self.verifiers
    }

    /// A token for `caller` in the session `id`, bound as the caller's own is.
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn issue(
        &self,
        caller: &Caller,
        session: &Session,
        id: SessionId,
        now: Now,
    ) -> Result<IssuedToken, SigningFailed> {
        self.bound_to(caller.binding().copied(), caller, session, id, now)
    }

    fn bound_to(
        &self,
        binding: Option<Binding>,
        caller: &Caller,
        session: &Session,
        id: SessionId,
        now: Now,
    ) -> Result<IssuedToken, SigningFailed> {
        let left = session.expires().since(now.steady);
        let validity = Validity { from: now.wall, until: now.wall.after(self.lifetime.min(left)) };
        let jti = uuid::Uuid::new_v4();
        let claims = IssuedClaims::of(caller, id, (&self.issuer, &self.audiences), validity, jti, binding);
        let text = jsonwebtoken::encode(&self.signing.header, &claims, &self.signing.private);
        let expires = Timestamp::from_secs(validity.until.as_secs());
        text.map(|text| IssuedToken { text, expires }).map_err(|_| SigningFailed)
    }

    /// The `authorization` that stands for `caller` toward upstreams, signed anew at half its life. It is a bearer
    /// token, since the upstream sees no proof; where the session is bound to a key, such a token does not continue it.
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn for_upstream(
        &self,
        caller: &Caller,
        session: &Session,
        id: SessionId,
        now: Now,
    ) -> Result<HeaderValue, SigningFailed> {
        let name = (session.key(), Arc::clone(caller.scope()));
        if let Some(known) = self.for_upstreams.get(&name).filter(|known| now.steady < known.renew) {
            return Ok(known.credentials);
        }
        let issued = self.bound_to(None, caller, session, id, now)?;
        let mut credentials = HeaderValue::try_from(format!("Bearer {}", issued.text)).map_err(|_| SigningFailed)?;
        credentials.set_sensitive(true);
        let renew = now.steady.after(issued.expires.since(now.wall) / 2);
        self.for_upstreams.insert(name, ForUpstream { credentials: credentials.clone(), renew });
        Ok(credentials)
    }
}

#[cfg(test)]
mod tests;
