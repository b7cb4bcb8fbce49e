//! One call to a pool: an endpoint, a connection, the request, at most one retry, the time it may take.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::response::Parts;
use parking_lot::Mutex;

use super::balance::Balancer;
use super::breaker::{ConnectionPermit, RequestPermit, Running, Shed};
use super::budget::Budget;
use super::choice::{Choice, Trial};
use super::error::Fault;
use super::exchange::{Exchange, Failed, Left};
use super::pool::{Checkout, EndpointPool, Lease, Link, Need, Queue};
use super::state::{EndpointState, PoolState};
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
    state: Arc<PoolState>,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) balancer: Balancer,
    /// Whether all endpoints have the same weight.
    pub(super) uniform: bool,
    queue: Arc<Queue>,
    budget: Budget,
    timer: Timer,
    counts: PoolCounts,
}

pub(super) struct Endpoints(pub(super) Vec<Arc<EndpointPool>>);

impl Shed for Endpoints {
    fn shed(&self) -> bool {
        self.0.iter().any(|endpoint| endpoint.shed())
    }
}

/// What one worker has at one endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerEndpoint {
    /// Running calls.
    pub calls: usize,
    /// Open connections, idle ones included.
    pub connections: usize,
    /// Idle connections.
    pub idle: usize,
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
    /// Also what may have been sent on a connection that had been used before: the method is safe and there is no body
    /// (RFC 9110 section 9.2.1).
    Safe,
    /// Also what may have been sent on a new connection: the method is idempotent and the route allows it (RFC 9110
    /// section 9.2.2). A body only if nothing of it was taken from the client yet.
    Idempotent,
}

impl WorkerPool {
    /// A pool as configured, without connections yet, that shares nothing with other workers.
    #[must_use]
    pub fn new(config: PoolConfig, timer: Timer) -> Self {
        Self::joining(Arc::new(PoolState::new(config)), timer)
    }

    /// This worker's part of a pool.
    #[must_use]
    pub fn joining(state: Arc<PoolState>, timer: Timer) -> Self {
        let config = state.config();
        let queue = Arc::new(Queue::new(Arc::clone(&state)));
        let pool = |endpoint: &Arc<EndpointState>| {
            Arc::new(EndpointPool::new(Arc::clone(endpoint), Arc::clone(&queue), config))
        };
        let endpoints = Arc::new(Endpoints(state.endpoints().iter().map(pool).collect()));
        let shed: Arc<dyn Shed> = Arc::clone(&endpoints) as _;
        state.breaker.join(Arc::downgrade(&shed));
        let weights = || (0..config.endpoints.len()).map(|place| config.weight(place));
        let uniform = weights().max() == weights().min();
        let balancer = Balancer::new(config);
        let (budget, counts) = (Budget::new(Instant::now()), PoolCounts::default());
        Self { endpoints, balancer, uniform, queue, budget, timer, counts, state }
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        self.state.config()
    }

    /// What it shares with other workers.
    #[must_use]
    pub const fn state(&self) -> &Arc<PoolState> {
        &self.state
    }

    /// Its totals.
    #[must_use]
    pub const fn counts(&self) -> &PoolCounts {
        &self.counts
    }

    /// What there is now at each endpoint.
    pub fn endpoints(&self) -> impl Iterator<Item = WorkerEndpoint> {
        self.endpoints.0.iter().map(|endpoint| WorkerEndpoint {
            calls: endpoint.tally.calls.load(Ordering::Relaxed),
            connections: endpoint.tally.connections.load(Ordering::Relaxed),
            idle: endpoint.idle(),
        })
    }

    /// Keeps house, about once a second: closes connections that have been idle for too long.
    pub fn reap(&self) {
        self.endpoints.0.iter().for_each(|endpoint| endpoint.reap(self.config().idle_timeout));
        self.budget.tick(self.sent(), Instant::now());
    }

