//! WebSocket and other protocols over HTTP/2: extended CONNECT (RFC 8441).

mod upstream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Call, Config, Frames, Gate, Line, Origin, PATIENCE, Session, eventually};

type Sender = SendRequest<Empty<Bytes>>;
type Stream = TokioIo<hyper::upgrade::Upgraded>;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(gate: &Gate) -> Sender {
    let socket = TcpStream::connect(gate.address()).await.expect("the gate accepts");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// An extended CONNECT with the fields of `call`.
fn extended(call: &Call, protocol: &'static str) -> Request<Empty<Bytes>> {
    let mut request = Request::connect(format!("http://shop.test{}", call.target));
    for (name, value) in call.fields.iter().filter(|(name, _)| name != "host") {
        request = request.header(name, value);
    }
    request.extension(Protocol::from_static(protocol)).body(Empty::new()).expect("a request")
}

/// What a browser sends to begin a WebSocket.
fn handshake(session: &Session) -> Call {
    session.get("/live?a=1").field("sec-websocket-version", "13").field("origin", "https://shop.test")
}

async fn ask(sender: &mut Sender, call: &Call, protocol: &'static str) -> Response<Incoming> {
    sender.ready().await.expect("an open connection");
    let sending = sender.send_request(extended(call, protocol));
    tokio::time::timeout(PATIENCE, sending).await.expect("an answer in time").expect("an answer")
}

async fn tunnel(sender: &mut Sender, call: &Call, protocol: &'static str) -> Stream {
    let response = ask(sender, call, protocol).await;
    assert_eq!(response.status(), 200, "{response:?}");
    TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"))
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// An origin that agrees to speak a protocol of its own, and then does what `script` says.
fn feeding(script: impl Fn(&mut Line) + Send + Sync + 'static) -> Origin {
    Origin::answering(move |_, line| {
        line.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: feed\r\nx-more: 1\r\n\r\n");
        script(line);
    })
}

#[test]
fn a_websocket_runs_through_a_stream_and_ends_with_its_session() {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let gate = Arc::new(Gate::administered(&format!("http://{}", listener.local_addr().expect("an address"))));
    let session = gate.open();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let server = runtime.spawn(async move {
        let (socket, _) = listener.accept().await.expect("the gate connects");
        #[expect(clippy::result_large_err, reason = "the callback of another's API")]
        let note = move |request: &http::Request<()>, response| {
            seen.lock().expect("the heads").push((request.method().clone(), request.headers().clone()));
            Ok(response)
        };
        let mut server = tokio_tungstenite::accept_hdr_async(socket, note).await.expect("a handshake");
        while let Some(Ok(message)) = server.next().await {
            match message {
                Message::Close(close) => return close,
                message if message.is_text() || message.is_binary() => server.send(message).await.expect("sent"),
                _ => {}
            }
        }
        None
    });
    runtime.block_on(async {
        let mut sender = connect(&gate).await;
        let response = ask(&mut sender, &handshake(&session), "websocket").await;
        assert_eq!(response.status(), 200, "{response:?}");
        for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
            assert!(!response.headers().contains_key(name), "{name} {response:?}");
        }
        for name in ["x-request-id", "session-id", "via"] {
            assert!(response.headers().contains_key(name), "{name} {response:?}");
        }
        let stream = TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"));
        let mut client = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        for size in [0, 1, 125, 126, 70_000, 1 << 20] {
            let message = Message::text("x".repeat(size));
            client.send(message.clone()).await.expect("sent");
            assert_eq!(client.next().await.expect("an answer").expect("in order"), message);
        }
        client.send(Message::Ping(Bytes::from_static(b"there?"))).await.expect("sent");
        assert_eq!(
            client.next().await.expect("an answer").expect("in order"),
            Message::Pong(Bytes::from_static(b"there?"))
        );

        let other = ask(&mut sender, &session.get("/session"), "websocket").await;
        assert_eq!(other.status(), 405, "the session endpoint has nothing to tunnel to");
        let (gate, session) = (Arc::clone(&gate), session.clone());
        tokio::task::spawn_blocking(move || gate.revoke(&session)).await.expect("revoked");
        let last = client.next().await.expect("a goodbye").expect("in order");
        let Message::Close(Some(close)) = last else { panic!("{last:?}") };
        assert_eq!(close.code, CloseCode::Policy);
        let close = server.await.expect("no panic").expect("the server is told too");
        assert_eq!(close.code, CloseCode::Policy);
    });
    let heads = heads.lock().expect("the heads");
    let (method, fields) = &heads[0];
    assert_eq!(*method, http::Method::GET);
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "13")] {
        assert_eq!(fields.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
    }
    assert_eq!(fields.get_all("sec-websocket-key").iter().count(), 1);
    assert!(!fields.contains_key("authority") && fields["host"] == "shop.test", "{fields:?}");
    let log = gate.access_log(3);
    let call = log.iter().find(|call| call["status"] == 200).expect("the tunnel");
    assert_eq!((&call["method"], &call["ended_by"]), (&json!("GET"), &json!("gate")), "{call}");
    assert!(call["bytes_in"].as_u64() > Some(1 << 20) && call["bytes_out"].as_u64() > Some(1 << 20), "{call}");
}

