//! From the text of a token to the [`Caller`] it speaks of.
//!
//! A signature is verified once per token: the caller is remembered under a digest of the token, in a bounded cache,
//! for as long as the key is one of the issuer's. Times are judged anew on every call.
//!
//! Keys stand in the configuration, or in a key set that the issuer publishes and changes (`key_set`). Most calls find
//! all they need at once ([`Authenticator::recall`]); the few that must wait for their issuer do so in
//! [`Authenticator::inquire`].

pub mod fetch;
pub mod key_set;
pub mod keys;
mod names;
mod registry;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::Algorithm;
use quick_cache::sync::Cache;

use crate::policy::claims::{Caller, ClaimRules};
use crate::policy::rejection::{Rejection, Why};
use crate::policy::scopes::ScopeNames;
use key_set::{KeySet, KeySetConfig};
use keys::{KeyId, VerificationKey, is_hmac};
pub use registry::Issuers;
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
    pub keys: Keys,
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
        Self { name: name.into(), claims, typ: TokenType::Any, algorithms: Vec::new(), keys }
    }

    /// An issuer that publishes its keys.
    #[must_use]
    pub fn with_key_set(name: &str, claims: ClaimRules, config: KeySetConfig) -> Self {
        let keys = Keys::Published(Arc::new(KeySet::new(name.into(), config)));
        Self { keys, ..Self::with_keys(name, claims, Vec::new()) }
    }

    /// Its key set, if it publishes one.
    #[must_use]
    pub const fn key_set(&self) -> Option<&Arc<KeySet>> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Published(set) => Some(set),
        }
    }

    fn verify(&self, token: &Unverified<'_>) -> Result<KeyId, Why> {
        match &self.keys {
            Keys::Fixed(keys) => token.verify(keys),
            Keys::Published(set) => token.verify(&set.keys()),
        }
    }

    /// Whether a key that is not known yet could make good what is wrong.
    fn may_learn(&self, token: &Unverified<'_>, why: Why) -> bool {
        let published = self.key_set().is_some() && !is_hmac(token.algorithm());
        published && (why == Why::UnknownKey || token.kid().is_none() && matches!(why, Why::Algorithm | Why::Signature))
    }

    /// Whether a key still counts.
    fn vouches(&self, key: KeyId) -> bool {
        self.key_set().is_none_or(|set| set.has(key))
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
    key_sets: Box<[Arc<KeySet>]>,
    scopes: ScopeNames,
    verified: Cache<Digest, Verified>,
    counts: CacheCounts,
    names: names::Names,
}

type Digest = [u8; 32];

/// A token that was verified, and by which key.
#[derive(Debug, Clone)]
struct Verified {
    caller: Arc<Caller>,
    /// Number of the issuer.
    issuer: usize,
    key: KeyId,
    /// The key was still the issuer's then.
    epoch: Epoch,
}

/// Changes when a key leaves a key set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch(u64);

/// Why a token has no caller yet.
#[derive(Debug)]
pub enum Unidentified {
    /// It is not good.
    Refused(Rejection),
    /// Its issuer may know more by now.
    Ask(Inquiry),
}

/// What an issuer is to be asked.
#[derive(Debug)]
pub struct Inquiry {
    /// Number of the issuer.
    issuer: usize,
    digest: Digest,
    /// The key that was looked for.
    kid: Option<Box<str>>,
    /// What is wrong unless there is a new key.
    why: Why,
}

impl From<Why> for Unidentified {
    fn from(why: Why) -> Self {
        Self::Refused(Rejection::TokenInvalid(why))
    }
}

impl Authenticator {
    /// An authenticator for these issuers. `scopes` gives the scopes that routes name their numbers.
    #[must_use]
    pub fn new(issuers: Vec<Issuer>, scopes: ScopeNames, capacity: usize) -> Self {
        Self {
            key_sets: issuers.iter().filter_map(Issuer::key_set).cloned().collect(),
            issuers,
            scopes,
            verified: Cache::new(capacity),
            counts: CacheCounts::default(),
            names: names::Names::default(),
        }
    }

    /// Goes on with those of the key sets that are known already.
    fn adopt(&mut self, known: &[Arc<KeySet>]) {
        for issuer in &mut self.issuers {
            if let Keys::Published(set) = &mut issuer.keys
                && let Some(before) = known.iter().find_map(|before| set.continuing(before))
            {
                *set = before;
            }
        }
        self.key_sets = self.issuers.iter().filter_map(Issuer::key_set).cloned().collect();
    }

