//! The key set of an issuer, alive: fetched in the background, kept while the issuer is away, fetched at once, but not
//! again and again, when a token names a key that nobody knows.
//!
//! Calls only read what is there. The few that must wait are those whose token was signed with a key that may be new.

mod document;
mod refresh;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, watch};
use url::Url;

use super::fetch::Reach;
use super::keys::{KeyId, VerificationKey};
use crate::policy::digest::sha256;
use crate::policy::rejection::{Rejection, Wait, Why};

/// What callers are told to wait while there is no usable key, in seconds.
pub(super) const RETRY: Wait = Wait(5);

/// Names of keys that were looked for in vain and are remembered,
const ABSENT_MOST: usize = 1024;

/// and for how long: whoever signs with a key that is published later than that has waited for a refresh anyway.
const ABSENT_FOR: Duration = Duration::from_secs(60);

/// Where a key set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From where the discovery document of the issuer says (OpenID Connect Discovery 1.0 section 4).
    Discovery {
        /// The issuer, as the document must name it.
        issuer: Arc<str>,
        /// The document.
        url: Url,
    },
    /// From here.
    Url(Url),
}

impl Source {
    /// The source of the issuer `issuer`, whose documents are beneath it.
    ///
    /// # Errors
    /// If it is not the address of anything.
    pub fn discovery(issuer: &str) -> Result<Self, url::ParseError> {
        let url = Url::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
        Ok(Self::Discovery { issuer: issuer.into(), url })
    }

    /// The address it begins at.
    #[must_use]
    pub const fn url(&self) -> &Url {
        match self {
            Self::Discovery { url, .. } | Self::Url(url) => url,
        }
    }
}

/// How a key set is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySetConfig {
    /// Where it comes from.
    pub source: Source,
    /// How its source is reached.
    pub reach: Reach,
    /// Bounds of the time between two fetches; within them the server decides.
    pub refresh: RangeInclusive<Duration>,
    /// Shortest time between two fetches because of unknown keys.
    pub cooldown: Duration,
    /// How long a call with an unknown key may wait for a fetch.
    pub wait: Duration,
    /// How long the last good set is used while there is no other.
    pub max_stale: Duration,
}

/// A key set.
#[derive(Debug)]
pub struct KeySet {
    issuer: Arc<str>,
    config: KeySetConfig,
    state: Arc<State>,
}

/// What is known of a key set. It outlives changes of the configuration.
#[derive(Debug)]
struct State {
    keys: ArcSwap<Vec<VerificationKey>>,
    /// How often a key has left the set.
    departures: AtomicU64,
    progress: watch::Sender<Progress>,
    wanted: Notify,
    /// Number of the fetch that calls with unknown keys wait for.
    awaited: AtomicU64,
    /// Whether the operator wants it, who need not wait.
    forced: AtomicBool,
    record: Mutex<Record>,
    /// When names of keys were found to be absent.
    absent: Cache<[u8; 32], Instant>,
    counts: FetchCounts,
}

/// Fetches, counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    begun: u64,
    ended: u64,
    /// Whether the last one that ended was good.
    good: bool,
}

/// What is remembered of fetches.
#[derive(Debug, Default)]
struct Record {
    /// When the set was last known to be the issuer's.
    confirmed: Option<Instant>,
    /// When a fetch was last made because of an unknown key.
    asked: Option<Instant>,
    failures: u32,
    error: Option<(Instant, String)>,
    skipped: usize,
    etag: Option<HeaderValue>,
    /// Where discovery leads, and when that was found.
    location: Option<(Url, Instant)>,
}

/// Results of fetches since start.
#[derive(Debug, Default)]
pub struct FetchCounts {
    /// A set was there.
    pub changed: AtomicU64,
    /// It was the one that is known.
    pub unchanged: AtomicU64,
    /// There was none that is of use.
    pub failed: AtomicU64,
}

/// What is known of a key set now, for operators.
#[derive(Debug, Clone)]
pub struct KeySetReport {
    /// Its keys.
    pub keys: Arc<Vec<VerificationKey>>,
    /// Entries that are not used.
    pub skipped: usize,
    /// How long ago it was last known to be the issuer's; none: never.
    pub age: Option<Duration>,
    /// How long ago the last fetch failed and why, if it did.
    pub error: Option<(Duration, String)>,
}

/// A call that waits for a key.
pub(super) struct Asking<'s> {
    set: &'s KeySet,
    kid: Option<&'s str>,
    progress: watch::Receiver<Progress>,
    until: Instant,
    asked: bool,
    /// A fetch did not end in time.
    late: bool,
}

impl KeySet {
    /// A set of which nothing is known yet.
    #[must_use]
    pub fn new(issuer: Arc<str>, config: KeySetConfig) -> Self {
        let state = State {
            keys: ArcSwap::default(),
            departures: AtomicU64::new(0),
            progress: watch::Sender::default(),
            wanted: Notify::new(),
            awaited: AtomicU64::new(0),
            forced: AtomicBool::new(false),
            record: Mutex::default(),
            absent: Cache::new(ABSENT_MOST),
            counts: FetchCounts::default(),
        };
        Self { issuer, config, state: Arc::new(state) }
    }

