//! How a key set is kept up to date: one loop per set.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use url::Url;

use super::document::key_set_url;
use super::{KeySet, Progress, Record, Source, State};
use crate::auth::fetch::{Answer, FetchError, Fetcher};
use crate::auth::keys::{KeyError, VerificationKey};

/// How long it is remembered where discovery leads.
const LOCATION_FOR: Duration = Duration::from_secs(3600);

/// The pause after the first failure; it doubles up to the shortest time between two fetches.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Why a fetch is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It is time.
    Due,
    /// A token named an unknown key.
    Asked,
    /// The operator wants it.
    Forced,
}

impl KeySet {
    /// Keeps it up to date, for ever.
    pub(in crate::auth) async fn keep(self: Arc<Self>) {
        let fetcher = Fetcher::new(self.config.reach.clone());
        // A set that is known already, from before a reload, need not be fetched at once; unless that broke off a fetch.
        let complete = |progress: &Progress| progress.begun == progress.ended;
        let known = self.state.record.lock().confirmed.filter(|_| complete(&self.state.progress.borrow()));
        let mut due = known.map_or_else(Instant::now, |confirmed| confirmed + *self.config.refresh.start());
        loop {
            let cause = self.cause(due).await;
            let pause = self.attempt(&fetcher, cause).await;
            due = Instant::now() + pause;
        }
    }

    /// Waits for a reason to fetch.
    async fn cause(&self, due: Instant) -> Cause {
        let State { wanted, awaited, forced, record, progress, .. } = &*self.state;
        loop {
            if forced.swap(false, Ordering::AcqRel) {
                return Cause::Forced;
            }
            // Whatever has begun since they asked answers them, too.
            let asked = awaited.load(Ordering::Acquire) > progress.borrow().ended;
            let now = Instant::now();
            let (last_asked, stale) = {
                let record = record.lock();
                (record.asked, record.confirmed.map(|confirmed| confirmed + self.config.max_stale))
            };
            let allowed = last_asked.map_or(now, |last| last + self.config.cooldown);
            // First, so that what would have been fetched anyway does not count as asked for.
            if due <= now {
                return Cause::Due;
            }
            if asked && allowed <= now {
                return Cause::Asked;
            }
            let stale = stale.filter(|_| !self.keys().is_empty());
            if stale.is_some_and(|stale| stale <= now) {
                self.give_up();
                continue;
            }
            let next = [Some(due), asked.then_some(allowed), stale].into_iter().flatten().min().unwrap_or(due);
            _ = tokio::time::timeout_at(next.into(), wanted.notified()).await;
        }
    }

