//! One call to a pool: a connection, the request, at most one retry, the time it may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::pool::{Checkout, EndpointPool, Lease};
use super::upload::{Progress, Upload};
use super::{Endpoint, PoolConfig, UpstreamError};
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

/// An answer, and the connection it comes by.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub response: Response<Incoming>,
    /// To be released when the body has been read.
    pub lease: Lease,
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
        let endpoints = config.endpoints.iter().cloned().map(EndpointPool::new).map(Arc::new).collect();
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

    /// Sends a request and waits for the head of the answer, at most for `timeout` after the request was taken.
    ///
    /// It is sent again, once and on a new connection, if nothing of it was sent, or if `repeat` allows it and a
    /// connection that had been used before ended without a byte of an answer (RFC 9112 section 9.3.1).
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        &self,
        head: impl Fn(&Endpoint) -> Request<()>,
        upload: Upload,
        repeat: Repeat,
        timeout: Duration,
    ) -> Result<Reply, UpstreamError> {
        let progress = upload.progress();
        let (endpoint, checkout) = self.checkout().await?;
        let reused = checkout.reused;
        let failed = match self
            .attempt(&endpoint, checkout, head(&endpoint.endpoint).map(|()| upload), progress.as_deref(), timeout)
            .await
        {
            Ok(reply) => return Ok(reply),
            Err(failed) => failed,
        };
        let upload = match failed {
            Failed { unsent: Some(upload), .. } => upload,
            Failed { error: UpstreamError::Protocol(error), .. }
                if reused && repeat == Repeat::Safe && is_silent_end(&error) =>
            {
                Upload::Empty
            }
            Failed { error, .. } => return Err(error),
        };
        self.counts.retries.fetch_add(1, Ordering::Relaxed);
        let checkout = self.connect(&endpoint).await?;
        let again = self
            .attempt(&endpoint, checkout, head(&endpoint.endpoint).map(|()| upload), progress.as_deref(), timeout)
            .await;
        again.map_err(|failed| failed.error)
    }

    /// A connection to the next endpoint in turn; one that cannot be reached is passed over.
    async fn checkout(&self) -> Result<(Arc<EndpointPool>, Checkout), UpstreamError> {
        let turn = if self.endpoints.len() == 1 { 0 } else { self.next.fetch_add(1, Ordering::Relaxed) };
        let mut failed = None;
        for offset in 0..self.endpoints.len() {
            let endpoint = &self.endpoints[(turn + offset) % self.endpoints.len()];
            if let Some(checkout) = endpoint.reuse(self.config.idle_timeout).await {
                self.counts.reuses.fetch_add(1, Ordering::Relaxed);
                return Ok((Arc::clone(endpoint), checkout));
            }
            match self.connect(endpoint).await {
                Ok(checkout) => return Ok((Arc::clone(endpoint), checkout)),
                Err(error) => failed = Some(error),
            }
        }
        // A compiled configuration has at least one endpoint in every pool.
        Err(failed.unwrap_or(UpstreamError::ResponseTimeout))
    }

    async fn connect(&self, endpoint: &EndpointPool) -> Result<Checkout, UpstreamError> {
        let checkout = endpoint.connect(&self.config).await?;
        self.counts.connects.fetch_add(1, Ordering::Relaxed);
        Ok(checkout)
    }

    async fn attempt(
        &self,
        endpoint: &Arc<EndpointPool>,
        checkout: Checkout,
        request: Request<Upload>,
        progress: Option<&Progress>,
        timeout: Duration,
    ) -> Result<Reply, Failed> {
        let mut sender = checkout.sender;
        let sending = sender.try_send_request(request);
        tokio::pin!(sending);
        let outcome = loop {
            let before = progress.map(Progress::bytes);
            match self.timer.timeout(timeout, sending.as_mut()).await {
                Ok(outcome) => break outcome,
                // A long upload may take longer than an answer, as long as it moves.
                Err(_) if progress.is_some_and(|progress| before != Some(progress.bytes())) => {}
                Err(_) => return Err(Failed { error: UpstreamError::ResponseTimeout, unsent: None }),
            }
        };
        match outcome {
            Ok(response) => {
                let lease = Lease::new(sender, Arc::clone(endpoint), self.config.max_idle);
                Ok(Reply { response, lease })
            }
            Err(mut error) => {
                let unsent = error.take_message().map(Request::into_body);
                let error = match progress.and_then(Progress::fault) {
                    Some(fault) => UpstreamError::Upload(fault),
                    None => UpstreamError::Protocol(error.into_error()),
                };
                Err(Failed { error, unsent })
            }
        }
    }
}

impl std::fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerPool").field("name", &self.config.name).finish_non_exhaustive()
    }
}

struct Failed {
    error: UpstreamError,
    /// The body, if nothing of the request was sent.
    unsent: Option<Upload>,
}

/// Whether a connection ended without a byte of an answer: what a keep-alive connection looks like that the upstream
/// closed just then.
fn is_silent_end(error: &hyper::Error) -> bool {
    use std::error::Error;
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || io.is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
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
