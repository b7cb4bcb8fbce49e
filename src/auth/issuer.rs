//! An issuer: what its tokens must be, and where its keys are.

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::introspection::{Introspection, IntrospectionConfig};
use super::key_set::{KeySet, KeySetConfig};
use super::keys::{KeyId, VerificationKey, is_hmac};
use super::verify::Unverified;
use crate::policy::claims::ClaimRules;
use crate::policy::rejection::Why;

/// An authorization server that is trusted, and its keys.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Its name in configuration, metrics and logs.
    pub name: Arc<str>,
    /// What its tokens must say.
    pub claims: ClaimRules,
    /// What the header of its tokens must say they are.
    pub typ: TokenType,
    /// Signature algorithms of its tokens; empty: all that its keys verify.
    pub algorithms: Vec<Algorithm>,
    /// Its keys; never shared with another issuer.
    pub keys: Keys,
    /// How it is asked about tokens that are no JWTs, if it is.
    pub introspection: Option<Arc<Introspection>>,
}

/// The keys of an issuer.
#[derive(Debug, Clone)]
pub enum Keys {
    /// These.
    Fixed(Vec<VerificationKey>),
    /// Those that it publishes.
    Published(Arc<KeySet>),
}

/// What the `typ` of a token must say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenType {
    /// Anything.
    #[default]
    Any,
    /// That it is an access token: `at+jwt` (RFC 9068 section 2.1).
    AtJwt,
}

impl Issuer {
    /// An issuer with these keys.
    #[must_use]
    pub fn with_keys(name: &str, claims: ClaimRules, keys: Vec<VerificationKey>) -> Self {
        let keys = Keys::Fixed(keys);
        Self { name: name.into(), claims, typ: TokenType::Any, algorithms: Vec::new(), keys, introspection: None }
    }

    /// An issuer that publishes its keys.
    #[must_use]
    pub fn with_key_set(name: &str, claims: ClaimRules, config: KeySetConfig) -> Self {
        let keys = Keys::Published(Arc::new(KeySet::new(name.into(), config)));
        Self { keys, ..Self::with_keys(name, claims, Vec::new()) }
    }

    /// The same issuer, asked about tokens that are no JWTs.
    #[must_use]
    pub fn asked(self, config: IntrospectionConfig) -> Self {
        let introspection = Introspection::new(Arc::clone(&self.name), config);
        Self { introspection: Some(Arc::new(introspection)), ..self }
    }

    /// Its key set, if it publishes one.
    #[must_use]
    pub const fn key_set(&self) -> Option<&Arc<KeySet>> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Published(set) => Some(set),
        }
    }

    /// Verifies a signature; gives the key that it was made with.
    pub(super) fn verify(&self, token: &Unverified<'_>) -> Result<KeyId, Why> {
        match &self.keys {
            Keys::Fixed(keys) => token.verify(keys),
            Keys::Published(set) => token.verify(&set.keys()),
        }
    }

    /// Whether a key that is not known yet could make good what is wrong.
    pub(super) fn may_learn(&self, token: &Unverified<'_>, why: Why) -> bool {
        let published = self.key_set().is_some() && !is_hmac(token.algorithm());
        published && (why == Why::UnknownKey || token.kid().is_none() && matches!(why, Why::Algorithm | Why::Signature))
    }

    /// Whether a key still counts.
    pub(super) fn vouches(&self, key: KeyId) -> bool {
        self.key_set().is_none_or(|set| set.has(key))
    }

    /// Judges what a token says of itself.
    pub(super) fn admits(&self, token: &Unverified<'_>) -> Result<(), Why> {
        if self.typ == TokenType::AtJwt && !token.is_access_token() {
            return Err(Why::Type);
        }
        if !self.algorithms.is_empty() && !self.algorithms.contains(&token.algorithm()) {
            return Err(Why::Algorithm);
        }
        Ok(())
    }
}
