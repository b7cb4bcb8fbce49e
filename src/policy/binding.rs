//! Tokens bound to a key of their sender (RFC 7800): mutual TLS (RFC 8705) and DPoP (RFC 9449).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};

use super::credentials::Scheme;
use super::proof::ProofFault;
use super::rejection::Why;

/// SHA-256 of a key (RFC 7638) or of a certificate (RFC 8705 section 3.1). No secret, but it tells senders apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thumbprint(pub [u8; 32]);

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

/// Base64url without padding, as claims have it.
impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("not a SHA-256 thumbprint"))
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `cnf` as it stands in a token. Members that are not known are passed over (RFC 7800 section 3.1); one without any known
/// member binds the token to something we cannot verify.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Confirmation {
    #[serde(default)]
    jkt: Option<Thumbprint>,
    #[serde(default, rename = "x5t#S256")]
    certificate: Option<Thumbprint>,
}

/// What a token, and with it a session, is bound to: one of them, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// The key that proofs are made with (RFC 9449 section 6.1).
    #[serde(default, rename = "jkt", skip_serializing_if = "Option::is_none")]
    key: Option<Thumbprint>,
    /// The certificate of the TLS connection (RFC 8705 section 3.1).
    #[serde(default, rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    certificate: Option<Thumbprint>,
}

impl Binding {
    /// What `cnf` binds to.
    ///
    /// # Errors
    /// [`Why::Confirmation`] if it is nothing that can be verified.
    pub(super) fn of(confirmation: Confirmation) -> Result<Self, Why> {
        let Confirmation { jkt: key, certificate } = confirmation;
        if key.is_none() && certificate.is_none() { Err(Why::Confirmation) } else { Ok(Self { key, certificate }) }
    }

    /// The key that calls must be proven with.
    #[must_use]
    pub const fn key(&self) -> Option<Thumbprint> {
        self.key
    }

    /// The certificate that connections must show.
    #[must_use]
    pub const fn certificate(&self) -> Option<Thumbprint> {
        self.certificate
    }
}

/// Which binding a token must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderConstraint {
    /// To a key, with proofs (DPoP).
    Dpop,
    /// To a client certificate.
    Mtls,
    /// Either.
    Any,
}

impl SenderConstraint {
    /// Whether a token with this binding will do.
    #[must_use]
    pub fn admits(self, binding: Option<&Binding>) -> bool {
        let Some(binding) = binding else { return false };
        match self {
            Self::Dpop => binding.key.is_some(),
            Self::Mtls => binding.certificate.is_some(),
            Self::Any => true,
        }
    }
}

/// What the sender of a call has shown to possess.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Possession {
    /// The key of a proof that was verified for this call and its token.
    pub key: Option<Thumbprint>,
    /// The certificate of the connection.
    pub certificate: Option<Thumbprint>,
}

impl Possession {
    /// Judges whether the sender of a token is who it was issued to.
    ///
    /// # Errors
    /// [`Why::Downgraded`] for a key-bound token sent as a bearer token (RFC 9449 section 7.1), [`ProofFault::Key`],
    /// [`Why::Certificate`], and [`Why::Unbound`] for a proof beside a token that is bound to no key.
    pub fn fits(self, binding: Option<&Binding>, scheme: Scheme) -> Result<(), Why> {
        let (key, certificate) = binding.map_or((None, None), |binding| (binding.key, binding.certificate));
        match (scheme, key) {
            (Scheme::Bearer, None) => {}
            (Scheme::Bearer, Some(_)) => return Err(Why::Downgraded),
            (Scheme::Dpop, None) => return Err(Why::Unbound),
            (Scheme::Dpop, Some(_)) if self.key == key => {}
            (Scheme::Dpop, Some(_)) => return Err(Why::Proof(ProofFault::Key)),
        }
        if certificate.is_some() && self.certificate != certificate {
            return Err(Why::Certificate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Thumbprint = Thumbprint([1; 32]);
    const B: Thumbprint = Thumbprint([2; 32]);

    fn binding(json: &str) -> Option<Result<Binding, Why>> {
        serde_json::from_str(json).ok().map(Binding::of)
    }

    #[test]
    fn a_confirmation_that_cannot_be_verified_is_none() {
        for json in ["{}", "[]", r#"{"jwk":{}}"#, r#"{"kid":"a"}"#, r#"{"jkt":null}"#] {
            assert_eq!(binding(json), Some(Err(Why::Confirmation)), "{json}");
        }
        let long = format!(r#"{{"jkt":"{A}A"}}"#);
        let twice = format!(r#"{{"jkt":"{A}","jkt":"{A}"}}"#);
        for json in [r#"{"jkt":""}"#, r#"{"jkt":1}"#, r#"{"jkt":"AAAA"}"#, &long, &twice, "\"a\""] {
            assert_eq!(binding(json), None, "{json}");
        }
    }

    #[test]
    fn a_binding_is_written_as_it_was_read() {
        for json in [
            format!(r#"{{"jkt":"{A}"}}"#),
            format!(r#"{{"x5t#S256":"{B}"}}"#),
            format!(r#"{{"jkt":"{A}","x5t#S256":"{B}"}}"#),
        ] {
            let binding = binding(&json).unwrap().unwrap();
            assert_eq!(serde_json::to_string(&binding).unwrap(), json);
        }
    }

    #[test]
    fn every_binding_must_be_shown_and_nothing_else_will_do() {
        let bound = |key, certificate| Some(Binding { key, certificate });
        let shown = |key, certificate| Possession { key, certificate };
        let (none, both) = (None, bound(Some(A), Some(B)));
        let (key, certificate) = (bound(Some(A), None), bound(None, Some(B)));
        for (binding, scheme, possession, verdict) in [
            (none, Scheme::Bearer, shown(None, None), Ok(())),
            (none, Scheme::Bearer, shown(None, Some(A)), Ok(())),
            (none, Scheme::Dpop, shown(Some(A), None), Err(Why::Unbound)),
            (key, Scheme::Dpop, shown(Some(A), None), Ok(())),
            (key, Scheme::Dpop, shown(Some(B), None), Err(Why::Proof(ProofFault::Key))),
            (key, Scheme::Dpop, shown(None, None), Err(Why::Proof(ProofFault::Key))),
            (key, Scheme::Bearer, shown(None, None), Err(Why::Downgraded)),
            (key, Scheme::Bearer, shown(Some(A), None), Err(Why::Downgraded)),
            (certificate, Scheme::Bearer, shown(None, Some(B)), Ok(())),
            (certificate, Scheme::Bearer, shown(None, Some(A)), Err(Why::Certificate)),
            (certificate, Scheme::Bearer, shown(None, None), Err(Why::Certificate)),
            (certificate, Scheme::Dpop, shown(Some(A), Some(B)), Err(Why::Unbound)),
            (both, Scheme::Dpop, shown(Some(A), Some(B)), Ok(())),
            (both, Scheme::Dpop, shown(Some(A), None), Err(Why::Certificate)),
            (both, Scheme::Bearer, shown(None, Some(B)), Err(Why::Downgraded)),
        ] {
            assert_eq!(possession.fits(binding.as_ref(), scheme), verdict, "{binding:?} {scheme:?} {possession:?}");
        }
        use SenderConstraint::{Any, Dpop, Mtls};
        for (binding, admitted) in [
            (none, [false, false, false]),
            (key, [true, false, true]),
            (certificate, [false, true, true]),
            (both, [true, true, true]),
        ] {
            assert_eq!([Dpop, Mtls, Any].map(|constraint| constraint.admits(binding.as_ref())), admitted);
        }
    }
}
