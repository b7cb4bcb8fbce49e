//! The connections of one worker to one endpoint: those that rest, and those that carry many calls.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::dial::dial;
use super::h1::Wire;
use super::h2::Slot;
use super::shared::{Joined, Shared};
use super::socket::Socket;
use super::tls::Offer;
use super::{Endpoint, PoolConfig, Protocol, UpstreamError};

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
    pub(super) endpoint: Endpoint,
    max_idle: usize,
    /// Resting, newest last.
    idle: Mutex<Vec<Idle>>,
    /// HTTP/2, where that may be spoken.
    shared: Option<Box<Shared>>,
}

/// What a connection must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Carry a call.
    Call,
    /// Carry a call that asks to switch protocols: HTTP/1.1.
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

impl From<Slot> for Checkout {
    fn from(slot: Slot) -> Self {
        Self { reused: slot.reused, link: Link::H2(Box::new(slot)) }
    }
}

impl EndpointPool {
    pub(super) fn new(endpoint: Endpoint, config: &PoolConfig) -> Self {
        let protocol = config.transport.protocol;
        let shares = protocol == Protocol::Http2 || protocol == Protocol::Auto && endpoint.tls;
        let shared = shares.then(|| Box::new(Shared::new(config.transport.http2)));
        Self { endpoint, max_idle: config.max_idle, idle: Mutex::new(Vec::new()), shared }
    }

    /// A stream of a connection that carries others, or an idle connection that is still good. Of these the one used last
    /// comes first: it is the least likely to be closed, and the others may age out.
    pub(super) async fn reuse(&self, idle_timeout: Duration, need: Need) -> Option<Checkout> {
        if let (Some(shared), Need::Call) = (&self.shared, need)
            && let Some(slot) = shared.slot().await
        {
            return Some(slot.into());
        }
        loop {
            let mut idle = self.idle.lock().pop()?;
            let rested = idle.since.elapsed();
            if idle.is_old(rested, idle_timeout) {
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
    pub(super) async fn connect(&self, config: &PoolConfig, need: Need) -> Result<Checkout, UpstreamError> {
        let timeout = config.connect_timeout;
        let wire = |socket| Checkout { link: Link::H1(Box::new(Wire::new(socket))), reused: false };
        match (&self.shared, need) {
            // The usual case has its time-out where it dials.
            (None, _) if !self.endpoint.tls => Ok(wire(Socket::Tcp(dial(&self.endpoint, timeout).await?))),
            (Some(_), Need::Switch) if config.transport.protocol == Protocol::Http2 => {
                Err(UpstreamError::NoSwitch { endpoint: self.name() })
            }
            (None, _) | (Some(_), Need::Switch) => {
                let dialing = Box::pin(self.dial(config, Offer::Http1));
                let timed = tokio::time::timeout(timeout, dialing).await;
                Ok(wire(timed.map_err(|_| self.too_late())??.0))
            }
            (Some(shared), Need::Call) => {
                let joining = Box::pin(shared.join(|| {
                    let offer = if config.transport.protocol == Protocol::Auto { Offer::Both } else { Offer::Http2 };
                    self.dial(config, offer)
                }));
                match tokio::time::timeout(timeout, joining).await {
                    Ok(Ok(Joined::Stream(slot))) => Ok(slot.into()),
                    Ok(Ok(Joined::Alone(socket))) => Ok(wire(socket)),
                    Ok(Err(error)) => Err(error),
                    Err(_) if shared.is_full() => Err(UpstreamError::Full { endpoint: self.name() }),
                    Err(_) => Err(self.too_late()),
                }
            }
        }
    }

    /// A socket, and whether HTTP/2 is to be spoken over it.
    async fn dial(&self, config: &PoolConfig, offer: Offer) -> Result<(Socket, bool), UpstreamError> {
        let socket = dial(&self.endpoint, config.connect_timeout).await?;
        if !self.endpoint.tls {
            return Ok((Socket::Tcp(socket), offer == Offer::Http2));
        }
        let secured = match &config.transport.tls {
            Some(tls) => tls.connect(&self.endpoint, socket, offer).await,
            // A compiled configuration has it. Without it nobody falls back to cleartext.
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        match secured {
            Ok((socket, http2)) => Ok((Socket::Tls(socket), http2)),
            Err(source) => Err(UpstreamError::Handshake { endpoint: self.name(), source }),
        }
    }

    fn name(&self) -> String {
        format!("{}:{}", self.endpoint.host, self.endpoint.port)
    }

    fn too_late(&self) -> UpstreamError {
        UpstreamError::ConnectTimeout { endpoint: self.name() }
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
        if let Some(shared) = &self.shared {
            shared.reap(idle_timeout);
        }
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
        self.idle.lock().len() + self.shared.as_ref().map_or(0, |shared| shared.idle())
    }
}

/// The right to give a connection back, for the body that reads from it.
pub(super) struct Lease(pub(super) Arc<EndpointPool>);

impl Lease {
    /// Where the connection leads.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

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
