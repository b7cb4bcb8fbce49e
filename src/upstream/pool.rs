//! Idle connections of one worker to one endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::upload::Upload;
use super::{Endpoint, PoolConfig, UpstreamError};

/// A connection idle for longer than this may have got news that only the runtime's driver knows of.
const MOMENT: Duration = Duration::from_millis(1);

/// Most fields of a response; the side toward clients has no limit of its own.
const RESPONSE_FIELDS_MAX: usize = 256;

struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// The idle connections to one endpoint, newest last.
pub(super) struct EndpointPool {
    pub(super) endpoint: Endpoint,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that carries one call.
pub(super) struct Checkout {
    pub(super) sender: SendRequest<Upload>,
    pub(super) reused: bool,
}

impl EndpointPool {
    pub(super) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::new(Vec::new()) }
    }

    /// An idle connection that is still good, the one used last first: it is the least likely to be closed, and the
    /// others may age out.
    pub(super) async fn reuse(&self, idle_timeout: Duration) -> Option<Checkout> {
        loop {
            let Idle { mut sender, since } = self.idle.lock().pop()?;
            let rested = since.elapsed();
            if rested > idle_timeout {
                continue;
            }
            // Without this the close that already arrived goes unseen, and a stray response would answer this call.
            if rested > MOMENT || !sender.is_ready() {
                tokio::task::yield_now().await;
            }
            if sender.is_ready()
                || futures_util::FutureExt::now_or_never(sender.ready()).is_some_and(|ready| ready.is_ok())
            {
                return Some(Checkout { sender, reused: true });
            }
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self, config: &PoolConfig) -> Result<Checkout, UpstreamError> {
        let endpoint = || format!("{}:{}", self.endpoint.host, self.endpoint.port);
        let connecting = TcpStream::connect((&*self.endpoint.host, self.endpoint.port));
        let socket = match tokio::time::timeout(config.connect_timeout, connecting).await {
            Err(_) => return Err(UpstreamError::ConnectTimeout { endpoint: endpoint() }),
            Ok(Err(source)) if is_exhausted(&source) => {
                return Err(UpstreamError::Exhausted { endpoint: endpoint(), source });
            }
            Ok(Err(source)) => return Err(UpstreamError::Connect { endpoint: endpoint(), source }),
            Ok(Ok(socket)) => socket,
        };
        socket.set_nodelay(true).map_err(|source| UpstreamError::Connect { endpoint: endpoint(), source })?;
        let mut builder = http1::Builder::new();
        builder.max_headers(RESPONSE_FIELDS_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(UpstreamError::Protocol)?;
        // What goes wrong on it is told to the call it carries.
        tokio::spawn(connection);
        Ok(Checkout { sender, reused: false })
    }

    fn put_back(&self, sender: SendRequest<Upload>, max_idle: usize) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < max_idle {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn reap(&self, idle_timeout: Duration) {
        let mut idle = self.idle.lock();
        let old = idle.iter().take_while(|idle| idle.since.elapsed() > idle_timeout).count();
        drop(idle.drain(..old));
    }

    /// Idle connections now.
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().len()
    }
}

/// Local exhaustion: no descriptors, no ports, no memory.
fn is_exhausted(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory};
    matches!(error.kind(), AddrInUse | AddrNotAvailable | OutOfMemory)
        || matches!(error.raw_os_error(), Some(23 | 24 | 105))
}

/// A connection whose response is being read. Released when the body has ended; dropped before that, it closes.
pub struct Lease {
    sender: SendRequest<Upload>,
    pool: Arc<EndpointPool>,
    max_idle: usize,
}

impl Lease {
    pub(super) const fn new(sender: SendRequest<Upload>, pool: Arc<EndpointPool>, max_idle: usize) -> Self {
        Self { sender, pool, max_idle }
    }

    /// Gives the connection back for the next call.
    pub fn release(self) {
        self.pool.put_back(self.sender, self.max_idle);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("endpoint", &self.pool.endpoint).finish_non_exhaustive()
    }
}
