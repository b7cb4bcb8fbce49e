//! Idle connections of one worker to one endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::UpstreamError;
use super::breaker::{ConnectionPermit, Open, Tally};
use super::dial::dial;
use super::h1::Wire;
use super::state::{EndpointState, PoolState};

/// A connection idle for longer than this may have got news that only the runtime's driver knows of.
const MOMENT: Duration = Duration::from_millis(1);

/// A connection idle for longer than this gives its buffers back when it is looked at.
const DOZE: Duration = Duration::from_secs(1);

struct Idle {
    wire: Box<Wire>,
    since: Instant,
    /// How long it may rest, if the upstream said so.
    limit: Option<Duration>,
}

impl Idle {
    fn is_old(&self, rested: Duration, limit: Duration) -> bool {
        rested > self.limit.map_or(limit, |own| own.min(limit))
    }
}

/// The idle connections to one endpoint, newest last.
pub(super) struct EndpointPool {
    pub(super) state: Arc<EndpointState>,
    pub(super) tally: Arc<Tally>,
    max_idle: usize,
    idle: Mutex<Vec<Idle>>,
    queue: Arc<Queue>,
}

/// Calls of one worker that wait for a connection of a pool that has as many as it may.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) pool: Arc<PoolState>,
    pub(super) waiting: AtomicUsize,
    /// Told when a connection has come to rest.
    pub(super) rested: Notify,
}

impl Queue {
    /// What becomes of a connection that is done: whoever waits here takes it up, whoever waits elsewhere needs its place.
    fn wants_place(&self) -> bool {
        if self.pool.pending() == 0 {
            return false;
        }
        let here = self.waiting.load(Ordering::Relaxed) > 0;
        if here {
            self.rested.notify_one();
        }
        !here
    }
}

/// A connection that carries one call.
pub(super) struct Checkout {
    pub(super) wire: Box<Wire>,
    pub(super) reused: bool,
}

impl EndpointPool {
    pub(super) fn new(state: Arc<EndpointState>, queue: Arc<Queue>, max_idle: usize) -> Self {
        Self { state, tally: Arc::default(), max_idle, idle: Mutex::default(), queue }
    }

    /// An idle connection that is still good, the one used last first: it is the least likely to be closed, and the
    /// others may age out.
    pub(super) async fn reuse(&self, idle_timeout: Duration) -> Option<Checkout> {
        loop {
            let idle = self.idle.lock().pop()?;
            let rested = idle.since.elapsed();
            if idle.is_old(rested, idle_timeout) || !self.leads_here(&idle.wire) {
                continue;
            }
            // Without this the close that already arrived goes unseen, and a stray response would answer this call.
            if rested > MOMENT {
                tokio::task::yield_now().await;
            }
            if idle.wire.is_quiet() {
                return Some(Checkout { wire: idle.wire, reused: true });
            }
        }
    }

    /// A new connection, within `timeout`.
    pub(super) async fn connect(&self, permit: ConnectionPermit, timeout: Duration) -> Result<Checkout, UpstreamError> {
        let (socket, peer) = dial(&self.state.endpoint, &self.state.addresses, timeout).await?;
        let mut wire = Box::new(Wire::new(socket));
        wire.open = Some(Open::new(&self.tally, peer, permit));
        Ok(Checkout { wire, reused: false })
    }

    /// Whether the endpoint is still where the connection leads to.
    fn leads_here(&self, wire: &Wire) -> bool {
        wire.open.as_ref().is_none_or(|open| self.state.addresses.has(open.peer))
    }

    /// Closes one idle connection; false if there is none.
    pub(super) fn shed(&self) -> bool {
        self.idle.lock().pop().is_some()
    }

    fn put_back(&self, mut wire: Box<Wire>, limit: Option<Duration>) {
        wire.rest();
        if let Some(open) = &mut wire.open {
            open.call = None;
        }
        if self.queue.wants_place() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.max_idle {
            idle.push(Idle { wire, since: Instant::now(), limit });
        }
    }

    /// Closes connections that have been idle for too long or that the upstream has closed, and lets the others have
    /// only what they need for a long rest.
    pub(super) fn reap(&self, idle_timeout: Duration) {
        self.idle.lock().retain_mut(|idle| {
            let rested = idle.since.elapsed();
            if rested > DOZE {
                idle.wire.sleep();
            }
            !idle.is_old(rested, idle_timeout) && self.leads_here(&idle.wire) && idle.wire.is_quiet()
        });
    }

    /// Idle connections now.
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().len()
    }
}

/// The right to give a connection back, for the body that reads from it.
pub(super) struct Lease(pub(super) Arc<EndpointPool>);

impl Lease {
    /// Gives the connection back for the next call; it may rest for `limit`, if the upstream said so.
    pub(super) fn release(self, wire: Box<Wire>, limit: Option<Duration>) {
        self.0.put_back(wire, limit);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("endpoint", &self.0.state.endpoint).finish()
    }
}