    /// Requests sent so far.
    fn sent(&self) -> u64 {
        self.counts.connects.load(Ordering::Relaxed) + self.counts.reuses.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for the head of the answer, at most for `timeout` after the last progress of its body.
    ///
    /// It is sent again, once, if nothing of it was sent, or if a connection that had been used before ended without a
    /// byte of an answer to a safe request without a body (RFC 9112 section 9.3.1). As far as the budget goes, it is also
    /// sent again if the upstream says that it did not process it, or if `repeat` allows more.
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
        let permit = self.state.breaker.call().map_err(|_| UpstreamError::Overloaded("max_requests"))?;
        let progress = upload.progress();
        let progress = progress.as_deref();
        let mut tried = Vec::new();
        let need = if request.upgrade().is_some() { Need::Switch } else { Need::Call };
        let chosen = self.checkout(request, need, &permit, None, &mut tried).await?;
        let (place, reused) = (chosen.place, chosen.checkout.reused);
        let Failed { error, left, silent } = match self.attempt(chosen, request, upload, progress, timeout).await {
            Ok(reply) => return Ok(reply),
            Err(failed) => failed,
        };
        // Some repeats are due in any case. Of the others there may be too many.
        let (upload, due) = match left {
            Left::Unsent(upload) => (upload, true),
            Left::Refused(upload) => (upload, false),
            Left::Intact(upload) if silent => {
                let due = reused && upload.is_empty() && request.method().is_safe();
                match repeat {
                    Repeat::Safe if !due => return Err(error),
                    Repeat::IfUnsent => return Err(error),
                    Repeat::Safe | Repeat::Idempotent => (upload, due),
                }
            }
            Left::Intact(_) | Left::Nothing => return Err(error),
        };
        if !due && !self.budget.take(&self.config().budget, self.sent(), &self.state.reserve, Instant::now()) {
            self.state.budget_exhausted();
            return Err(error);
        }
        self.counts.retries.fetch_add(1, Ordering::Relaxed);
        // That a resting connection was closed says nothing of its endpoint.
        let next = if reused {
            place.into()
        } else {
            tried.push(place);
            self.pick(request, &tried).unwrap_or(place.into())
        };
        let chosen = self.checkout(request, need, &permit, Some(next), &mut tried).await?;
        let again = self.attempt(chosen, request, upload, progress, timeout).await;
        again.map_err(|failed| failed.error)
    }

    /// A connection to an endpoint that takes calls: a new one to `again`, if that is there. Endpoints that cannot be
    /// reached are passed over.
    async fn checkout(
        &self,
        request: &impl Outbound,
        need: Need,
        permit: &RequestPermit,
        mut again: Option<Choice>,
        tried: &mut Vec<usize>,
    ) -> Result<Chosen, UpstreamError> {
        let mut failed = None;
        loop {
            let fresh = again.is_some();
            let choice = again.take().or_else(|| self.pick(request, tried));
            let found = choice.and_then(|choice| Some((self.endpoints.0.get(choice.place)?, choice)));
            let Some((endpoint, Choice { place, trial })) = found else {
                return Err(failed.unwrap_or_else(|| {
                    self.state.refused_unavailable();
                    UpstreamError::Unavailable
                }));
            };
            match self.connection(endpoint, permit, fresh, need).await {
                Ok(checkout) => return Ok(Chosen { place, endpoint: Arc::clone(endpoint), checkout, trial }),
                // It is the pool that has too many.
                Err(error @ UpstreamError::Overloaded(_)) => return Err(error),
                Err(error) => {
                    if let Some(fault) = error.fault() {
                        self.state.failed(&endpoint.state, fault, trial.is_some());
                    }
                    tried.push(place);
                    failed = Some(error);
                }
            }
        }
    }

    async fn connection(
        &self,
        endpoint: &EndpointPool,
        permit: &RequestPermit,
        fresh: bool,
        need: Need,
    ) -> Result<Checkout, UpstreamError> {
        let running = Running::new(&endpoint.tally, permit.clone());
        let idle = if fresh { None } else { endpoint.reuse(self.config().idle_timeout, need).await };
        let mut checkout = match idle {
            Some(checkout) => checkout,
            None => self.connect(endpoint, need).await?,
        };
        let count = if checkout.reused { &self.counts.reuses } else { &self.counts.connects };
        count.fetch_add(1, Ordering::Relaxed);
        checkout.begin(running);
        Ok(checkout)
    }

