//! HTTP/2 connections of one worker to one endpoint. Each carries as many calls as the upstream allows; one is opened at a
//! time, so that a burst of calls shares what a single call would need.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::breaker::Open;
use super::h2::{Link, Slot};
use super::pool::{Dialed, MOMENT, Need};
use super::socket::Socket;
use super::{Http2Config, UpstreamError};

/// The HTTP/2 connections to one endpoint.
pub(super) struct Shared {
    config: Http2Config,
    links: Mutex<Vec<Link>>,
    /// Held by who opens a connection.
    opening: AsyncMutex<()>,
    /// Told when a stream ends.
    room: Arc<Notify>,
    /// Whether the endpoint chose HTTP/1.1 the last time it could choose. Then nobody waits for others to open a
    /// connection.
    prefers_http1: AtomicBool,
    /// Whether the endpoint speaks only HTTP/2, as far as is known.
    only_http2: AtomicBool,
}

/// What came of asking for a stream.
pub(super) enum Joined {
    /// A stream.
    Stream(Slot),
    /// The endpoint chose HTTP/1.1.
    Alone(Socket, Open),
    /// The endpoint does not know extended CONNECT.
    NoSwitch,
}

impl Shared {
    pub(super) fn new(config: Http2Config, only_http2: bool) -> Self {
        Self {
            config,
            links: Mutex::default(),
            opening: AsyncMutex::default(),
            room: Arc::default(),
            prefers_http1: AtomicBool::new(false),
            only_http2: AtomicBool::new(only_http2),
        }
    }

    /// Whether what has this need goes by a stream. Who switches protocols keeps what carries it for long, so that is a
    /// connection of its own wherever it can be.
    pub(super) fn serves(&self, need: Need) -> bool {
        match need {
            Need::Call => true,
            Need::Switch => self.only_http2.load(Ordering::Relaxed),
        }
    }

    /// Remembers whether the endpoint speaks HTTP/1.1, too.
    pub(super) fn only_http2(&self, only: bool) {
        self.only_http2.store(only, Ordering::Relaxed);
    }

    /// A stream of an open connection, to a peer that is still wanted.
    pub(super) async fn slot(&self, need: Need, wanted: impl Fn(SocketAddr) -> bool) -> Option<Slot> {
        let rested = self.links.lock().iter().filter_map(Link::rested).max();
        if rested.is_some_and(|rested| rested > MOMENT) {
            // Lets the tasks of the connections see what has arrived.
            tokio::task::yield_now().await;
        }
        self.links.lock().retain(|link| wanted(link.peer()));
        self.take(need)
    }

    /// A stream of an open connection, or of a new one over what `dial` gives.
    pub(super) async fn join<D>(&self, need: Need, dial: impl Fn() -> D) -> Result<Joined, UpstreamError>
    where
        D: Future<Output = Result<Dialed, UpstreamError>>,
    {
        loop {
            if self.prefers_http1.load(Ordering::Relaxed) {
                return self.open(need, dial().await?).await;
            }
            // Before looking: what ends meanwhile is not missed.
            let room = self.room.notified();
            let opening = self.opening.lock().await;
            if let Some(slot) = self.take(need) {
                return Ok(Joined::Stream(slot));
            }
            // What one connection does not do, another one would not either.
            if need == Need::Switch && self.links.lock().iter().any(|link| !link.switches()) {
                return Ok(Joined::NoSwitch);
            }
            if self.links.lock().len() < self.config.max_connections {
                return self.open(need, dial().await?).await;
            }
            drop(opening);
            room.await;
        }
    }

    /// Closes connections that have carried no call for too long, and lets go of those that carry no further ones.
    pub(super) fn reap(&self, idle_timeout: Duration, wanted: impl Fn(SocketAddr) -> bool) {
        self.links.lock().retain(|link| {
            link.is_usable() && wanted(link.peer()) && link.rested().is_none_or(|rested| rested <= idle_timeout)
        });
    }

    /// Closes a connection without a call; false if there is none.
    pub(super) fn shed(&self) -> bool {
        let mut links = self.links.lock();
        let idle = links.iter().position(|link| link.rested().is_some());
        idle.map(|place| links.swap_remove(place)).is_some()
    }

    /// Waits until a stream ends.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// Connections without a call.
    pub(super) fn idle(&self) -> usize {
        self.links.lock().iter().filter(|link| link.rested().is_some()).count()
    }

    /// Whether there may be no further connection.
    pub(super) fn is_full(&self) -> bool {
        self.links.lock().len() >= self.config.max_connections
    }

    fn take(&self, need: Need) -> Option<Slot> {
        let mut links = self.links.lock();
        links.retain(Link::is_usable);
        links.iter().filter(|link| need == Need::Call || link.switches()).find_map(Link::slot)
    }

    async fn open(&self, need: Need, dialed: Dialed) -> Result<Joined, UpstreamError> {
        let Dialed { socket, http2, open } = dialed;
        self.prefers_http1.store(!http2, Ordering::Relaxed);
        if !http2 {
            return Ok(Joined::Alone(socket, open));
        }
        let link = Link::open(socket, open, Arc::clone(&self.room), self.config.ping_interval).await?;
        let refused = need == Need::Switch && !link.switches();
        let slot = if refused { None } else { link.slot() };
        self.links.lock().push(link);
        match slot {
            Some(slot) => Ok(Joined::Stream(slot)),
            None if refused => Ok(Joined::NoSwitch),
            None => Err(UpstreamError::Closed),
        }
    }
}
