//! HTTP/2 connections (RFC 9113): hyper's server under our limits.
//!
//! Heads are judged by the `h2` crate: a malformed one resets its stream, one over the limit is answered with a bare 431,
//! and neither reaches the front. The number of fields is not limited there, so the front counts; lengths that it takes and
//! that nobody could forward are refused here. Interim responses cannot
//! be sent: hyper has no way to. A CONNECT that announces a body ends the whole connection, in hyper too.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::Batched;
use super::body::RequestBody;
use super::flood::{Budget, Meter};
use super::listener::Refused;
use super::socket::Transport;
use super::stall::{self, Progress, Told};
use super::{Context as Worker, Front, h2_tunnel};
use crate::policy::rejection::Rejection;

/// Bytes of answers queued per stream before the front's body is asked for no more.
const QUEUED_BYTES: usize = 64 * 1024;

/// Receive windows: of a stream, enough for one ordinary body without waiting; of a connection, for several.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A client that was silent so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(20);

/// Streams in flight, and when the last one ended.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    served: AtomicUsize,
    budget: Budget,
}

/// Counts a stream while its call runs and its answer is sent.
#[derive(Debug)]
struct Stream(Arc<Streams>);

impl Stream {
    fn open(streams: &Arc<Streams>) -> Self {
        streams.open.fetch_add(1, Ordering::Relaxed);
        streams.served.fetch_add(1, Ordering::Relaxed);
        streams.budget.fill();
        Self(Arc::clone(streams))
    }
}

impl Progress for Stream {
    fn made(&self) {
        self.0.budget.fill();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until it is closed.
pub(super) async fn serve<F: Front, T: Transport>(
    socket: super::socket::Prefixed<T>,
    connection: Arc<F::Connection>,
    worker: Arc<Worker<F>>,
) {
    let limits = &worker.limits;
    let streams = Arc::new(Streams::default());
    // Tunnels end with their connection: what is left of it is no use to them.
    let tunnels = CancellationToken::new();
    let _over = tunnels.clone().drop_guard();
    let service = service_fn(|request| call::<F>(request, &connection, &streams, &tunnels));
    let socket = Batched::new(socket, Meter::new(streams.budget.clone()));
    let mut http = pin!(builder(worker.as_ref()).serve_connection(TokioIo::new(socket.clone()), service));
    let mut begun = pin!(worker.drain.begun());
    let mut deadline = worker.timer.deadline();
    // Before the first call the head's time-out counts, as it does for HTTP/1.
    let mut due = Some(Instant::now() + limits.head_timeout);
    let mut set = None;
    let mut served = 0;
    let mut closing = false;
    poll_fn(|cx| {
        loop {
            let ended = http.as_mut().poll(cx);
            let sent = socket.poll_send(cx);
            if let Poll::Ready(outcome) = ended {
                if let Some(reason) = misuse(&streams.budget, outcome) {
                    worker.stats.refused(reason);
                }
                return Poll::Ready(());
            }
            if matches!(sent, Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
            let used_up = streams.served.load(Ordering::Relaxed) as u64 >= limits.max_requests_per_connection;
            if !closing && (used_up || begun.as_mut().poll(cx).is_ready()) {
                closing = true;
                http.as_mut().graceful_shutdown();
                continue;
            }
            let now = Instant::now();
            let calls = streams.served.load(Ordering::Relaxed);
            if streams.open.load(Ordering::Relaxed) > 0 {
                // Looked at again when it is late, if not before: a call's end does not always wake this task.
                due = Some(now + limits.idle_timeout);
            } else if calls != served {
                served = calls;
                due = Some(now + limits.idle_timeout);
            }
            let at = *due.get_or_insert(now + limits.idle_timeout);
            if at <= now {
                if closing {
                    // It had as long again to read GOAWAY and go.
                    return Poll::Ready(());
                }
                closing = true;
                due = Some(now + limits.idle_timeout);
                http.as_mut().graceful_shutdown();
                continue;
            }
            // Lazily, as for HTTP/1: a later due time is found when the earlier one fires.
            if set.is_none_or(|set| set > at || set <= now) || deadline.poll_elapsed(cx).is_ready() {
                deadline.reset(at - now);
                set = Some(at);
            }
            if deadline.poll_elapsed(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Whether a connection ended because of what its client did with it.
fn misuse(budget: &Budget, outcome: hyper::Result<()>) -> Option<Refused> {
    let error = outcome.err()?;
    if budget.is_spent() {
        return Some(Refused::Http2Flood);
    }
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<h2::Error>())?;
    let calm = cause.is_library() && cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    calm.then_some(Refused::Http2Abuse)
}

fn builder<F>(worker: &Worker<F>) -> http2::Builder<stall::Streams> {
    let limits = &worker.limits;
    let streams = stall::Streams { timer: worker.timer.clone(), allowed: limits.write_timeout };
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(QUEUED_BYTES)
        .enable_connect_protocol()
        // Also what ends a connection whose client stopped reading: the ping is not answered.
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(limits.write_timeout);
    builder
}

/// Whether a length is announced that no body can have, or two of them: the `h2` crate looks at the first line only, and
/// takes any number of 64 bits.
fn is_misframed(fields: &HeaderMap) -> bool {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return false };
    let length = first.to_str().ok().and_then(|digits| digits.parse::<u64>().ok());
    length.is_none_or(|length| i64::try_from(length).is_err()) || lengths.any(|other| other != first)
}

/// Answers one request.
fn call<F: Front>(
    mut request: Request<Incoming>,
    connection: &Arc<F::Connection>,
    streams: &Arc<Streams>,
    tunnels: &CancellationToken,
) -> impl Future<Output = Result<Response<Told<F::Body, Stream>>, Infallible>> + Send + use<F> {
    let stream = Stream::open(streams);
    let connection = Arc::clone(connection);
    let connect = (request.method() == Method::CONNECT).then(|| (hyper::upgrade::on(&mut request), tunnels.clone()));
    async move {
        let budget = stream.0.budget.clone();
        let refused = is_misframed(request.headers()).then_some(Rejection::RequestMalformed);
        let request = request.map(|incoming| RequestBody::stream(incoming, budget.clone()));
        let response = F::answer(connection, request, refused, None).await;
        match connect {
            Some((upgrade, over)) if response.status().is_success() => {
                let (parts, body) = response.into_parts();
                h2_tunnel::open::<F>(upgrade, body, over, budget, stream);
                Ok(Response::from_parts(parts, Told::switched()))
            }
            _ => Ok(response.map(|body| Told::new(body, stream))),
        }
    }
}
