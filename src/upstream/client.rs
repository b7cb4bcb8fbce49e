//! One call to a pool: a connection, the request, at most one retry, the time it may take.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::response::Parts;
use parking_lot::Mutex;

use super::exchange::{Exchange, Failed};
use super::pool::{Checkout, EndpointPool, Lease, Link, Need};
use super::upload::{Progress, Upload};
use super::{Outbound, PoolConfig, ReplyBody, UpstreamError, h1, h2};
use crate::timer::Timer;

/// Totals of a pool since it was made.
#[derive(Debug, Default)]
pub struct PoolCounts {
    /// Connections opened.
    pub connects: AtomicU64,
    /// Calls sent on a connection that had carried one before.
    pub reuses: AtomicU64,
    /// Calls sent a second time.
    pub retries: AtomicU64,
}

/// The connections of one worker to one pool of endpoints.
pub struct WorkerPool {
    config: PoolConfig,
    endpoints: Vec<Arc<EndpointPool>>,
    next: AtomicUsize,
    timer: Timer,
    counts: PoolCounts,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its head, without the fields that concern only the hop to the upstream. Its `content-length` is right for the body,
    /// or for the body there would be if there were one (HEAD, 304).
    pub head: Parts,
    /// Its body, and the connection it comes by.
    pub body: ReplyBody,
}

/// What may be done again when a connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Only what was certainly never sent.
    IfUnsent,
    /// Also what may have been sent: the method is safe and there is no body (RFC 9110 section 9.2.1).
    Safe,
}

impl WorkerPool {
    /// A pool as configured, without connections yet.
    #[must_use]
    pub fn new(config: PoolConfig, timer: Timer) -> Self {
        let pool = |endpoint| Arc::new(EndpointPool::new(endpoint, &config));
        let endpoints = config.endpoints.iter().cloned().map(pool).collect();
        Self { config, endpoints, next: AtomicUsize::new(0), timer, counts: PoolCounts::default() }
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Its totals.
    #[must_use]
    pub const fn counts(&self) -> &PoolCounts {
        &self.counts
    }

    /// Idle connections now.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.idle()).sum()
    }

    /// Closes connections that have been idle for too long.
    pub fn reap(&self) {
        self.endpoints.iter().for_each(|endpoint| endpoint.reap(self.config.idle_timeout));
    }