    /// A new connection, or an idle one that turns up while there is no room for a new one.
    async fn connect(&self, endpoint: &EndpointPool, need: Need) -> Result<Checkout, UpstreamError> {
        let permit = match self.state.breaker.connection() {
            Ok(permit) => permit,
            Err(_) => match self.wait(endpoint, need).await? {
                Place::Idle(checkout) => return Ok(checkout),
                Place::Room(permit) => permit,
            },
        };
        endpoint.connect(permit, self.config(), need).await
    }

    async fn wait(&self, endpoint: &EndpointPool, need: Need) -> Result<Place, UpstreamError> {
        let breaker = &self.state.breaker;
        let _waiting = breaker.wait().map_err(|_| UpstreamError::Overloaded("max_pending"))?;
        let _here = Here::begin(&self.queue);
        let place = async {
            loop {
                if let Some(checkout) = endpoint.reuse(self.config().idle_timeout, need).await {
                    return Place::Idle(checkout);
                }
                if let Ok(permit) = breaker.connection() {
                    return Place::Room(permit);
                }
                tokio::select! {
                    permit = breaker.room() => return Place::Room(permit),
                    () = self.queue.rested.notified() => {}
                    () = endpoint.stream_ended() => {}
                }
            }
        };
        self.timer.timeout(self.config().connect_timeout, place).await.map_err(|_| {
            breaker.gave_up();
            UpstreamError::Overloaded("max_connections")
        })
    }

    async fn attempt(
        &self,
        chosen: Chosen,
        request: &impl Outbound,
        upload: Upload,
        progress: Option<&Progress>,
        timeout: Duration,
    ) -> Result<Reply, Failed> {
        let Chosen { endpoint, checkout: Checkout { link, reused }, trial, .. } = chosen;
        let outcome = match link {
            Link::H1(wire) => {
                let exchange = h1::Exchange::begin(wire, Lease(Arc::clone(&endpoint)), request, upload);
                self.finish(exchange, request, progress, timeout).await
            }
            Link::H2(slot) => {
                let exchange = h2::Exchange::begin(*slot, &endpoint.state.endpoint, request, upload)?;
                // Boxed, so that it does not make the other larger.
                Box::pin(self.finish(exchange, request, progress, timeout)).await
            }
        };
        self.judge(&endpoint.state, &outcome, reused, trial.is_some());
        outcome
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

    /// What the outcome of a call says of its endpoint.
    fn judge(&self, endpoint: &EndpointState, outcome: &Result<Reply, Failed>, reused: bool, trial: bool) {
        let fault = match outcome {
            Ok(reply) => {
                let broken = reply.head.status.is_server_error()
                    && self.config().ejection.is_some_and(|rules| rules.server_errors);
                if !broken {
                    return self.state.succeeded(endpoint);
                }
                Some(Fault::ServerError)
            }
            // What a resting connection looks like that was closed just then.
            Err(failed) if reused && failed.silent => None,
            Err(failed) => failed.error.fault(),
        };
        if let Some(fault) = fault {
            self.state.failed(endpoint, fault, trial);
        }
    }
}

/// An endpoint and a connection to it.
struct Chosen {
    place: usize,
    endpoint: Arc<EndpointPool>,
    checkout: Checkout,
    trial: Option<Trial>,
}

/// What a call that waited got.
enum Place {
    Idle(Checkout),
    Room(ConnectionPermit),
}

/// A call of this worker that waits for a connection.
struct Here<'a>(&'a Queue);

impl<'a> Here<'a> {
    fn begin(queue: &'a Queue) -> Self {
        queue.waiting.fetch_add(1, Ordering::Relaxed);
        Self(queue)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerPool").field("name", &self.config().name).finish_non_exhaustive()
    }
}

/// The pools of one worker, kept over reloads while their configuration stays the same.
#[derive(Debug, Default)]
pub struct WorkerPools(Mutex<Vec<Arc<WorkerPool>>>);

impl WorkerPools {
    /// This worker's part of these pools, in their order. Pools that are no longer wanted end with their last call.
    pub fn resolve(&self, wanted: &[Arc<PoolState>], timer: &Timer) -> Vec<Arc<WorkerPool>> {
        let mut known = self.0.lock();
        let pools: Vec<_> = wanted
            .iter()
            .map(|state| match known.iter().find(|pool| Arc::ptr_eq(&pool.state, state)) {
                Some(pool) => Arc::clone(pool),
                None => Arc::new(WorkerPool::joining(Arc::clone(state), timer.clone())),
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