    /// This set with all that is known of it, if `before` is the same: by its issuer's name and its source.
    pub(super) fn continuing(&self, before: &Arc<Self>) -> Option<Arc<Self>> {
        let same = before.issuer == self.issuer && before.config.source == self.config.source;
        let with = |config: &KeySetConfig| {
            let (issuer, state) = (Arc::clone(&self.issuer), Arc::clone(&before.state));
            Arc::new(Self { issuer, config: config.clone(), state })
        };
        same.then(|| if before.config == self.config { Arc::clone(before) } else { with(&self.config) })
    }

    /// The name of its issuer.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// How it is kept.
    #[must_use]
    pub const fn config(&self) -> &KeySetConfig {
        &self.config
    }

    /// Results of fetches.
    #[must_use]
    pub fn counts(&self) -> &FetchCounts {
        &self.state.counts
    }

    /// Its keys now.
    pub(super) fn keys(&self) -> arc_swap::Guard<Arc<Vec<VerificationKey>>> {
        self.state.keys.load()
    }

    /// Whether a key is still one of it.
    pub(super) fn has(&self, id: KeyId) -> bool {
        self.keys().iter().any(|key| key.id() == id)
    }

    /// How often a key has left it.
    pub(super) fn departures(&self) -> u64 {
        self.state.departures.load(Ordering::Acquire)
    }

    /// What is known of it.
    #[must_use]
    pub fn report(&self) -> KeySetReport {
        let record = self.state.record.lock();
        KeySetReport {
            keys: self.state.keys.load_full(),
            skipped: record.skipped,
            age: record.confirmed.map(|at| at.elapsed()),
            error: record.error.as_ref().map(|(at, reason)| (at.elapsed(), reason.clone())),
        }
    }

    /// Fetches it now, whoever asked when.
    ///
    /// # Errors
    /// Why there is no new set; the one before stays.
    pub async fn refresh(&self) -> Result<(), String> {
        let mut progress = self.state.progress.subscribe();
        let answered_by = progress.borrow_and_update().begun + 1;
        self.state.forced.store(true, Ordering::Release);
        self.state.wanted.notify_one();
        // One call for the set and one before it for where it is.
        let patience = self.config.reach.timeout * 3;
        let ended = progress.wait_for(|progress| progress.ended >= answered_by);
        match tokio::time::timeout(patience, ended).await {
            Ok(Ok(progress)) if progress.good => Ok(()),
            Ok(Ok(_)) => Err(self.report().error.map_or_else(String::new, |(_, reason)| reason)),
            Ok(Err(_)) | Err(_) => Err("nobody fetches it".to_owned()),
        }
    }

    /// Asks for the key, perhaps named `kid`, of a token that none of the known ones has signed.
    pub(super) fn ask<'s>(&'s self, kid: Option<&'s str>) -> Asking<'s> {
        let until = Instant::now() + self.config.wait;
        Asking { set: self, kid, progress: self.state.progress.subscribe(), until, asked: false, late: false }
    }

    /// Wants the fetch with this number, because of an unknown key; false if it will not begin before `until`. Then it
    /// begins when the cool-down is over, so that a new key is known by then, whoever spent the fetch before it.
    fn want(&self, number: u64, kid: Option<&str>, until: Instant) -> bool {
        if kid.is_some_and(|kid| self.is_absent(kid)) {
            return false;
        }
        let asked = self.state.record.lock().asked;
        self.state.awaited.fetch_max(number, Ordering::AcqRel);
        self.state.wanted.notify_one();
        asked.is_none_or(|asked| asked + self.config.cooldown <= until)
    }

    fn is_absent(&self, kid: &str) -> bool {
        self.state.absent.get(&name(kid)).is_some_and(|since| since.elapsed() < ABSENT_FOR)
    }
}

impl Asking<'_> {
    /// Waits for the end of a fetch. False if none is to come, or not in time.
    pub(super) async fn wait(&mut self) -> bool {
        let Progress { begun, ended, .. } = *self.progress.borrow_and_update();
        // What is under way may have been read before the key was published: if it does not help, there is another.
        let number = if begun > ended {
            begun
        } else if !self.asked && self.set.want(begun + 1, self.kid, self.until) {
            self.asked = true;
            begun + 1
        } else {
            return false;
        };
        let fetched = self.progress.wait_for(|progress| progress.ended >= number);
        self.late = !matches!(tokio::time::timeout_at(self.until.into(), fetched).await, Ok(Ok(_)));
        !self.late
    }

    /// What a call is told whose key is not known after all that could be done. `why` is what is wrong if there is none.
    pub(super) fn verdict(&self, why: Why) -> Rejection {
        let good = self.progress.borrow().good;
        if self.late || !good || self.set.keys().is_empty() {
            return Rejection::IssuerUnavailable(RETRY);
        }
        // In a cool-down nobody has looked for it.
        if let Some(kid) = self.kid
            && self.asked
        {
            self.set.state.absent.insert(name(kid), Instant::now());
        }
        Rejection::TokenInvalid(why)
    }
}

/// Names of any length take the same room.
fn name(kid: &str) -> [u8; 32] {
    sha256(kid.as_bytes())
}

#[cfg(test)]
mod tests;
