//! The connections of one worker to one endpoint: those that rest, and those that carry many calls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::UpstreamError;
use super::breaker::{ConnectionPermit, Open, Running, Tally};
use super::dial::dial;
use super::h1::Wire;
use super::h2::Slot;
use super::shared::{Joined, Shared};
use super::socket::Socket;
use super::state::{EndpointState, PoolState};
use super::tls::{self, Offer};
use super::{Endpoint, PoolConfig, Protocol};

/// A connection idle for longer than this may have got news that only the runtime's driver knows of.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

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

/// The connections to one endpoint.
pub(super) struct EndpointPool {
    pub(super) state: Arc<EndpointState>,
    pub(super) tally: Arc<Tally>,
    max_idle: usize,
    /// Resting, newest last.
    idle: Mutex<Vec<Idle>>,
    /// HTTP/2, where that may be spoken.
    shared: Option<Box<Shared>>,
    queue: Arc<Queue>,
}

/// Calls of one worker that wait for a connection of a pool that has as many as it may.
#[derive(Debug)]
pub(super) struct Queue {
    pool: Arc<PoolState>,
    pub(super) waiting: AtomicUsize,
    /// Told when a connection has come to rest.
    pub(super) rested: Notify,
}

impl Queue {
    /// Nobody waits yet.
    pub(super) fn new(pool: Arc<PoolState>) -> Self {
        Self { pool, waiting: AtomicUsize::new(0), rested: Notify::new() }
    }

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

/// What a connection must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Carry a call.
    Call,
    /// Carry a call that asks to switch protocols, and what follows.
    Switch,
}

/// What carries one call.
pub(super) enum Link {
    /// A connection.
    H1(Box<Wire>),
    /// A stream of one.
    H2(Box<Slot>),
}

/// A connection for one call.
pub(super) struct Checkout {
    pub(super) link: Link,
    pub(super) reused: bool,
}

/// A new connection, on which nothing was sent yet.
pub(super) struct Dialed {
    pub(super) socket: Socket,
    /// Whether HTTP/2 is to be spoken.
    pub(super) http2: bool,
    pub(super) open: Open,
}

impl Checkout {
    /// A new connection that carries one call at a time.
    fn alone(socket: Socket, open: Open) -> Self {
        let mut wire = Box::new(Wire::new(socket));
        wire.open = Some(open);
        Self { link: Link::H1(wire), reused: false }
    }

    /// The call counts as running until its answer was read.
    pub(super) fn begin(&mut self, running: Running) {
        match &mut self.link {
            Link::H1(wire) => {
                if let Some(open) = &mut wire.open {
                    open.call = Some(running);
                }
            }
            Link::H2(slot) => slot.call = Some(running),
        }
    }
}

impl From<Slot> for Checkout {
    fn from(slot: Slot) -> Self {
        Self { reused: slot.reused, link: Link::H2(Box::new(slot)) }
    }
}

impl EndpointPool {
    pub(super) fn new(state: Arc<EndpointState>, queue: Arc<Queue>, config: &PoolConfig) -> Self {
        let protocol = config.transport.protocol;
        let shares = protocol == Protocol::Http2 || protocol == Protocol::Auto && state.endpoint.tls;
        let shared = shares.then(|| Box::new(Shared::new(config.transport.http2, protocol == Protocol::Http2)));
        let (tally, max_idle) = (Arc::default(), config.max_idle);
        Self { state, tally, max_idle, idle: Mutex::default(), shared, queue }
    }

    /// A stream of a connection that carries others, or an idle connection that is still good. Of these the one used last
    /// comes first: it is the least likely to be closed, and the others may age out.
    pub(super) async fn reuse(&self, idle_timeout: Duration, need: Need) -> Option<Checkout> {
        if let Some(shared) = self.shared(need)
            && let Some(slot) = shared.slot(need, |peer| self.state.addresses.has(peer)).await
        {
            return Some(slot.into());
        }
        loop {
            let mut idle = self.idle.lock().pop()?;
            let rested = idle.since.elapsed();
            if idle.is_old(rested, idle_timeout) || !self.leads_here(&idle.wire) {
                continue;
            }
            // Without this the close that already arrived goes unseen, and a stray response would answer this call.
            if rested > MOMENT {
                tokio::task::yield_now().await;
            }
            if idle.wire.is_quiet() {
                return Some(Checkout { link: Link::H1(idle.wire), reused: true });
            }
        }
    }

