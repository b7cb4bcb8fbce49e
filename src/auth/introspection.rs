//! Tokens that only their issuer can read: it is asked about them (RFC 7662), once for all who wait, and what it says is
//! remembered for a short while.
//!
//! The questions are sent by the service thread: a call that is given up does not take the answer from others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, watch};
use url::Url;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::Digest;
use super::fetch::{FetchError, Fetcher, Reach};
use super::key_set::RETRY;
use crate::policy::claims::Claims;
use crate::policy::members::Members;
use crate::policy::rejection::{Rejection, Why};
use crate::policy::time::Timestamp;

/// Tokens that may be asked about at once, waiting ones included.
const FLIGHTS: usize = 4096;

/// Questions that are under way at once.
const QUESTIONS: usize = 64;

/// Failures in a row after which the issuer is left alone for a while,
const FAILURES: u32 = 5;

/// at first for so long,
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// and at most for so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How an issuer is asked about tokens.
#[derive(Clone)]
pub struct IntrospectionConfig {
    /// Where.
    pub url: Url,
    /// How it is reached.
    pub reach: Reach,
    /// Who we are there,
    pub client_id: String,
    /// and how we prove it.
    pub client_secret: SecretString,
    /// How long a good answer counts; never beyond the end of the token.
    pub positive_ttl: Duration,
    /// How long a bad one does.
    pub negative_ttl: Duration,
}

impl PartialEq for IntrospectionConfig {
    fn eq(&self, other: &Self) -> bool {
        let plain =
            |config: &Self| (config.url.clone(), config.client_id.clone(), config.positive_ttl, config.negative_ttl);
        plain(self) == plain(other)
            && self.reach == other.reach
            && self.client_secret.expose_secret() == other.client_secret.expose_secret()
    }
}

/// Shows whom it asks, never the secret.
impl std::fmt::Debug for IntrospectionConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntrospectionConfig").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// An issuer that is asked about tokens.
#[derive(Debug)]
pub struct Introspection {
    issuer: Arc<str>,
    config: IntrospectionConfig,
    state: Arc<State>,
}

/// What outlives changes of the configuration. What was said of tokens does not: scopes and rules may have changed.
#[derive(Debug)]
struct State {
    flights: Mutex<HashMap<Digest, watch::Receiver<Option<Said>>>>,
    send: mpsc::UnboundedSender<Question>,
    questions: tokio::sync::Mutex<mpsc::UnboundedReceiver<Question>>,
    breaker: Mutex<Breaker>,
    counts: AnswerCounts,
}

struct Question {
    token: Zeroizing<String>,
    digest: Digest,
    answer: watch::Sender<Option<Said>>,
}

/// What the issuer said of a token.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// It is good, and says this.
    Active(Arc<str>),
    /// It is not.
    Inactive,
    /// Nothing of use.
    Nothing,
}

/// Answers since start.
#[derive(Debug, Default)]
pub struct AnswerCounts {
    /// The token is good.
    pub active: AtomicU64,
    /// It is not.
    pub inactive: AtomicU64,
    /// There was no answer of use.
    pub failed: AtomicU64,
}

/// Keeps calls from waiting for an issuer that does not answer: after some failures it is asked once per pause.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    /// Whether one was let through since it opened last.
    trying: bool,
    error: Option<(Instant, String)>,
}

impl Breaker {
    /// Whether the issuer may be asked now.
    fn admits(&mut self, now: Instant) -> bool {
        match self.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                // One goes ahead; the others wait for what becomes of it.
                self.open_until = Some(now + self.pause());
                self.trying = true;
                true
            }
            None => true,
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(FAILURES).min(8);
        FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
    }

    /// Notes a failure; gives how many there were in a row, if it counts.
    fn failed(&mut self, reason: String, now: Instant) -> Option<u32> {
        self.error = Some((now, reason));
        // Many can be under way when it opens: that all of them fail is one outage, and no reason for a longer pause.
        if self.open_until.is_some() && !self.trying {
            return None;
        }
        self.trying = false;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.open_until = Some(now + self.pause());
        }
        Some(self.failures)
    }
}

impl Introspection {
    /// An issuer that was not asked yet.
    #[must_use]
    pub fn new(issuer: Arc<str>, config: IntrospectionConfig) -> Self {
        let (send, questions) = mpsc::unbounded_channel();
        let state = State {
            flights: Mutex::default(),
            send,
            questions: tokio::sync::Mutex::new(questions),
            breaker: Mutex::default(),
            counts: AnswerCounts::default(),
        };
        Self { issuer, config, state: Arc::new(state) }
    }

    /// This one with all that is known of it, if `before` is the same: by its issuer's name and its address.
    pub(super) fn continuing(&self, before: &Arc<Self>) -> Option<Arc<Self>> {
        if before.issuer != self.issuer || before.config.url != self.config.url {
            return None;
        }
        if before.config == self.config {
            return Some(Arc::clone(before));
        }
        let (issuer, state) = (Arc::clone(&self.issuer), Arc::clone(&before.state));
        Some(Arc::new(Self { issuer, config: self.config.clone(), state }))
    }

    /// The name of its issuer.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// How it is asked.
    #[must_use]
    pub const fn config(&self) -> &IntrospectionConfig {
        &self.config
    }

    /// Answers.
    #[must_use]
    pub fn counts(&self) -> &AnswerCounts {
        &self.state.counts
    }

