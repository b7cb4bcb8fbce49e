//! From the text of a token to the [`Caller`] it speaks of.
//!
//! A signature is verified once per token: the caller is remembered under a digest of the token, in a bounded cache,
//! for as long as the key is one of the issuer's. Times are judged anew on every call.
//!
//! Keys stand in the configuration, or in a key set that the issuer publishes and changes (`key_set`). Most calls find
//! all they need at once ([`Authenticator::recall`]); the few that must wait for their issuer do so in
//! [`Authenticator::inquire`].

pub mod dpop;
pub mod fetch;
pub mod introspection;
pub mod issue;
mod issuer;
pub mod key_set;
pub mod keys;
mod names;
mod registry;
pub mod replay;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::policy::binding::SenderConstraint;
use crate::policy::claims::Caller;
use crate::policy::digest::sha256;
use crate::policy::rejection::{Rejection, Why};
use crate::policy::scopes::ScopeNames;
use introspection::{Introspection, Said};
use issue::TokenIssuer;
pub use issuer::{Issuer, Keys, TokenType};
use key_set::KeySet;
use keys::KeyId;
pub use registry::Issuers;
use verify::Unverified;

/// Tokens remembered by default.
pub const CACHE_CAPACITY: usize = 100_000;

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
    own: Option<TokenIssuer>,
    key_sets: Box<[Arc<KeySet>]>,
    /// The issuer that is asked about tokens that are no JWTs.
    asked: Option<Asked>,
    scopes: ScopeNames,
    verified: Cache<Digest, Verified>,
    counts: CacheCounts,
    names: names::Names,
}

type Digest = [u8; 32];

/// An issuer that is asked about tokens, and what it said of them not long ago.
#[derive(Debug)]
struct Asked {
    /// Number of the issuer.
    issuer: usize,
    said: Cache<Digest, Answered>,
}

impl Asked {
    const fn inquiry(&self, digest: Digest) -> Inquiry {
        Inquiry { issuer: self.issuer, digest, about: About::Token }
    }
}

/// What is known of a token that is no JWT.
#[derive(Debug, Clone)]
struct Answered {
    until: Instant,
    caller: Result<Arc<Caller>, Why>,
}

/// A token that was verified, and by which key.
#[derive(Debug, Clone)]
struct Verified {
    caller: Arc<Caller>,
    /// Number of the issuer; none: the gate itself, whose keys stay the same.
    issuer: Option<usize>,
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
    /// Its issuer may know more by now. Boxed, so that all others return in registers.
    Ask(Box<Inquiry>),
}

/// What an issuer is to be asked.
#[derive(Debug)]
pub struct Inquiry {
    /// Number of the issuer.
    issuer: usize,
    digest: Digest,
    about: About,
}