    /// A new connection, or a stream of one that others opened meanwhile.
    pub(super) async fn connect(
        &self,
        permit: ConnectionPermit,
        config: &PoolConfig,
        need: Need,
    ) -> Result<Checkout, UpstreamError> {
        let timeout = config.connect_timeout;
        match self.shared(need) {
            // The usual case has its time-out where it dials.
            None if !self.state.endpoint.tls => {
                let (socket, peer) = dial(&self.state.endpoint, &self.state.addresses, timeout).await?;
                Ok(Checkout::alone(Socket::Tcp(socket), Open::new(&self.tally, peer, permit)))
            }
            None => {
                let dialing = Box::pin(self.dial(config, Offer::Http1, permit));
                match tokio::time::timeout(timeout, dialing).await.map_err(|_| self.too_late())? {
                    Ok(Dialed { socket, open, .. }) => Ok(Checkout::alone(socket, open)),
                    Err(error) if self.has_only_http2(&error) => {
                        let permit = self.queue.pool.breaker.connection();
                        let permit = permit.map_err(|_| UpstreamError::Overloaded("max_connections"))?;
                        Box::pin(self.connect(permit, config, need)).await
                    }
                    Err(error) => Err(error),
                }
            }
            Some(shared) => {
                // It is dialed once at most; whoever joins a connection of others needs no permit.
                let permit = Mutex::new(permit);
                let joining = Box::pin(shared.join(need, || {
                    let offer = if config.transport.protocol == Protocol::Auto { Offer::Both } else { Offer::Http2 };
                    self.dial(config, offer, permit.lock().take())
                }));
                match tokio::time::timeout(timeout, joining).await {
                    Ok(Ok(Joined::Stream(slot))) => Ok(slot.into()),
                    Ok(Ok(Joined::Alone(socket, open))) => Ok(Checkout::alone(socket, open)),
                    Ok(Ok(Joined::NoSwitch)) => {
                        // Who may choose is asked again the next time.
                        shared.only_http2(config.transport.protocol == Protocol::Http2);
                        Err(UpstreamError::NoSwitch { endpoint: self.state.endpoint.label() })
                    }
                    Ok(Err(error)) => Err(error),
                    Err(_) if shared.is_full() => Err(UpstreamError::Full { endpoint: self.state.endpoint.label() }),
                    Err(_) => Err(self.too_late()),
                }
            }
        }
    }

    /// Where there is HTTP/2 for what has this need.
    fn shared(&self, need: Need) -> Option<&Shared> {
        self.shared.as_deref().filter(|shared| shared.serves(need))
    }

    /// Whether a handshake failed because HTTP/1.1 was all it offered, to an endpoint that may speak either.
    fn has_only_http2(&self, error: &UpstreamError) -> bool {
        let (Some(shared), UpstreamError::Handshake { source, .. }) = (&self.shared, error) else { return false };
        let only = tls::cause(source).is_some_and(tls::is_about_protocols);
        if only {
            shared.only_http2(true);
        }
        only
    }

    /// A socket, and whether HTTP/2 is to be spoken over it.
    async fn dial(&self, config: &PoolConfig, offer: Offer, permit: ConnectionPermit) -> Result<Dialed, UpstreamError> {
        let endpoint = &self.state.endpoint;
        let (socket, peer) = dial(endpoint, &self.state.addresses, config.connect_timeout).await?;
        let open = Open::new(&self.tally, peer, permit);
        if !endpoint.tls {
            return Ok(Dialed { socket: Socket::Tcp(socket), http2: offer == Offer::Http2, open });
        }
        let secured = match &config.transport.tls {
            Some(tls) => tls.connect(endpoint, socket, offer).await,
            // A compiled configuration has it. Without it nobody falls back to cleartext.
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        match secured {
            Ok((socket, http2)) => Ok(Dialed { socket: Socket::Tls(socket), http2, open }),
            Err(source) => Err(UpstreamError::Handshake { endpoint: endpoint.label(), source }),
        }
    }

    fn too_late(&self) -> UpstreamError {
        UpstreamError::ConnectTimeout { endpoint: self.state.endpoint.label() }
    }

    /// Whether the endpoint is still where the connection leads to.
    fn leads_here(&self, wire: &Wire) -> bool {
        wire.open.as_ref().is_none_or(|open| self.state.addresses.has(open.peer))
    }

    /// Closes one idle connection; false if there is none.
    pub(super) fn shed(&self) -> bool {
        self.idle.lock().pop().is_some() || self.shared.as_ref().is_some_and(|shared| shared.shed())
    }

    /// Waits until a stream of some connection ends; for ever where connections do not share.
    pub(super) async fn stream_ended(&self) {
        match &self.shared {
            Some(shared) => shared.room().await,
            None => std::future::pending().await,
        }
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
        if let Some(shared) = &self.shared {
            shared.reap(idle_timeout, |peer| self.state.addresses.has(peer));
        }
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
        self.idle.lock().len() + self.shared.as_ref().map_or(0, |shared| shared.idle())
    }
}

/// The right to give a connection back, for the body that reads from it.
pub(super) struct Lease(pub(super) Arc<EndpointPool>);

impl Lease {
    /// Where the connection leads.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.0.state.endpoint
    }

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
