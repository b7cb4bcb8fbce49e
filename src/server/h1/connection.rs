//! Drives one HTTP/1 connection: serve, sleep, wake, refuse, close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::framing::HeadLimits;
use super::io::Io;
use super::link::{Discard, Link, Tunnel, Waiting};
use super::watch::{Verdict, Watch};
use crate::policy::rejection::Rejection;
use crate::server::answer::Answer;
use crate::server::body::{LEFT_BYTES, RequestBody};
use crate::server::limits::Limits;
use crate::server::socket::Transport;
use crate::server::{Context as Worker, Front};

/// Bytes that hyper queues of an answer before it waits for the client. Also bounds its read buffer, which never holds
/// more than one head.
const QUEUED_BYTES: usize = 64 * 1024;

/// How long the client may take to read the last answer and close, after we have closed our side.
const LINGER: Duration = Duration::from_secs(1);

/// Why the driver stopped polling hyper.
enum Stop {
    /// hyper has closed the connection.
    Ended,
    /// hyper did not like a head.
    Rejected(Rejection),
    /// The front's body failed in the middle of an answer.
    Broken,
    /// hyper has written a `101`.
    Switched(Tunnel),
    /// Nothing happens: sleep.
    Sleep,
    /// Close an idle connection.
    Idle,
    /// The client does not take its answer: nothing that we write could reach it.
    Stuck,
}

/// Serves a connection from which `first` was read, beginning at `since`, until it is closed.
pub(in crate::server) fn serve<F: Front, T: Transport>(
    socket: T,
    first: BytesMut,
    since: Instant,
    connection: Arc<F::Connection>,
    worker: Arc<Worker<F>>,
) -> impl Future<Output = ()> + Send {
    let limits = &worker.limits;
    let link = Arc::new(Link::new(worker.drain.clone()));
    let head = HeadLimits { head_bytes: limits.head_bytes, uri_bytes: limits.uri_bytes, fields: limits.fields };
    let mut io = Io::new(socket, first, head, Arc::clone(&link));
    let mut watch = Watch::new(&worker.timer, since, limits);
    async move {
        let mut begun = pin!(worker.drain.begun());
        loop {
            let stop;
            (io, stop) = awake::<F, T>(io, &connection, &link, &mut watch, begun.as_mut(), &worker).await;
            match stop {
                Stop::Rejected(rejection) if io.was_rejected() => io.refuse(rejection),
                // The end of the connection can be the end of an answer over HTTP/1.0. Not of this one.
                Stop::Broken => return io.socket().reset_on_close(),
                Stop::Stuck => return,
                Stop::Switched(Tunnel(take_over)) => {
                    let early = io.take_early();
                    if !take_over(io.socket(), early).await {
                        return io.socket().reset_on_close();
                    }
                    break;
                }
                Stop::Ended | Stop::Rejected(_) if io.has_ended() => return,
                // The client asked for the end, and nothing of it is unread (RFC 9112 section 9.6).
                Stop::Ended if io.is_idle() && !link.is_closing() => return,
                Stop::Ended | Stop::Rejected(_) | Stop::Idle => break,
                Stop::Sleep => {
                    let until = watch.idle_since() + worker.limits.idle_timeout;
                    match poll_fn(|cx| poll_sleep(&mut io, &mut watch, begun.as_mut(), until, &worker, cx)).await {
                        Wake::Bytes => {}
                        Wake::End => return,
                        Wake::Close => break,
                    }
                }
            }
        }
        // A refused client may be in the middle of sending. Closing at once would answer that with a reset, which can
        // overtake and destroy the answer.
        let _ = Box::pin(worker.timer.timeout(LINGER, linger(io.socket()))).await;
    }
}

/// Serves until there is a reason to stop, with hyper and all its memory, and gives back the rest.
fn awake<F: Front, T: Transport>(
    io: Io<T>,
    connection: &Arc<F::Connection>,
    link: &Arc<Link>,
    watch: &mut Watch,
    mut begun: Pin<&mut impl Future<Output = ()>>,
    worker: &Worker<F>,
) -> impl Future<Output = (Io<T>, Stop)> {
    let service = service_fn(|request| call::<F>(request, connection, link, worker));
    // Boxed, so that a sleeping connection does not keep the room.
    let mut hyper = Box::new(builder(&worker.limits).serve_connection(TokioIo::new(io), service));
    // Looked at in each poll, told only when it changes, which a task never does.
    let mut driver: Option<Waker> = None;
    async move {
        let stop = poll_fn(|cx| {
            if !driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
                link.driven_by(cx.waker());
                driver = Some(cx.waker().clone());
                // From now on it wakes this task.
                if !worker.drain.has_begun() {
                    let _ = begun.as_mut().poll(cx);
                }
            }
            poll_stop(&mut hyper, link, watch, worker, cx)
        });
        let stop = stop.await;
        // What hyper has read and not served is nothing, or part of a message whose connection ends here.
        (hyper.into_parts().io.into_inner(), stop)
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Time is kept by `Watch`; hyper's timer would be boxed anew for every request.
        .header_read_timeout(None)
        // A client that closes its side while a call is open counts as gone, and its call ends. The alternative is not to
        // notice clients that leave at all, and to go on working for them.
        .half_close(false)
        // Off, because it would skip the flush that closes a call.
        .pipeline_flush(false)
        .max_buf_size(QUEUED_BYTES.max(limits.head_bytes.saturating_mul(2)));
    // Setting it moves hyper's table of fields to the heap, so the default stays where it is enough.
    if limits.fields > 100 {
        builder.max_headers(limits.fields);
    }
    builder
}