    /// Whether it answers, and how long ago it last did not and why.
    #[must_use]
    pub fn report(&self) -> (bool, Option<(Duration, String)>) {
        let breaker = self.state.breaker.lock();
        let error = breaker.error.as_ref().map(|(at, reason)| (at.elapsed(), reason.clone()));
        (breaker.open_until.is_none(), error)
    }

    /// Asks about a token.
    pub(super) async fn ask(&self, token: &str, digest: Digest) -> Said {
        let Some(mut answer) = self.flight(token, digest) else { return Said::Nothing };
        // The question has a time-out of its own; this one is for a service thread that is not there.
        let patience = self.config.reach.timeout + Duration::from_secs(1);
        match tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await {
            Ok(Ok(said)) => said.clone().unwrap_or(Said::Nothing),
            Ok(Err(_)) | Err(_) => Said::Nothing,
        }
    }

    /// The question about this token, which may be under way; none if nothing more may be asked now.
    fn flight(&self, token: &str, digest: Digest) -> Option<watch::Receiver<Option<Said>>> {
        let mut flights = self.state.flights.lock();
        if let Some(answer) = flights.get(&digest) {
            return Some(answer.clone());
        }
        if flights.len() >= FLIGHTS || !self.state.breaker.lock().admits(Instant::now()) {
            return None;
        }
        let (answer, waiting) = watch::channel(None);
        let question = Question { token: Zeroizing::new(token.to_owned()), digest, answer };
        self.state.send.send(question).ok()?;
        flights.insert(digest, waiting.clone());
        Some(waiting)
    }

    /// Asks what is to be asked, for ever.
    pub(super) async fn serve(self: Arc<Self>) {
        let fetcher = Arc::new(Fetcher::new(self.config.reach.clone()));
        let places = Arc::new(Semaphore::new(QUESTIONS));
        let mut questions = self.state.questions.lock().await;
        while let Ok(place) = Arc::clone(&places).acquire_owned().await
            && let Some(question) = questions.recv().await
        {
            let (this, fetcher) = (Arc::clone(&self), Arc::clone(&fetcher));
            // On its own: a reload ends this loop, but no question.
            tokio::spawn(async move {
                let said = this.answer(&fetcher, &question.token).await;
                this.state.flights.lock().remove(&question.digest);
                question.answer.send_replace(Some(said));
                drop(place);
            });
        }
    }

    async fn answer(&self, fetcher: &Fetcher, token: &str) -> Said {
        let counts = &self.state.counts;
        match self.question(fetcher, token).await {
            Ok(said) => {
                let counter = if matches!(said, Said::Active(_)) { &counts.active } else { &counts.inactive };
                counter.fetch_add(1, Ordering::Relaxed);
                let failures = std::mem::take(&mut *self.state.breaker.lock()).failures;
                if failures >= FAILURES {
                    tracing::info!(issuer = &*self.issuer, failures, "issuer answers about tokens again");
                }
                said
            }
            Err(error) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                let failures = self.state.breaker.lock().failed(error.to_string(), Instant::now());
                // Not each time: it may last.
                if let Some(failures) = failures.filter(|failures| failures.is_power_of_two()) {
                    tracing::warn!(issuer = &*self.issuer, reason = %error, failures, "issuer cannot be asked about a token");
                }
                Said::Nothing
            }
        }
    }

    async fn question(&self, fetcher: &Fetcher, token: &str) -> Result<Said, FetchError> {
        #[derive(Deserialize)]
        struct Activity {
            active: bool,
        }
        let IntrospectionConfig { url, client_id, client_secret, .. } = &self.config;
        let content = |reason: &str| FetchError::Content { url: url.clone(), reason: reason.to_owned() };
        let basic = basic(client_id, client_secret).ok_or_else(|| content("the client-id fits no field"))?;
        let token: String = byte_serialize(token.as_bytes()).collect();
        let form = format!("token={token}&token_type_hint=access_token");
        let answer = fetcher.post(url, &basic, form).await?;
        let unreadable = || content("this is no answer about a token");
        let text = std::str::from_utf8(&answer.body).map_err(|_| unreadable())?;
        // A list would do for a struct, too.
        Members::read(text).ok_or_else(unreadable)?;
        let activity: Activity = serde_json::from_str(text).map_err(|_| unreadable())?;
        Ok(if activity.active { Said::Active(text.into()) } else { Said::Inactive })
    }
}

/// The claims in an answer. Those of a token always say who issued it and when it ends, answers need not (RFC 7662
/// section 2.2): then it is who was asked, and the answer counts until `end`.
pub(super) fn claims(answer: &str, issuer: Option<&str>, end: Timestamp) -> Result<Claims, Why> {
    Members::read(answer).ok_or(Why::Claims)?;
    let mut members: Map<String, Value> = serde_json::from_str(answer).map_err(|_| Why::Claims)?;
    members.retain(|_, value| !value.is_null());
    members.entry("exp").or_insert_with(|| (end.as_millis() / 1000).into());
    if let Some(issuer) = issuer {
        members.entry("iss").or_insert_with(|| issuer.into());
    }
    Claims::read(&Value::Object(members).to_string())
}

/// What a call is told that an issuer has said nothing about.
pub(super) const UNANSWERED: Rejection = Rejection::IssuerUnavailable(RETRY);

/// Basic authentication of a client: both parts are encoded as in a form (RFC 6749 section 2.3.1). Nothing is escaped that
/// need not be, since there are servers that do not decode them.
fn basic(id: &str, secret: &SecretString) -> Option<HeaderValue> {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.expose_secret().len()) + 1));
    pair.extend(byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(byte_serialize(secret.expose_secret().as_bytes()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