    /// Sends a request and waits for the head of the answer, at most for `timeout` after the last progress of its body.
    ///
    /// It is sent again, once and on a new connection, if nothing of it was sent, or if `repeat` allows it and a
    /// connection that had been used before ended without a byte of an answer (RFC 9112 section 9.3.1).
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        &self,
        request: &impl Outbound,
        upload: Upload,
        repeat: Repeat,
        timeout: Duration,
    ) -> Result<Reply, UpstreamError> {
        let progress = upload.progress();
        let progress = progress.as_deref();
        let need = if request.upgrade().is_some() { Need::Switch } else { Need::Call };
        let (endpoint, checkout) = self.checkout(need).await?;
        let reused = checkout.reused;
        let upload = match self.attempt(&endpoint, checkout, request, upload, progress, timeout).await {
            Ok(reply) => return Ok(reply),
            Err(Failed { unsent: Some(upload), .. }) => upload,
            Err(Failed { silent: true, .. }) if reused && repeat == Repeat::Safe => Upload::Empty,
            Err(Failed { error, .. }) => return Err(error),
        };
        self.counts.retries.fetch_add(1, Ordering::Relaxed);
        let checkout = self.connect(&endpoint, need).await?;
        let again = self.attempt(&endpoint, checkout, request, upload, progress, timeout).await;
        again.map_err(|failed| failed.error)
    }

    /// A connection to the next endpoint in turn; one that cannot be reached is passed over.
    async fn checkout(&self, need: Need) -> Result<(Arc<EndpointPool>, Checkout), UpstreamError> {
        let turn = if self.endpoints.len() == 1 { 0 } else { self.next.fetch_add(1, Ordering::Relaxed) };
        let mut failed = None;
        for offset in 0..self.endpoints.len() {
            let endpoint = &self.endpoints[(turn + offset) % self.endpoints.len()];
            if let Some(checkout) = endpoint.reuse(self.config.idle_timeout, need).await {
                self.counts.reuses.fetch_add(1, Ordering::Relaxed);
                return Ok((Arc::clone(endpoint), checkout));
            }
            match self.connect(endpoint, need).await {
                Ok(checkout) => return Ok((Arc::clone(endpoint), checkout)),
                Err(error) => failed = Some(error),
            }
        }
        // A compiled configuration has at least one endpoint in every pool.
        Err(failed.unwrap_or(UpstreamError::ResponseTimeout))
    }

    async fn connect(&self, endpoint: &EndpointPool, need: Need) -> Result<Checkout, UpstreamError> {
        let checkout = endpoint.connect(&self.config, need).await?;
        // Others may have waited for the same connection, or for a stream of an older one.
        let count = if checkout.reused { &self.counts.reuses } else { &self.counts.connects };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(checkout)
    }

    async fn attempt(
        &self,
        endpoint: &Arc<EndpointPool>,
        checkout: Checkout,
        request: &impl Outbound,
        upload: Upload,
        progress: Option<&Progress>,
        timeout: Duration,
    ) -> Result<Reply, Failed> {
        match checkout.link {
            Link::H1(wire) => {
                let exchange = h1::Exchange::begin(wire, Lease(Arc::clone(endpoint)), request, upload);
                self.finish(exchange, request, progress, timeout).await
            }
            Link::H2(slot) => {
                let exchange = h2::Exchange::begin(*slot, &endpoint.endpoint, request, upload)?;
                // Boxed, so that it does not make the other larger.
                Box::pin(self.finish(exchange, request, progress, timeout)).await
            }
        }
    }

    /// Waits for the head of the answer.
    async fn finish<E: Exchange>(
        &self,
        mut exchange: E,
        request: &impl Outbound,
        progress: Option<&Progress>,
        timeout: Duration,
    ) -> Result<Reply, Failed> {
        let outcome = loop {
            let before = progress.map(Progress::bytes);
            let head = poll_fn(|context| exchange.poll_head(context, |head| request.interim(head)));
            match self.timer.timeout(timeout, head).await {
                Ok(outcome) => break outcome,
                // A long upload may take longer than an answer, as long as it moves; a client that pauses has a time-out of
                // its own.
                Err(_) if progress.is_some_and(|upload| before != Some(upload.bytes()) || upload.is_waiting()) => {}
                Err(_) => break Err(UpstreamError::ResponseTimeout),
            }
        };
        match outcome {
            Ok(head) => Ok(exchange.reply(head)),
            Err(error) => Err(exchange.fail(error)),
        }
    }
}

impl std::fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerPool").field("name", &self.config.name).finish_non_exhaustive()
    }
}

/// The pools of one worker, kept over reloads while their configuration stays the same.
#[derive(Debug, Default)]
pub struct WorkerPools(Mutex<Vec<Arc<WorkerPool>>>);

impl WorkerPools {
    /// The pools for these configurations, in their order. Pools that are no longer wanted end with their last call.
    pub fn resolve(&self, wanted: &[PoolConfig], timer: &Timer) -> Vec<Arc<WorkerPool>> {
        let mut known = self.0.lock();
        let pools: Vec<_> = wanted
            .iter()
            .map(|config| match known.iter().find(|pool| pool.config() == config) {
                Some(pool) => Arc::clone(pool),
                None => Arc::new(WorkerPool::new(config.clone(), timer.clone())),
            })
            .collect();
        known.clone_from(&pools);
        pools
    }

    /// All pools in use.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<WorkerPool>> {
        self.0.lock().clone()
    }
}