/// Answers one request.
fn call<F: Front>(
    request: Request<Incoming>,
    connection: &Arc<F::Connection>,
    link: &Arc<Link>,
    worker: &Worker<F>,
) -> impl Future<Output = Result<Response<Answer<F::Body>>, Infallible>> + Send + use<F> {
    let (count, refused) = link.begin_call();
    if count >= worker.limits.max_requests_per_connection {
        link.close_after_answer();
    }
    let (connection, link) = (Arc::clone(connection), Arc::clone(link));
    async move {
        let held_back = request.headers().contains_key(EXPECT);
        let request = request.map(|incoming| RequestBody::linked(incoming, &link, held_back));
        let hint = |head: &[u8]| link.hint(head);
        let mut response = F::answer(connection, request, refused, Some(&hint)).await;
        link.begin_answer();
        // hyper learns too late that it will close; the client should know before it sends the next request.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (parts, body) = response.into_parts();
            link.switch(Tunnel(Box::new(|client, early| Box::pin(F::tunnel(body, client, early)))));
            return Ok(Response::from_parts(parts, Answer::switched()));
        }
        if link.is_closing() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Answer::new(body, Some(link))))
    }
}

/// Polls hyper until there is a reason to stop.
fn poll_stop<F: Front, T: Transport, S>(
    hyper: &mut http1::Connection<TokioIo<Io<T>>, S>,
    link: &Link,
    watch: &mut Watch,
    worker: &Worker<F>,
    cx: &mut Context<'_>,
) -> Poll<Stop>
where
    S: HttpService<Incoming, ResBody = Answer<F::Body>, Error = Infallible>,
{
    loop {
        link.before_poll();
        if let Poll::Ready(ended) = Pin::new(&mut *hyper).poll(cx) {
            let switched = link.take_tunnel();
            return Poll::Ready(match ended {
                Err(error) if error.is_parse_too_large() => Stop::Rejected(Rejection::HeadTooLarge),
                Err(error) if error.is_parse() => Stop::Rejected(Rejection::RequestMalformed),
                Err(error) if error.is_user() || error.is_body_write_aborted() => Stop::Broken,
                Ok(()) => switched.map_or(Stop::Ended, Stop::Switched),
                Err(_) => Stop::Ended,
            });
        }
        if link.poll_discard(cx) == Discard::Progress {
            continue;
        }
        let view = link.view();
        if view.again {
            continue;
        }
        match watch.judge(cx, &view, &worker.limits) {
            Verdict::Wait => {}
            Verdict::Sleep => return Poll::Ready(Stop::Sleep),
            Verdict::HeadLate | Verdict::BodyLate => {
                link.give_up(Rejection::RequestTimeout);
                continue;
            }
            Verdict::DiscardLate => {
                link.stop_discarding();
                continue;
            }
            Verdict::WriteLate => return Poll::Ready(Stop::Stuck),
        }
        // A head that has begun is awaited and answered, with `connection: close`.
        if view.waiting == Waiting::Idle && worker.drain.has_begun() {
            return Poll::Ready(Stop::Idle);
        }
        return Poll::Pending;
    }
}

/// How a sleep ended.
enum Wake {
    Bytes,
    End,
    Close,
}

/// Waits for a byte with nothing allocated.
fn poll_sleep<F: Front, T: Transport>(
    io: &mut Io<T>,
    watch: &mut Watch,
    begun: Pin<&mut impl Future<Output = ()>>,
    until: Instant,
    worker: &Worker<F>,
    cx: &mut Context<'_>,
) -> Poll<Wake> {
    debug_assert!(io.is_idle(), "a connection with an open call fell asleep");
    io.release();
    if let Poll::Ready(read) = io.poll_wake(cx) {
        return Poll::Ready(if matches!(read, Ok(1..)) { Wake::Bytes } else { Wake::End });
    }
    if watch.is_past(cx, until) || worker.drain.has_begun() || begun.poll(cx).is_ready() {
        return Poll::Ready(Wake::Close);
    }
    Poll::Pending
}

/// Closes our side and reads the client's to its end, within a bound.
async fn linger<T: Transport>(socket: &mut T) {
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut bytes = vec![0; 4 * 1024];
    let mut left = LEFT_BYTES;
    while let Ok(count @ 1..) = socket.read(&mut bytes).await {
        left = left.saturating_sub(count as u64);
        if left == 0 {
            return;
        }
    }
}
