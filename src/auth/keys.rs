//! Verification keys. The algorithm comes from the key, never from the token (RFC 8725 section 3.1).

use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::policy::digest::half_sha256;

/// Shortest HMAC secret, in bytes: as long as the output of HS256 (RFC 7518 section 3.2).
pub const SECRET_MIN: usize = 32;

/// Sizes of RSA keys that verify anything (RFC 7518 section 3.3).
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Most keys of a set that are used.
pub const SET_MAX: usize = 100;

/// Which key of a key set: the same for the same entry, in this version of the set and the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyId(u128);

impl KeyId {
    /// Of an entry. The text of a `Value` does not depend on the order of members.
    fn of(entry: &Value) -> Self {
        Self(u128::from_be_bytes(half_sha256(entry.to_string().as_bytes())))
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An HMAC secret that can be guessed.
    #[error("the secret has {0} bytes; HMAC needs at least {SECRET_MIN}")]
    SecretTooShort(usize),
    /// Not a public key in PEM.
    #[error("this is not a PEM public key for RSA, EC P-256 or P-384, or Ed25519")]
    NotAKey,
    /// An algorithm that the key cannot verify.
    #[error("{0:?} does not go with this key")]
    AlgorithmMismatch(Algorithm),
    /// Not a JSON key set.
    #[error("this is not a JSON Web Key Set: {0}")]
    NotAKeySet(String),
    /// A key set without one usable key.
    #[error("the key set holds no usable signature key ({skipped} skipped)")]
    NoUsableKey {
        /// Keys of other kinds or uses.
        skipped: usize,
    },
}

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// One key and the algorithms it may verify.
#[derive(Clone)]
pub struct VerificationKey {
    id: KeyId,
    kid: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Shows which key it is, never the key.
impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl VerificationKey {
    /// An HMAC secret, for HS256 unless `algorithms` says otherwise.
    ///
    /// # Errors
    /// [`KeyError::SecretTooShort`], [`KeyError::AlgorithmMismatch`].
    pub fn from_secret(secret: &[u8], kid: Option<&str>, algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_MIN {
            return Err(KeyError::SecretTooShort(secret.len()));
        }
        let algorithms = chosen(algorithms, &[Algorithm::HS256], HMAC)?;
        Ok(Self { id: KeyId::default(), kid: kid.map(Box::from), algorithms, key: DecodingKey::from_secret(secret) })
    }

    /// A public key in PEM: RSA (default RS256), EC P-256 (ES256) or P-384 (ES384), Ed25519 (EdDSA).
    ///
    /// # Errors
    /// [`KeyError::NotAKey`], [`KeyError::AlgorithmMismatch`].
    pub fn from_pem(pem: &[u8], kid: Option<&str>, algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let made = |algorithms, key| Self { id: KeyId::default(), kid: kid.map(Box::from), algorithms, key };
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Ok(made(chosen(algorithms, &[Algorithm::RS256], RSA)?, key));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Ok(made(chosen(algorithms, &[Algorithm::EdDSA], &[Algorithm::EdDSA])?, key));
        }
        let key = DecodingKey::from_ec_pem(pem).map_err(|_| KeyError::NotAKey)?;
        // An uncompressed point: one byte, then two coordinates of 32 bytes on P-256 and of 48 on P-384.
        let own = match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(65) => Algorithm::ES256,
            Ok(97) => Algorithm::ES384,
            _ => return Err(KeyError::NotAKey),
        };
        Ok(made(chosen(algorithms, &[own], &[own])?, key))
    }

    /// The usable signature keys of a JSON Web Key Set (RFC 7517), and how many others it holds. Bad entries are
    /// skipped one by one, and so is what comes after the first [`SET_MAX`].
    ///
    /// # Errors
    /// [`KeyError::NotAKeySet`], [`KeyError::NoUsableKey`].
    pub fn from_jwks(json: &[u8]) -> Result<(Vec<Self>, usize), KeyError> {
        Self::from_set(json, |_| true)
    }

    /// The same without secrets: what is published for everyone to read is not one.
    ///
    /// # Errors
    /// [`KeyError::NotAKeySet`], [`KeyError::NoUsableKey`].
    pub fn from_public_jwks(json: &[u8]) -> Result<(Vec<Self>, usize), KeyError> {
        Self::from_set(json, |jwk| !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)))
    }

    fn from_set(json: &[u8], takes: impl Fn(&Jwk) -> bool) -> Result<(Vec<Self>, usize), KeyError> {
        let set = serde_json::from_slice(json).map_err(|error| KeyError::NotAKeySet(error.to_string()))?;
        // Not by a struct, for which a list would do, too.
        let entries = match set {
            Value::Object(mut set) => set.remove("keys"),
            _ => None,
        };
        let Some(Value::Array(entries)) = entries else {
            return Err(KeyError::NotAKeySet("it has no list of keys".to_owned()));
        };
        let total = entries.len();
        let keys: Vec<Self> = entries
            .into_iter()
            .filter_map(|entry| {
                let id = KeyId::of(&entry);
                let jwk = serde_json::from_value(entry).ok().filter(&takes)?;
                Self::from_jwk(&jwk).map(|key| Self { id, ..key })
            })
            .take(SET_MAX)
            .collect();
        let skipped = total - keys.len();
        if keys.is_empty() { Err(KeyError::NoUsableKey { skipped }) } else { Ok((keys, skipped)) }
    }

    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let possible: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) if RSA_BITS.contains(&bits(&rsa.n)) => RSA,
            AlgorithmParameters::OctetKey(_) => HMAC,
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            _ => return None,
        };
        let algorithms = match jwk.common.key_algorithm {
            Some(named) => vec![verifying(named).filter(|named| possible.contains(named))?],
            None if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) => vec![Algorithm::HS256],
            None => possible.to_vec(),
        };
        let key = DecodingKey::from_jwk(jwk).ok().filter(|_| signs)?;
        if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_))
            && key.try_get_as_bytes().map_or(0, <[u8]>::len) < SECRET_MIN
        {
            return None;
        }
        Some(Self { id: KeyId::default(), kid: jwk.common.key_id.as_deref().map(Box::from), algorithms, key })
    }

    /// Which entry of its set it is; of no meaning for keys that are not from one.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Algorithms that it may verify.
    #[must_use]
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Its `kid`.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it may verify `algorithm`.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    pub(super) const fn key(&self) -> &DecodingKey {
        &self.key
    }
}

fn chosen(wanted: &[Algorithm], default: &[Algorithm], possible: &[Algorithm]) -> Result<Vec<Algorithm>, KeyError> {
    match wanted.iter().find(|wanted| !possible.contains(wanted)) {
        Some(other) => Err(KeyError::AlgorithmMismatch(*other)),
        None if wanted.is_empty() => Ok(default.to_vec()),
        None => Ok(wanted.to_vec()),
    }
}

/// The length of a number in base64url, in bits; zero if it is none.
fn bits(number: &str) -> usize {
    let bytes = URL_SAFE_NO_PAD.decode(number).unwrap_or_default();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    (bytes.len() - zeros) * 8
}

/// Whether an algorithm needs a secret.
pub(super) fn is_hmac(algorithm: Algorithm) -> bool {
    HMAC.contains(&algorithm)
}

fn verifying(named: KeyAlgorithm) -> Option<Algorithm> {
    Algorithm::from_str(&named.to_string()).ok()
}