/// What there is to learn.
#[derive(Debug)]
enum About {
    /// Whether there is a new key.
    Key {
        /// Its name, if it has one.
        kid: Option<Box<str>>,
        /// What is wrong if there is none.
        why: Why,
    },
    /// What the token says.
    Token,
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
            asked: issuers
                .iter()
                .position(|issuer| issuer.introspection.is_some())
                .map(|issuer| Asked { issuer, said: Cache::new(capacity) }),
            issuers,
            own: None,
            scopes,
            verified: Cache::new(capacity),
            counts: CacheCounts::default(),
            names: names::Names::default(),
        }
    }

    /// The same, which also knows the tokens that the gate itself issues.
    #[must_use]
    pub fn with_own(self, own: Option<TokenIssuer>) -> Self {
        Self { own, ..self }
    }

    /// Issues tokens to sessions, where that is configured.
    #[must_use]
    pub const fn own(&self) -> Option<&TokenIssuer> {
        self.own.as_ref()
    }

    /// Whether every issuer demands proofs, so that a client can be told to begin with one.
    #[must_use]
    pub fn demands_proofs(&self) -> bool {
        self.issuers.iter().all(|issuer| issuer.claims.sender == Some(SenderConstraint::Dpop))
    }

    /// Goes on with what is known already of key sets, and of those that are asked about tokens.
    fn adopt(&mut self, known: &[Arc<KeySet>], asked: &[Arc<Introspection>]) {
        for issuer in &mut self.issuers {
            if let Keys::Published(set) = &mut issuer.keys
                && let Some(before) = known.iter().find_map(|before| set.continuing(before))
            {
                *set = before;
            }
            if let Some(introspection) = &mut issuer.introspection
                && let Some(before) = asked.iter().find_map(|before| introspection.continuing(before))
            {
                *introspection = before;
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
        let digest = sha256(token.as_bytes());
        if let Some(asked) = self.asked.as_ref().filter(|_| is_opaque(token)) {
            return self.answered(asked, digest);
        }
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
    pub async fn inquire(&self, token: &str, inquiry: Box<Inquiry>) -> Result<Arc<Caller>, Rejection> {
        let Inquiry { issuer, digest, about } = *inquiry;
        let issuer = self.issuers.get(issuer).ok_or(Rejection::Internal)?;
        let (kid, why) = match about {
            About::Key { kid, why } => (kid, why),
            About::Token => return self.introspect(token, digest, issuer).await,
        };
        let set = issuer.key_set().ok_or(Rejection::Internal)?;
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

    /// The caller a token speaks of, for an explanation: nothing is remembered, counted or asked.
    ///
    /// # Errors
    /// [`Unidentified`].
    pub fn examine(&self, token: &str) -> Result<Arc<Caller>, Unidentified> {
        let digest = sha256(token.as_bytes());
        if let Some(asked) = self.asked.as_ref().filter(|_| is_opaque(token)) {
            return match asked.said.peek(&digest).filter(|answered| Instant::now() < answered.until) {
                Some(answered) => answered.caller.map_err(Unidentified::from),
                None => Err(Unidentified::Ask(Box::new(asked.inquiry(digest)))),
            };
        }
        Ok(self.judge(token, digest, self.epoch(), |text| text.into())?.caller)
    }

    fn verify(&self, token: &str, digest: Digest, epoch: Epoch) -> Result<Arc<Caller>, Unidentified> {
        let verified = self.judge(token, digest, epoch, |text| self.names.intern(text))?;
        Ok(self.remember(digest, verified))
    }

    fn judge(
        &self,
        token: &str,
        digest: Digest,
        epoch: Epoch,
        intern: impl Fn(&str) -> Arc<str>,
    ) -> Result<Verified, Unidentified> {
        let unverified = Unverified::parse(token)?;
        let claims = unverified.claims()?;
        if let Some(own) = self.own.as_ref().filter(|own| claims.issuer() == Some(own.name())) {
            let key = unverified.verify(own.keys())?;
            let caller = unverified.issued_claims()?.caller(&self.scopes, intern)?;
            // A token of ours stands for one of an issuer: whom nobody vouches for any more, we do not either.
            self.issuer(caller.owner().issuer.as_deref()).ok_or(Why::Issuer)?;
            return Ok(Verified { caller: Arc::new(caller), issuer: None, key, epoch });
        }
        let (number, issuer) = self.issuer(claims.issuer()).ok_or(Why::Issuer)?;
        issuer.admits(&unverified)?;
        let key = match issuer.verify(&unverified) {
            Ok(key) => key,
            Err(why) if issuer.may_learn(&unverified, why) => {
                let kid = unverified.kid().map(Box::from);
                let inquiry = Inquiry { issuer: number, digest, about: About::Key { kid, why } };
                return Err(Unidentified::Ask(Box::new(inquiry)));
            }
            Err(why) => return Err(why.into()),
        };
        let caller = Arc::new(claims.caller(&issuer.claims, &self.scopes, intern)?);
        Ok(Verified { caller, issuer: Some(number), key, epoch })
    }

    fn remember(&self, digest: Digest, verified: Verified) -> Arc<Caller> {
        let caller = Arc::clone(&verified.caller);
        self.verified.insert(digest, verified);
        caller
    }

    /// What is remembered of a token that is no JWT.
    fn answered(&self, asked: &Asked, digest: Digest) -> Result<Arc<Caller>, Unidentified> {
        match asked.said.get(&digest).filter(|answered| Instant::now() < answered.until) {
            Some(answered) => {
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                answered.caller.map_err(Unidentified::from)
            }
            None => {
                self.counts.misses.fetch_add(1, Ordering::Relaxed);
                Err(Unidentified::Ask(Box::new(asked.inquiry(digest))))
            }
        }
    }

    /// Asks the issuer about a token that is no JWT.
    async fn introspect(&self, token: &str, digest: Digest, issuer: &Issuer) -> Result<Arc<Caller>, Rejection> {
        let (Some(asked), Some(introspection)) = (&self.asked, &issuer.introspection) else {
            return Err(Rejection::Internal);
        };
        let config = introspection.config();
        let (caller, counts_for) = match introspection.ask(token, digest).await {
            Said::Active(text) => {
                let end = Clock::default().wall().after(config.positive_ttl);
                let claims = introspection::claims(&text, issuer.claims.issuer.as_deref(), end);
                let caller = claims
                    .and_then(|claims| claims.caller(&issuer.claims, &self.scopes, |text| self.names.intern(text)));
                (caller.map(Arc::new), config.positive_ttl)
            }
            Said::Inactive => (Err(Why::Inactive), config.negative_ttl),
            Said::Nothing => return Err(introspection::UNANSWERED),
        };
        asked.said.insert(digest, Answered { until: Instant::now() + counts_for, caller: caller.clone() });
        caller.map_err(Rejection::TokenInvalid)
    }

    /// Whether what is known of a token lasts only for a while.
    #[must_use]
    pub fn asks_about(&self, token: &str) -> bool {
        self.asked.is_some() && is_opaque(token)
    }

    /// Whether a token that was verified before `epoch` is still good; if not, it is forgotten.
    fn renew(&self, digest: Digest, verified: &Verified, epoch: Epoch) -> bool {
        let good = match verified.issuer {
            Some(number) => self.issuers.get(number).is_some_and(|issuer| issuer.vouches(verified.key)),
            None => true,
        };
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

    /// Those who are asked about tokens.
    pub(crate) fn introspections(&self) -> impl Iterator<Item = &Arc<Introspection>> {
        self.issuers.iter().filter_map(|issuer| issuer.introspection.as_ref())
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

/// Whether a token is no JWT: those that are signed have three parts (RFC 7515 section 3.1).
fn is_opaque(token: &str) -> bool {
    memchr::memchr_iter(b'.', token.as_bytes()).count() != 2
}

#[cfg(test)]
mod tests;
