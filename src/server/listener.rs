//! Listening sockets: one per worker and address, and the loop that accepts.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::admin::ConnectionCounts;

/// Connections that the kernel holds for a worker that is busy.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the process or the machine has no descriptor or memory left. Without a pause the loop
/// would spin, since the connection stays in the queue.
const PAUSE: Duration = Duration::from_millis(50);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {}", remedy(.source))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the process that has the port, choose another one, or take it over on purpose"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need the right to bind them (CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "check the address",
    }
}

/// Binds `address` once per worker.
///
/// All sockets share the port (`SO_REUSEPORT`) and the kernel spreads connections over them. That option would also let
/// another process of the same user join silently and take part of our calls, so the port is first bound without it;
/// `takeover` skips this, for a new binary that takes over from a running one. Port 0 is chosen by the first socket.
///
/// # Errors
///
/// [`ListenError`] with the address and what to do.
pub fn bind(address: SocketAddr, workers: usize, takeover: bool) -> Result<Vec<TcpListener>, ListenError> {
    let bind =
        |address: SocketAddr, shared: bool| open(address, shared).map_err(|source| ListenError { address, source });
    if !takeover && address.port() != 0 {
        drop(bind(address, false)?);
    }
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(workers);
    for _ in 0..workers {
        let chosen = match listeners.first() {
            Some(first) => first.local_addr().map_err(|source| ListenError { address, source })?,
            None => address,
        };
        listeners.push(bind(chosen, true)?);
    }
    Ok(listeners)
}

/// Whether accepted sockets have the options of their listener. Answers are written whole, and waiting for more to send
/// would only delay them (`TCP_NODELAY`).
const INHERITED: bool = cfg!(target_os = "linux");

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Binding again at once after a restart, while old connections are in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    socket.set_reuse_port(shared)?;
    #[cfg(not(unix))]
    let _ = shared;
    socket.set_nonblocking(true)?;
    if INHERITED {
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Why a connection ended for something that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The peer may not send a PROXY header.
    ProxySender,
    /// There was no usable PROXY header.
    ProxyHeader,
    /// It took too long.
    ProxyTimeout,
    /// Much HTTP/2 and no calls.
    Http2Flood,
    /// A misuse of HTTP/2 that its library counts.
    Http2Abuse,
}

impl Refused {
    const NAMES: [&str; 5] = ["proxy-sender", "proxy-header", "proxy-timeout", "http2-flood", "http2-abuse"];
}

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    Done,
    Failed,
    TimedOut,
}

impl Handshake {
    const NAMES: [&str; 3] = ["ok", "failed", "timeout"];
}

/// Why a connection could not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcceptError {
    /// The client left before we came.
    Client,
    /// There is no descriptor left.
    Descriptors,
    Other,
}

impl AcceptError {
    const NAMES: [&str; 3] = ["client", "descriptors", "other"];

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused => {
                Self::Client
            }
            _ if error.raw_os_error().is_some_and(|code| matches!(code, EMFILE | ENFILE)) => Self::Descriptors,
            _ => Self::Other,
        }
    }
}

/// The process, or the machine, has no descriptor left; the standard library has no name for it.
const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();

/// Counts of connections, for metrics and for the limit.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    accepted: AtomicU64,
    open: AtomicUsize,
    errors: [AtomicU64; AcceptError::NAMES.len()],
    handshakes: [AtomicU64; Handshake::NAMES.len()],
    refused: [AtomicU64; Refused::NAMES.len()],
    /// Told when a connection closes, for the loops that wait at the limit.
    closed: Notify,
}

impl ConnectionStats {
    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Everything that was counted.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        fn named(names: &[&'static str], counts: &[AtomicU64]) -> Vec<(&'static str, u64)> {
            names.iter().zip(counts).map(|(name, count)| (*name, count.load(Ordering::Relaxed))).collect()
        }
        ConnectionCounts {
            accepted: self.accepted.load(Ordering::Relaxed),
            open: self.open() as u64,
            accept_errors: named(&AcceptError::NAMES, &self.errors),
            handshakes: named(&Handshake::NAMES, &self.handshakes),
            refused: named(&Refused::NAMES, &self.refused),
        }
    }

    pub(super) fn handshake(&self, result: Handshake) {
        self.handshakes[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, reason: Refused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<ConnectionStats>);

impl Counted {
    fn open(stats: &Arc<ConnectionStats>) -> Self {
        stats.accepted.fetch_add(1, Ordering::Relaxed);
        stats.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(stats))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        // All of them: the one that is told first may have nobody in its queue.
        self.0.closed.notify_waiters();
    }
}

/// An accepted connection.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) counted: Counted,
}

/// Waits until fewer than `most` connections are open. All loops that wait look when one closes: only some of them have a
/// client in their queue.
async fn wait_for_room(stats: &ConnectionStats, most: impl Fn() -> usize) {
    while stats.open() >= most() {
        let mut closed = std::pin::pin!(stats.closed.notified());
        closed.as_mut().enable();
        // One may have closed before we listened.
        if stats.open() >= most() {
            closed.await;
        }
    }
}

/// Accepts the next connection, while fewer than `most` are open.
pub(super) async fn accept(
    listener: &tokio::net::TcpListener,
    stats: &Arc<ConnectionStats>,
    most: impl Fn() -> usize,
) -> Accepted {
    loop {
        wait_for_room(stats, &most).await;
        match listener.accept().await {
            Ok((stream, address)) => {
                if !INHERITED {
                    let _ = stream.set_nodelay(true);
                }
                return Accepted { stream, address, counted: Counted::open(stats) };
            }
            Err(error) => {
                let kind = AcceptError::of(&error);
                stats.errors[kind as usize].fetch_add(1, Ordering::Relaxed);
                // Nothing is wrong here.
                if kind == AcceptError::Client {
                    continue;
                }
                tracing::warn!(%error, "cannot accept connections; pausing");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn the_workers_share_one_port_that_the_first_chose() {
        let listeners = bind(any(), 3, false).expect("bind");
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().expect("bound").port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_even_if_it_could_be_shared() {
        let other = bind(any(), 1, false).expect("bind");
        let address = other[0].local_addr().expect("bound");
        let error = bind(address, 1, false).expect_err("taken");
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("stop the process"), "{text}");
        bind(address, 1, true).expect("taken over on purpose");
        drop(other);
    }

    #[tokio::test]
    async fn answers_on_an_accepted_socket_do_not_wait_for_more() {
        let listener = bind(any(), 1, false).expect("bind").remove(0);
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let listener = tokio::net::TcpListener::from_std(listener).expect("registered");
        let accepted = accept(&listener, &Arc::default(), || 1).await;
        assert!(accepted.stream.nodelay().expect("an option"));
    }

    #[test]
    fn an_address_of_another_machine_says_so() {
        let address = SocketAddr::from(([192, 0, 2, 1], 0));
        let text = bind(address, 1, false).expect_err("not ours").to_string();
        assert!(text.contains("no such address"), "{text}");
    }
}