#[test]
fn either_side_of_a_stream_can_end_first_and_still_hear_the_other() {
    let origin = feeding(|line| {
        assert_eq!(line.read_to_end(), b"last request");
        line.send("answer");
        line.finish();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let mut stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        stream.write_all(b"last request").await.expect("sent");
        stream.shutdown().await.expect("ended");
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("a whole answer");
        assert_eq!(read, b"answer");
    });

    let origin = feeding(|line| {
        line.send("goodbye");
        line.finish();
        assert_eq!(line.read_to_end(), b"and thanks");
        line.close();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let mut stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("a whole answer");
        assert_eq!(read, b"goodbye");
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"and thanks").await.expect("sent");
        stream.shutdown().await.expect("ended");
    });
    eventually("the origin is let go", || origin.open_connections() == 0);
}

#[test]
fn a_tunnel_that_only_takes_is_no_flood() {
    // Far more than a connection may send beside its calls.
    const BYTES: usize = 8 * 1024 * 1024;
    let origin = feeding(|line| {
        let taken = line.read_to_end().len();
        line.send(taken.to_string());
        line.finish();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let mut stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        stream.write_all(&vec![b'x'; BYTES]).await.expect("sent");
        stream.shutdown().await.expect("ended");
        let mut read = String::new();
        stream.read_to_string(&mut read).await.expect("a whole answer");
        assert_eq!(read, BYTES.to_string());
    });
}

#[test]
fn a_tunnel_that_breaks_off_is_a_reset_stream_and_the_others_go_on() {
    let origin = Origin::answering(|seen, line| {
        if seen.field("upgrade").is_none() {
            line.reply(200, &[], b"plain");
            return;
        }
        line.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: feed\r\n\r\nhalf");
        line.read_raw(2);
        line.reset();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let mut stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        stream.write_all(b"go").await.expect("sent");
        let mut read = Vec::new();
        // hyper's client takes a CANCEL for an end when it reads, and for what it is when it writes.
        _ = stream.read_to_end(&mut read).await;
        assert!(b"half".starts_with(&read), "{read:?}");
        let mut write = async || {
            loop {
                if stream.write_all(b"more").await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, write()).await.expect("the stream is reset");
        sender.ready().await.expect("an open connection");
        let mut request = extended(&session.get("/orders"), "feed");
        *request.method_mut() = http::Method::GET;
        request.extensions_mut().clear();
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(text(answer).await, (200, "plain".to_owned()));
    });
    assert!(gate.access_log(3).iter().any(|call| call["ended_by"] == "upstream"), "{:?}", gate.access_log(3));
}

#[test]
fn a_client_that_leaves_takes_its_tunnel_along() {
    let origin = feeding(|line| line.hang());
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        drop(stream);
    });
    eventually("the origin is let go", || origin.open_connections() == 0);
}

#[test]
fn an_upstream_that_does_not_switch_is_heard_unless_it_could_be_taken_for_a_tunnel() {
    let origin = Origin::answering(|seen, line| match seen.target.as_str() {
        "/no" => line.reply(403, &[("upgrade", "websocket")], b"no"),
        "/moved" => line.reply(302, &[("location", "/live")], b""),
        "/forged" => line.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
        ),
        _ => line.reply(200, &[], b"plain"),
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let response = ask(&mut sender, &session.get("/no"), "websocket").await;
        assert!(!response.headers().contains_key("upgrade"), "{response:?}");
        assert_eq!(text(response).await, (403, "no".to_owned()));
        assert_eq!(text(ask(&mut sender, &session.get("/moved"), "websocket").await).await.0, 302);
        for target in ["/plain", "/forged"] {
            let (status, problem) = text(ask(&mut sender, &session.get(target), "websocket").await).await;
            assert!(status == 502 && problem.contains("upstream-failed"), "{status} {problem}");
        }
    });
}

