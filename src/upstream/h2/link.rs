//! A connection that carries many calls at once, and the right to a stream of it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{HEAD_BYTES, QUEUED_BYTES, STREAM_WINDOW, STREAMS_MAX, failure};
use crate::upstream::UpstreamError;
use crate::upstream::breaker::{Open, Running};
use crate::upstream::socket::Socket;

/// How long the answer to a PING may take.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// Streams that were canceled and whose last frames may still come.
const CANCELED_MAX: usize = STREAMS_MAX;

/// A connection. It closes when this value and all its slots are gone.
#[derive(Debug)]
pub(in crate::upstream) struct Link {
    requests: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Counts the connection until its task has ended.
    connection: Open,
    /// Streams.
    open: AtomicUsize,
    carried: AtomicBool,
    retired: AtomicBool,
    /// When the last stream ended.
    since: Mutex<Instant>,
    /// Told when a stream ends.
    room: Arc<Notify>,
}

/// The right to a stream, as long as it lives.
#[derive(Debug)]
pub(in crate::upstream) struct Slot {
    pub(super) requests: SendRequest<Bytes>,
    /// Whether the connection had carried a call before.
    pub(in crate::upstream) reused: bool,
    /// The call it carries.
    pub(in crate::upstream) call: Option<Running>,
    state: Arc<State>,
}

impl Link {
    /// Opens a connection over `socket`. It is there when the settings of the upstream are: no request goes to what does not
    /// speak HTTP/2, or beyond the number of streams it allows. `room` is told whenever a stream ends.
    pub(in crate::upstream) async fn open(
        socket: Socket,
        connection: Open,
        room: Arc<Notify>,
        ping_interval: Duration,
    ) -> Result<Self, UpstreamError> {
        let (requests, mut driven) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * STREAMS_MAX as u32)
            .max_header_list_size(HEAD_BYTES)
            .max_send_buffer_size(QUEUED_BYTES)
            .max_concurrent_reset_streams(CANCELED_MAX)
            // What the settings of the upstream change, also by not naming a limit.
            .initial_max_send_streams(0)
            .handshake(socket)
            .await
            .map_err(not_opened)?;
        poll_fn(|context| match Pin::new(&mut driven).poll(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(not_opened(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(UpstreamError::Closed)),
            Poll::Pending if driven.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let state = Arc::new(State {
            connection,
            open: AtomicUsize::new(0),
            carried: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            since: Mutex::new(Instant::now()),
            room,
        });
        tokio::spawn(drive(driven, Arc::clone(&state), ping_interval));
        Ok(Self { requests, state })
    }

    /// A stream, if there is one to be had.
    pub(in crate::upstream) fn slot(&self) -> Option<Slot> {
        let allowed = self.requests.current_max_send_streams().min(STREAMS_MAX);
        if self.state.open.load(Ordering::Relaxed) >= allowed || !self.is_usable() {
            return None;
        }
        self.state.open.fetch_add(1, Ordering::Relaxed);
        let reused = self.state.carried.swap(true, Ordering::Relaxed);
        Some(Slot { requests: self.requests.clone(), reused, call: None, state: Arc::clone(&self.state) })
    }

    /// Whether its streams may become tunnels (RFC 8441 section 3).
    pub(in crate::upstream) fn switches(&self) -> bool {
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Where it leads to.
    pub(in crate::upstream) fn peer(&self) -> SocketAddr {
        self.state.connection.peer
    }

    /// Whether it may carry further calls: it is alive, and the upstream did not say goodbye.
    pub(in crate::upstream) fn is_usable(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let ready = self.requests.clone().poll_ready(&mut context);
        !self.state.retired.load(Ordering::Relaxed) && matches!(ready, Poll::Ready(Ok(())))
    }

    /// How long it has carried no call; none if it carries one.
    pub(in crate::upstream) fn rested(&self) -> Option<Duration> {
        (self.state.open.load(Ordering::Relaxed) == 0).then(|| self.state.since.lock().elapsed())
    }
}

impl Slot {
    /// Lets the connection carry no further calls. Those it carries go on.
    pub(super) fn retire(&self) {
        self.state.retire();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.state.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.state.since.lock() = Instant::now();
        }
        self.state.room.notify_one();
    }
}

impl State {
    fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        // Who waits for a stream of it needs another connection.
        self.room.notify_waiters();
    }
}

/// Why a connection did not come to be. The `h2` crate keeps of an IO error only its kind and its text, and with TLS 1.3 it
/// is only now that the upstream refuses our certificate; of what is read, only TLS can be invalid data to the socket.
fn not_opened(error: h2::Error) -> UpstreamError {
    match error.get_io().map(io::Error::kind) {
        Some(io::ErrorKind::InvalidData) => error.into_io().map_or(UpstreamError::Closed, UpstreamError::Tls),
        _ => failure(error),
    }
}

/// Moves the frames of a connection until it ends, or until it no longer answers.
async fn drive(mut connection: Connection<Socket, Bytes>, state: Arc<State>, ping_interval: Duration) {
    let pings = connection.ping_pong();
    tokio::select! {
        _ = connection => {}
        () = silence(pings, &state, ping_interval) => {}
    }
    state.retire();
}

/// Waits until a PING is not answered (RFC 9113 section 6.7).
async fn silence(pings: Option<PingPong>, state: &State, interval: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        if state.open.load(Ordering::Relaxed) == 0 {
            continue;
        }
        match tokio::time::timeout(PONG_WITHIN, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
