//! What streams cost while one side takes nothing: bounded memory, whatever their length.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::harness::{Call, Config, Gate, Line, Origin, PATIENCE, Session, eventually, scale};

const WHOLE: u64 = 100 << 20;
const PIECE: usize = 64 * 1024;

/// Most that one stalled stream may cost.
const COST: u64 = 1 << 20;

fn streams() -> usize {
    if scale() > 1 { 50 } else { 20 }
}

/// An origin that writes without end and counts, and one that reads only heads.
fn origin() -> (Origin, Arc<AtomicU64>) {
    let written = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&written);
    let origin = Origin::speaking(move |line: &mut Line| {
        while let Some(mut seen) = line.read_head() {
            match seen.target.as_str() {
                "/down" => {
                    line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {WHOLE}\r\n\r\n"));
                    let mut writer = line.writer();
                    while std::io::Write::write_all(&mut writer, &[b'x'; PIECE]).is_ok() {
                        counted.fetch_add(PIECE as u64, Ordering::Relaxed);
                    }
                }
                "/up" => std::thread::sleep(PATIENCE),
                _ => {
                    line.read_body(&mut seen);
                    line.reply(200, &[], b"ok");
                }
            }
        }
    });
    (origin, written)
}

fn gate(origin: &Origin) -> Gate {
    let config = Config::new(&origin.url())
        .lenient()
        .section("limits", "body = \"unlimited\"\nwrite_timeout = \"60s\"\nbody_timeout = \"60s\"")
        .upstream_setting("response_timeout = \"60s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    for _ in 0..20 {
        gate.send(&session.post("/warm", "{}")).assert_status(200);
    }
    gate
}

/// Waits until nothing moves any more.
fn settle(moved: impl Fn() -> u64) {
    let mut before = u64::MAX;
    eventually("the streams come to rest", || {
        let after = moved();
        std::thread::sleep(Duration::from_millis(300));
        let still = before == after && moved() == after;
        before = after;
        still
    });
}

#[track_caller]
fn assert_bounded(gate: &Gate, before: u64) {
    let grown = gate.resident().saturating_sub(before);
    let each = grown / streams() as u64;
    eprintln!("{each} bytes for each of {} stalled streams", streams());
    assert!(each <= COST, "{each} bytes for each stalled stream");
}

#[test]
fn stalled_downloads_over_http1_cost_little() {
    let (origin, written) = origin();
    let gate = gate(&origin);
    let session = gate.open();
    let before = gate.resident();
    let stalled: Vec<_> = (0..streams())
        .map(|_| {
            let mut raw = gate.connect();
            raw.send(session.get("/down").bytes());
            raw
        })
        .collect();
    origin.await_calls(20 + streams());
    settle(|| written.load(Ordering::Relaxed));
    assert_bounded(&gate, before);
    drop(stalled);
}

#[test]
fn stalled_uploads_over_http1_cost_little() {
    let (origin, _) = origin();
    let gate = gate(&origin);
    let session = gate.open();
    let before = gate.resident();
    let sent = Arc::new(AtomicU64::new(0));
    let stalled: Vec<_> = (0..streams())
        .map(|_| {
            let mut raw = gate.connect();
            raw.send(session.post("/up", "").set("content-length", &WHOLE.to_string()).head());
            let (mut writer, sent) = (raw.writer(), Arc::clone(&sent));
            std::thread::spawn(move || {
                while std::io::Write::write_all(&mut writer, &[b'x'; PIECE]).is_ok() {
                    sent.fetch_add(PIECE as u64, Ordering::Relaxed);
                }
            });
            raw
        })
        .collect();
    origin.await_calls(20 + streams());
    settle(|| sent.load(Ordering::Relaxed));
    assert!(sent.load(Ordering::Relaxed) < streams() as u64 * WHOLE, "the uploads did not stall");
    assert_bounded(&gate, before);
    drop(stalled);
}

/// Most that an idle connection may cost after it made a call. What the process itself grows by is
/// part of it: with so many, a release build was seen to keep 4.5 KiB, and 29 if nothing goes back to the system.
const IDLE: u64 = 12 << 10;

#[test]
fn idle_connections_cost_little_after_a_burst() {
    const CONNECTIONS: u64 = 1500;
    let (origin, _) = origin();
    let gate = gate(&origin);
    let session = gate.open();
    let before = gate.resident();
    let mut idle: Vec<_> = (0..CONNECTIONS).map(|_| gate.connect()).collect();
    // All of them are awake at once. The gate answers by itself, so that no upstream connections are counted.
    idle.iter_mut().for_each(|raw| raw.send(session.get("/session").bytes()));
    for raw in &mut idle {
        raw.reply().assert_status(200);
    }
    eventually("the connections sleep", || gate.resident().saturating_sub(before) / CONNECTIONS <= IDLE);
    drop(idle);
}

type Sender = SendRequest<BoxBody<Bytes, Infallible>>;

async fn connect(gate: &Gate) -> Sender {
    let socket = TcpStream::connect(gate.address()).await.expect("the gate accepts");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn request(call: &Call, session: &Session, body: BoxBody<Bytes, Infallible>) -> Request<BoxBody<Bytes, Infallible>> {
    Request::builder()
        .method(call.method.as_str())
        .uri(format!("http://shop.test{}", call.target))
        .header("authorization", format!("Bearer {}", session.token))
        .header("client-id", &session.client)
        .header("session-id", &session.id)
        .body(body)
        .expect("a request")
}

#[test]
fn stalled_streams_of_few_http2_connections_cost_little() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    for target in ["/down", "/up"] {
        let (origin, written) = origin();
        let gate = gate(&origin);
        let session = gate.open();
        let before = gate.resident();
        let sent = Arc::new(AtomicU64::new(0));
        let stalled = runtime.block_on(async {
            let senders = [connect(&gate).await, connect(&gate).await];
            let mut stalled = Vec::new();
            for number in 0..streams() {
                let (body, call) = if target == "/down" {
                    (Empty::new().boxed(), session.get(target))
                } else {
                    let sent = Arc::clone(&sent);
                    let pieces = std::iter::repeat_with(move || {
                        sent.fetch_add(PIECE as u64, Ordering::Relaxed);
                        Ok(Frame::data(Bytes::from_static(&[b'x'; PIECE])))
                    });
                    (
                        StreamBody::new(stream::iter(pieces.take(WHOLE as usize / PIECE))).boxed(),
                        session.post(target, ""),
                    )
                };
                let mut sender = senders[number % 2].clone();
                sender.ready().await.expect("an open connection");
                stalled.push(runtime.spawn(sender.send_request(request(&call, &session, body))));
            }
            stalled
        });
        origin.await_calls(20 + streams());
        settle(|| written.load(Ordering::Relaxed) + sent.load(Ordering::Relaxed));
        assert!(sent.load(Ordering::Relaxed) < streams() as u64 * WHOLE, "the uploads did not stall");
        assert_bounded(&gate, before);
        drop(stalled);
    }
}