    /// Fetches once; gives the pause before the next time.
    async fn attempt(&self, fetcher: &Fetcher, cause: Cause) -> Duration {
        let state = &*self.state;
        if cause == Cause::Asked {
            state.record.lock().asked = Some(Instant::now());
        }
        state.progress.send_modify(|progress| progress.begun += 1);
        let outcome = self.fetch(fetcher).await;
        let good = outcome.is_ok();
        let pause = match outcome {
            Ok(answer) => {
                let shortest = *self.config.refresh.start();
                let longest = (*self.config.refresh.end()).max(shortest);
                // Gates that were started together do not stay in step.
                answer.max_age.unwrap_or(longest).clamp(shortest, longest).mul_f64(0.8 + jitter() / 5.0)
            }
            Err(error) => self.failed(&error),
        };
        state.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.good = good;
        });
        pause
    }

    async fn fetch(&self, fetcher: &Fetcher) -> Result<Answer, FetchError> {
        let url = match &self.config.source {
            Source::Url(url) => url.clone(),
            Source::Discovery { issuer, url } => self.locate(fetcher, issuer, url).await?,
        };
        let tag = self.state.record.lock().etag.clone().filter(|_| !self.keys().is_empty());
        let answer = fetcher.get(&url, tag.as_ref()).await?;
        if answer.unchanged {
            self.confirmed(|_| {});
            self.state.counts.unchanged.fetch_add(1, Ordering::Relaxed);
            return Ok(answer);
        }
        let (keys, skipped) = VerificationKey::from_public_jwks(&answer.body).map_err(|error| {
            // The reason may quote from the document.
            let reason = match error {
                KeyError::NotAKeySet(_) => "this is not a JSON Web Key Set".to_owned(),
                other => other.to_string(),
            };
            FetchError::Content { url: url.clone(), reason }
        })?;
        self.replace(keys, skipped);
        self.confirmed(|record| {
            record.etag.clone_from(&answer.etag);
            record.skipped = skipped;
        });
        Ok(answer)
    }

    /// Where the set is, by the discovery document: the one that was read not long ago, if all went well since.
    async fn locate(&self, fetcher: &Fetcher, issuer: &str, url: &Url) -> Result<Url, FetchError> {
        let known = {
            let record = self.state.record.lock();
            record.location.clone().filter(|(_, found)| record.failures == 0 && found.elapsed() < LOCATION_FOR)
        };
        if let Some((location, _)) = known {
            return Ok(location);
        }
        let answer = fetcher.get(url, None).await?;
        let location =
            key_set_url(&answer.body, issuer).map_err(|reason| FetchError::Content { url: url.clone(), reason })?;
        self.state.record.lock().location = Some((location.clone(), Instant::now()));
        Ok(location)
    }

    fn confirmed(&self, change: impl FnOnce(&mut Record)) {
        let mut record = self.state.record.lock();
        if record.failures > 0 {
            tracing::info!(issuer = &*self.issuer, failures = record.failures, "issuer keys can be fetched again");
        }
        record.confirmed = Some(Instant::now());
        record.failures = 0;
        record.error = None;
        change(&mut record);
    }

    /// Puts another set in force.
    fn replace(&self, keys: Vec<VerificationKey>, skipped: usize) {
        let state = &*self.state;
        let before = state.keys.load_full();
        let missing = |from: &[VerificationKey], other: &[VerificationKey]| -> Vec<String> {
            let gone = from.iter().filter(|key| other.iter().all(|known| known.id() != key.id()));
            gone.map(|key| key.kid().unwrap_or("without kid").chars().take(100).collect()).collect()
        };
        let (gone, new) = (missing(&before, &keys), missing(&keys, &before));
        let same = gone.is_empty() && new.is_empty();
        state.counts.count(!same);
        if same {
            return;
        }
        state.keys.store(Arc::new(keys));
        state.absent.clear();
        // Only now: whoever sees the count must see that the key is gone.
        if !gone.is_empty() {
            state.departures.fetch_add(1, Ordering::AcqRel);
        }
        tracing::info!(issuer = &*self.issuer, ?new, ?gone, skipped, "issuer keys changed");
    }

    /// Notes a failure; gives the pause before the next try.
    fn failed(&self, error: &FetchError) -> Duration {
        self.state.counts.failed.fetch_add(1, Ordering::Relaxed);
        let mut record = self.state.record.lock();
        record.failures = record.failures.saturating_add(1);
        let failures = record.failures;
        record.error = Some((Instant::now(), error.to_string()));
        drop(record);
        // Not each time: it may last.
        if failures.is_power_of_two() {
            let kept = self.keys().len();
            tracing::warn!(
                issuer = &*self.issuer,
                reason = %error,
                failures,
                kept,
                "issuer keys cannot be fetched; those known last stay in use"
            );
        }
        let longest = (*self.config.refresh.start()).max(FIRST_PAUSE);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
        pause.mul_f64(0.8 + jitter() / 5.0)
    }

    /// Forgets keys that nobody has confirmed for too long.
    fn give_up(&self) {
        self.state.keys.store(Arc::default());
        self.state.departures.fetch_add(1, Ordering::AcqRel);
        tracing::error!(
            issuer = &*self.issuer,
            max_stale = ?self.config.max_stale,
            "issuer keys have not been confirmed for too long and are no longer used"
        );
    }
}

impl super::FetchCounts {
    fn count(&self, changed: bool) {
        let counter = if changed { &self.changed } else { &self.unchanged };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// From 0 to 1.
fn jitter() -> f64 {
    f64::from(u16::from_ne_bytes(crate::random::bytes())) / f64::from(u16::MAX)
}