#[test]
fn no_tunnel_is_opened_without_the_full_proof_on_a_route_that_takes_get() {
    let origin = feeding(|line| line.hang());
    let config = Config::new(&origin.url())
        .route("name = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"")
        .route("name = \"post\"\npath = \"/post\"\nupstream = \"shop\"\nmethods = [\"POST\"]");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let live = || session.get("/live");
    let calls = [
        (live().without("session-id"), "websocket", 400, "header-missing"),
        (live().without("client-id"), "websocket", 400, "header-missing"),
        (live().without("accept"), "websocket", 406, "not-acceptable"),
        (live().without("authorization"), "websocket", 401, "credentials-missing"),
        (
            live().without("authorization").field("content-type", "application/grpc"),
            "websocket",
            401,
            "credentials-missing",
        ),
        (live().set("session-id", "8f14e45f-ceea-4e7a-9c1b-0a1b2c3d4e5f"), "websocket", 404, "session-not-found"),
        (session.get("/post"), "websocket", 405, "method-not-allowed"),
        (session.get("/session"), "websocket", 405, "method-not-allowed"),
        (session.get("/a%2Fb"), "websocket", 400, "request-malformed"),
        (live(), "h2c", 501, "method-not-implemented"),
        (live(), "TLS/1.3", 501, "method-not-implemented"),
        (live(), "websocket, feed", 501, "method-not-implemented"),
    ];
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        for (call, protocol, status, code) in &calls {
            let (answered, problem) = text(ask(&mut sender, call, protocol).await).await;
            assert!(answered == *status && problem.contains(&format!("\"{code}\"")), "{call:?} {answered} {problem}");
        }
        for media_type in ["application/json", "application/grpc"] {
            let plain = Request::connect("shop.test:443").header("content-type", media_type).body(Empty::new());
            let answer = sender.send_request(plain.expect("a request")).await.expect("an answer");
            let (status, problem) = text(answer).await;
            assert!(status == 405 && problem.contains("method-not-allowed"), "{status} {problem}");
        }
    });
    origin.assert_untouched();
}

#[test]
fn a_drain_waits_for_tunnels_until_its_deadline() {
    let origin = feeding(|line| {
        let bytes = line.read_raw(10);
        line.send(bytes);
        line.hang();
    });
    let config = Config::new(&origin.url()).lenient().section("server", "drain = { deadline = \"2s\" }");
    let mut gate = Gate::configured(&config);
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let mut stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        gate.signal(Signal::TERM);
        eventually("it drains", || std::net::TcpStream::connect(gate.address()).is_err());
        stream.write_all(b"still here").await.expect("sent");
        let mut read = [0; 10];
        stream.read_exact(&mut read).await.expect("an echo");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "{rest:?}");
    });
    assert_eq!(gate.exit_code(), Some(0));
    let log = gate.access_log(2);
    assert_eq!((&log[1]["status"], &log[1]["ended_by"]), (&json!(200), &json!("gate")), "{}", log[1]);
}

#[test]
fn a_client_that_reads_nothing_stops_its_upstream() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let origin = feeding(move |line| {
        line.stop_waiting_after(Duration::from_secs(1));
        while line.try_send(&[b'x'; 64 * 1024]).is_ok() {
            counted.fetch_add(64 * 1024, Ordering::Relaxed);
        }
        line.close();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let _stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        let given_up = async {
            while origin.open_connections() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, given_up).await.expect("the origin gives up");
    });
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 64 << 20, "{sent} bytes were taken for a client that reads none");
}

#[test]
fn a_connect_that_announces_a_body_opens_nothing() {
    let origin = feeding(|line| line.hang());
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    let mut frames = Frames::connect(gate.address());
    let head = [
        (":method", "CONNECT"),
        (":protocol", "feed"),
        (":scheme", "http"),
        (":authority", "shop.test"),
        (":path", "/feed"),
        ("authorization", bearer.as_str()),
        ("client-id", &session.client),
        ("session-id", &session.id),
        ("content-length", "5"),
    ];
    frames.headers(1, &head, false);
    assert_eq!(frames.find(|frame| frame.stream == 1 && !frame.resets(1)), None, "the connection ends, and no more");
    origin.assert_untouched();
    gate.send(&session.get("/session")).assert_status(200);
}
