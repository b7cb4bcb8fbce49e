//! From the text of a token to the [`Caller`] it speaks of.
//!
//! A signature is verified once per token: the caller is remembered under a digest of the token, in a bounded cache
//! that lives and dies with the keys. Times are judged anew on every call.

pub mod keys;
mod names;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::Algorithm;
use quick_cache::sync::Cache;

use crate::policy::claims::{Caller, ClaimRules};
use crate::policy::rejection::{Rejection, Why};
use crate::policy::scopes::ScopeNames;
use keys::VerificationKey;
use verify::Unverified;

/// Tokens remembered by default.
pub const CACHE_CAPACITY: usize = 100_000;

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
    pub keys: Vec<VerificationKey>,
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
        Self { name: name.into(), claims, typ: TokenType::Any, algorithms: Vec::new(), keys }
    }

    /// Judges what a token says of itself.
    fn admits(&self, token: &Unverified<'_>) -> Result<(), Why> {
        if self.typ == TokenType::AtJwt && !token.is_access_token() {
            return Err(Why::Type);
        }
        if !self.algorithms.is_empty() && !self.algorithms.contains(&token.algorithm()) {
            return Err(Why::Algorithm);
        }
        Ok(())
    }
}

/// Counts of the verified-token cache since the authenticator was made.
#[derive(Debug, Default)]
pub struct CacheCounts {
    /// Tokens found.
    pub hits: AtomicU64,
    /// Tokens verified, or found wanting.
    pub misses: AtomicU64,
}

/// Identifies callers by their tokens.
#[derive(Debug)]
pub struct Authenticator {
    issuers: Vec<Issuer>,
    scopes: ScopeNames,
    verified: Cache<[u8; 32], Arc<Caller>>,
    counts: CacheCounts,
    names: names::Names,
}

impl Authenticator {
    /// An authenticator for these issuers. `scopes` gives the scopes that routes name their numbers.
    #[must_use]
    pub fn new(issuers: Vec<Issuer>, scopes: ScopeNames, capacity: usize) -> Self {
        Self {
            issuers,
            scopes,
            verified: Cache::new(capacity),
            counts: CacheCounts::default(),
            names: names::Names::default(),
        }
    }

    /// The caller a token speaks of. Its times are not judged here.
    ///
    /// # Errors
    /// `token-invalid`.
    pub fn identify(&self, token: &str) -> Result<Arc<Caller>, Rejection> {
        let name: [u8; 32] = digest(&SHA256, token.as_bytes()).as_ref().try_into().map_err(|_| Rejection::Internal)?;
        if let Some(caller) = self.verified.get(&name) {
            self.counts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(caller);
        }
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        let caller = Arc::new(self.verify(token).map_err(Rejection::TokenInvalid)?);
        self.verified.insert(name, Arc::clone(&caller));
        Ok(caller)
    }

    fn verify(&self, token: &str) -> Result<Caller, Why> {
        let unverified = Unverified::parse(token)?;
        let claims = unverified.claims()?;
        let issuer = self.issuer(claims.issuer()).ok_or(Why::Issuer)?;
        issuer.admits(&unverified)?;
        unverified.verify(&issuer.keys)?;
        claims.caller(&issuer.claims, &self.scopes, |text| self.names.intern(text))
    }

    /// The issuer that `iss` names, else the one that takes any or none.
    fn issuer(&self, iss: Option<&str>) -> Option<&Issuer> {
        let named =
            self.issuers.iter().find(|issuer| issuer.claims.issuer.is_some() && issuer.claims.issuer.as_deref() == iss);
        named.or_else(|| self.issuers.iter().find(|issuer| issuer.claims.issuer.is_none()))
    }

    /// The scopes that routes name.
    #[must_use]
    pub const fn scopes(&self) -> &ScopeNames {
        &self.scopes
    }

    /// The issuers.
    #[must_use]
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Counts of the cache.
    #[must_use]
    pub const fn counts(&self) -> &CacheCounts {
        &self.counts
    }

    /// Tokens remembered now.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.verified.len()
    }
}

#[cfg(test)]
mod tests;
