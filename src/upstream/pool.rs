//! Idle connections of one worker to one endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::dial::dial;
use super::h1::Wire;
use super::{Endpoint, PoolConfig, UpstreamError};

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
    pub(super) endpoint: Endpoint,
    max_idle: usize,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that carries one call.
pub(super) struct Checkout {
    pub(super) wire: Box<Wire>,
    pub(super) reused: bool,
}

impl EndpointPool {
    pub(super) const fn new(endpoint: Endpoint, max_idle: usize) -> Self {
        Self { endpoint, max_idle, idle: Mutex::new(Vec::new()) }
    }

    /// An idle connection that is still good, the one used last first: it is the least likely to be closed, and the
    /// others may age out.
    pub(super) async fn reuse(&self, idle_timeout: Duration) -> Option<Checkout> {
        loop {
            let idle = self.idle.lock().pop()?;
            let rested = idle.since.elapsed();
            if idle.is_old(rested, idle_timeout) {
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

    /// A new connection.
    pub(super) async fn connect(&self, config: &PoolConfig) -> Result<Checkout, UpstreamError> {
        let socket = dial(&self.endpoint, config.connect_timeout).await?;
        Ok(Checkout { wire: Box::new(Wire::new(socket)), reused: false })
    }

    fn put_back(&self, mut wire: Box<Wire>, limit: Option<Duration>) {
        wire.rest();
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
            !idle.is_old(rested, idle_timeout) && idle.wire.is_quiet()
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
        f.debug_struct("Lease").field("endpoint", &self.0.endpoint).finish()
    }
}
