//! What may be open and run at once, all workers together, and who counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::BreakerConfig;

/// Somebody who has idle connections and can do without.
pub(super) trait Shed: Send + Sync {
    /// Closes one; false if there is none.
    fn shed(&self) -> bool;
}

/// The limits of a pool. What is not limited costs nothing.
pub(super) struct Breaker {
    connections: Option<Arc<Semaphore>>,
    requests: Option<Arc<Semaphore>>,
    max_pending: usize,
    pending: AtomicUsize,
    workers: Mutex<Vec<Weak<dyn Shed>>>,
    /// Calls refused for too many running ones, and for too many that wait.
    refused: [AtomicU64; 2],
}

/// One of the running calls that are limited.
pub(super) type RequestPermit = Option<Arc<OwnedSemaphorePermit>>;

/// One of the connections that are limited.
pub(super) type ConnectionPermit = Option<OwnedSemaphorePermit>;

/// There are too many.
#[derive(Debug)]
pub(super) struct Full;

impl Breaker {
    pub(super) fn new(config: &BreakerConfig) -> Self {
        let semaphore = |most: std::num::NonZeroU32| {
            Arc::new(Semaphore::new(usize::try_from(most.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)))
        };
        Self {
            connections: config.max_connections.map(semaphore),
            requests: config.max_requests.map(semaphore),
            max_pending: usize::try_from(config.max_pending).unwrap_or(usize::MAX),
            pending: AtomicUsize::new(0),
            workers: Mutex::default(),
            refused: Default::default(),
        }
    }

    /// One more worker shares the limits.
    pub(super) fn join(&self, worker: Weak<dyn Shed>) {
        if self.connections.is_some() {
            let mut workers = self.workers.lock();
            workers.retain(|worker| worker.strong_count() > 0);
            workers.push(worker);
        }
    }

    /// One more running call.
    pub(super) fn call(&self) -> Result<RequestPermit, Full> {
        let Some(requests) = &self.requests else { return Ok(None) };
        match Arc::clone(requests).try_acquire_owned() {
            Ok(permit) => Ok(Some(Arc::new(permit))),
            Err(_) => {
                self.refused[0].fetch_add(1, Ordering::Relaxed);
                Err(Full)
            }
        }
    }

    /// One more connection, if there is room: an idle one elsewhere makes room.
    pub(super) fn connection(&self) -> Result<ConnectionPermit, Full> {
        let Some(connections) = &self.connections else { return Ok(None) };
        let take = || Arc::clone(connections).try_acquire_owned().map(Some).map_err(|_| Full);
        take().or_else(|full| {
            let shed = self.workers.lock().iter().filter_map(Weak::upgrade).any(|worker| worker.shed());
            if shed { take() } else { Err(full) }
        })
    }

    /// Begins to wait for a connection. The wait ends with what this gives.
    pub(super) fn wait(&self) -> Result<Waiting<'_>, Full> {
        let waiting = Waiting(self);
        if self.pending.fetch_add(1, Ordering::Relaxed) < self.max_pending {
            return Ok(waiting);
        }
        drop(waiting);
        self.gave_up();
        Err(Full)
    }

    /// A call found no connection in time.
    pub(super) fn gave_up(&self) {
        self.refused[1].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for room.
    pub(super) async fn room(&self) -> ConnectionPermit {
        match &self.connections {
            Some(connections) => Arc::clone(connections).acquire_owned().await.ok(),
            None => None,
        }
    }

    /// Calls that wait for a connection.
    pub(super) fn pending(&self) -> usize {
        if self.connections.is_some() { self.pending.load(Ordering::Relaxed) } else { 0 }
    }

    /// Calls refused for too many running ones, and for too many that wait.
    pub(super) fn refused(&self) -> [u64; 2] {
        self.refused.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Breaker").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// A call that waits for a connection.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Breaker);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one worker has open and running at one endpoint.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: AtomicUsize,
    pub(super) connections: AtomicUsize,
}

/// An open connection, for as long as it is.
#[derive(Debug)]
pub(super) struct Open {
    tally: Arc<Tally>,
    /// Where it leads to.
    pub(super) peer: SocketAddr,
    /// The call it carries.
    pub(super) call: Option<Running>,
    _permit: ConnectionPermit,
}

impl Open {
    pub(super) fn new(tally: &Arc<Tally>, peer: SocketAddr, permit: ConnectionPermit) -> Self {
        tally.connections.fetch_add(1, Ordering::Relaxed);
        Self { tally: Arc::clone(tally), peer, call: None, _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tally.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running call, until the last byte of its answer was read.
#[derive(Debug)]
pub(super) struct Running {
    tally: Arc<Tally>,
    _permit: RequestPermit,
}

impl Running {
    pub(super) fn new(tally: &Arc<Tally>, permit: RequestPermit) -> Self {
        tally.calls.fetch_add(1, Ordering::Relaxed);
        Self { tally: Arc::clone(tally), _permit: permit }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tally.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn breaker(max_pending: u32) -> Breaker {
        let one = NonZeroU32::new(1);
        Breaker::new(&BreakerConfig { max_connections: one, max_requests: one, max_pending })
    }

    #[test]
    fn a_slot_is_free_again_when_its_holder_is_gone() {
        let breaker = breaker(0);
        let (call, connection) = (breaker.call().unwrap(), breaker.connection().unwrap());
        assert!(breaker.call().is_err() && breaker.connection().is_err());
        drop((call, connection));
        assert!(breaker.call().is_ok() && breaker.connection().is_ok());
        assert_eq!(breaker.refused(), [1, 0]);
    }

    #[test]
    fn only_so_many_may_wait() {
        let breaker = breaker(1);
        let waiting = breaker.wait().unwrap();
        assert!(breaker.wait().is_err());
        assert_eq!((breaker.pending(), breaker.refused()), (1, [0, 1]));
        drop(waiting);
        assert!(breaker.wait().is_ok());
    }

    struct Hoard(Mutex<Vec<ConnectionPermit>>);

    impl Shed for Hoard {
        fn shed(&self) -> bool {
            self.0.lock().pop().is_some()
        }
    }

    #[test]
    fn an_idle_connection_of_another_worker_makes_room() {
        let breaker = breaker(1);
        let hoard: Arc<dyn Shed> = Arc::new(Hoard(Mutex::new(vec![breaker.connection().unwrap()])));
        breaker.join(Arc::downgrade(&hoard));
        let _taken = breaker.connection().unwrap();
        assert!(breaker.connection().is_err());
    }

    #[test]
    fn what_is_not_limited_is_never_full() {
        let breaker = Breaker::new(&BreakerConfig { max_connections: None, max_requests: None, max_pending: 0 });
        assert!(breaker.call().unwrap().is_none() && breaker.connection().unwrap().is_none());
    }
}