    /// The caller a token speaks of, as far as is known without asking. Its times are not judged here.
    ///
    /// # Errors
    /// `token-invalid`, `issuer-unavailable`.
    pub fn identify(&self, token: &str) -> Result<Arc<Caller>, Rejection> {
        self.recall(token).map_err(|unidentified| match unidentified {
            Unidentified::Refused(rejection) => rejection,
            Unidentified::Ask(_) => Rejection::IssuerUnavailable(key_set::RETRY),
        })
    }

    /// The same, telling tokens that are not good from those of which only their issuer can tell more.
    ///
    /// # Errors
    /// [`Unidentified`].
    pub fn recall(&self, token: &str) -> Result<Arc<Caller>, Unidentified> {
        let digest = digest(&SHA256, token.as_bytes()).as_ref().try_into();
        let digest: Digest = digest.map_err(|_| Unidentified::Refused(Rejection::Internal))?;
        let epoch = self.epoch();
        if let Some(verified) = self.verified.get(&digest)
            && (verified.epoch == epoch || self.renew(digest, &verified, epoch))
        {
            self.counts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(verified.caller);
        }
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        self.verify(token, digest, epoch)
    }

    /// Asks the issuer, and waits for its answer for a bounded time.
    ///
    /// # Errors
    /// `token-invalid`, `issuer-unavailable`.
    pub async fn inquire(&self, token: &str, inquiry: Inquiry) -> Result<Arc<Caller>, Rejection> {
        let Inquiry { issuer, digest, kid, why } = inquiry;
        let set = self.issuers.get(issuer).and_then(Issuer::key_set).ok_or(Rejection::Internal)?;
        let mut asking = set.ask(kid.as_deref());
        loop {
            match self.verify(token, digest, self.epoch()) {
                Ok(caller) => return Ok(caller),
                Err(Unidentified::Refused(rejection)) => return Err(rejection),
                Err(Unidentified::Ask(_)) if asking.wait().await => {}
                Err(Unidentified::Ask(_)) => return Err(asking.verdict(why)),
            }
        }
    }

    fn verify(&self, token: &str, digest: Digest, epoch: Epoch) -> Result<Arc<Caller>, Unidentified> {
        let unverified = Unverified::parse(token)?;
        let claims = unverified.claims()?;
        let (number, issuer) = self.issuer(claims.issuer()).ok_or(Why::Issuer)?;
        issuer.admits(&unverified)?;
        let key = match issuer.verify(&unverified) {
            Ok(key) => key,
            Err(why) if issuer.may_learn(&unverified, why) => {
                let kid = unverified.kid().map(Box::from);
                return Err(Unidentified::Ask(Inquiry { issuer: number, digest, kid, why }));
            }
            Err(why) => return Err(why.into()),
        };
        let caller = Arc::new(claims.caller(&issuer.claims, &self.scopes, |text| self.names.intern(text))?);
        self.verified.insert(digest, Verified { caller: Arc::clone(&caller), issuer: number, key, epoch });
        Ok(caller)
    }

    /// Whether a token that was verified before `epoch` is still good; if not, it is forgotten.
    fn renew(&self, digest: Digest, verified: &Verified, epoch: Epoch) -> bool {
        let good = self.issuers.get(verified.issuer).is_some_and(|issuer| issuer.vouches(verified.key));
        if good {
            self.verified.insert(digest, Verified { epoch, ..verified.clone() });
        } else {
            self.verified.remove(&digest);
        }
        good
    }

    /// What callers were remembered in counts for as long as this stays the same.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.key_sets.iter().map(|set| set.departures()).sum())
    }

    /// The issuer that `iss` names, else the one that takes any or none; and its number.
    fn issuer(&self, iss: Option<&str>) -> Option<(usize, &Issuer)> {
        let find = |fits: &dyn Fn(&Issuer) -> bool| self.issuers.iter().enumerate().find(|(_, issuer)| fits(issuer));
        let named = find(&|issuer| issuer.claims.issuer.is_some() && issuer.claims.issuer.as_deref() == iss);
        named.or_else(|| find(&|issuer| issuer.claims.issuer.is_none()))
    }

    /// The key sets of the issuers that publish one.
    #[must_use]
    pub fn key_sets(&self) -> &[Arc<KeySet>] {
        &self.key_sets
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
