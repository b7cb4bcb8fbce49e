//! Extended CONNECT toward upstreams that speak only HTTP/2, whatever the client speaks.

use h2::ext::Protocol as Asked;
use h2::{Reason, RecvStream};
use hyper::service::service_fn;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::harness::{Authority, Http2Call, Http2Origin, Raw, Setup};

fn prior(origin: &Http2Origin) -> Gate {
    Gate::configured(&Config::speaking("http2", &origin.url()))
}

/// A gate for a TLS upstream that may be spoken to in either version.
fn choosing(origin: &Http2Origin, authority: &Authority) -> Gate {
    let setup =
        Setup::configured(&Config::speaking("auto", &origin.url()).upstream_setting("tls = { ca = \"{dir}/ca.pem\" }"));
    setup.write("ca.pem", &authority.pem);
    setup.start()
}

/// What a client of HTTP/1.1 sends for a protocol of its own.
fn upgrade(session: &Session) -> Call {
    session.get("/feed?a=1").field("connection", "upgrade").field("upgrade", "feed, other")
}

/// The tunnel of a client of HTTP/1.1.
fn raw_tunnel(gate: &Gate, call: &Call) -> Raw {
    let mut raw = gate.connect();
    raw.send(call.bytes());
    assert_eq!(raw.next_head().expect("an answer").status, 101);
    raw
}

async fn read_to_end(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

type Heads = Arc<Mutex<Vec<http::request::Parts>>>;
type Close = Option<tokio_tungstenite::tungstenite::protocol::CloseFrame>;

/// A WebSocket server as the ecosystem has it: hyper, and tungstenite over the stream. It echoes, and tells how each ended.
async fn websocket_server(listener: TcpListener, heads: Heads, closed: tokio::sync::mpsc::UnboundedSender<Close>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (heads, closed) = (Arc::clone(&heads), closed.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (upgrade, closed) = (hyper::upgrade::on(&mut request), closed.clone());
            heads.lock().expect("the heads").push(request.into_parts().0);
            tokio::spawn(async move {
                let stream = TokioIo::new(upgrade.await.expect("a tunnel"));
                let mut server = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                let mut close = None;
                while let Some(Ok(message)) = server.next().await {
                    match message {
                        Message::Close(frame) => close = frame,
                        message if message.is_text() || message.is_binary() => {
                            server.send(message).await.expect("sent")
                        }
                        _ => {}
                    }
                }
                closed.send(close)
            });
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new())))
        });
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.enable_connect_protocol().serve_connection(TokioIo::new(socket), service));
    }
}

/// Sends messages of all sizes to and fro, ends the session, and sees the goodbye.
async fn talk<S>(mut client: WebSocketStream<S>, gate: &Arc<Gate>, session: &Session)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for size in [0, 1, 125, 126, 70_000, 1 << 20] {
        let message = Message::text("x".repeat(size));
        client.send(message.clone()).await.expect("sent");
        assert_eq!(client.next().await.expect("an answer").expect("in order"), message);
    }
    let (gate, session) = (Arc::clone(gate), session.clone());
    tokio::task::spawn_blocking(move || gate.revoke(&session)).await.expect("revoked");
    let last = client.next().await.expect("a goodbye").expect("in order");
    let Message::Close(Some(close)) = last else { panic!("{last:?}") };
    assert_eq!(close.code, CloseCode::Policy);
}

#[test]
fn websockets_of_either_version_reach_an_upstream_of_http2_and_end_with_their_session() {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let config = Config::new(&url).upstream_setting("protocol = \"http2\"");
    let gate = Arc::new(Gate::administered_with(config));
    let (tell, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let heads = Heads::default();
    runtime.spawn(websocket_server(listener, Arc::clone(&heads), tell));
    runtime.block_on(async {
        let session = gate.open();
        let mut sender = connect(&gate).await;
        let response = ask(&mut sender, &handshake(&session), "websocket").await;
        assert_eq!(response.status(), 200, "{response:?}");
        for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
            assert!(!response.headers().contains_key(name), "{name} {response:?}");
        }
        let stream = TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"));
        talk(WebSocketStream::from_raw_socket(stream, Role::Client, None).await, &gate, &session).await;
        assert_eq!(closed.recv().await.flatten().expect("the server is told too").code, CloseCode::Policy);

        let session = gate.open();
        let mut request = format!("ws://{}/live?a=1", gate.address()).into_client_request().expect("a request");
        for (name, value) in handshake(&session).fields.iter().filter(|(name, _)| !name.starts_with("sec-")) {
            let name = http::HeaderName::try_from(name).expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let socket = TcpStream::connect(gate.address()).await.expect("the gate accepts");
        // It checks the answer to its key.
        let (client, _) = tokio_tungstenite::client_async(request, socket).await.expect("a handshake");
        talk(client, &gate, &session).await;
        assert_eq!(closed.recv().await.flatten().expect("the server is told too").code, CloseCode::Policy);
    });
    let heads = heads.lock().expect("the heads");
    assert_eq!(heads.len(), 2);
    for head in heads.iter() {
        assert_eq!((head.method.as_str(), head.uri.scheme_str()), ("CONNECT", Some("http")));
        assert_eq!(head.extensions.get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        assert_eq!(head.uri.path_and_query().map(|target| target.as_str()), Some("/live?a=1"));
        assert_eq!(head.headers["sec-websocket-version"], "13");
        for name in ["upgrade", "connection", "sec-websocket-key", "content-length", "transfer-encoding"] {
            assert!(!head.headers.contains_key(name), "{name} {head:?}");
        }
        for name in ["authorization", "client-id", "session-id", "x-request-id", "via"] {
            assert_eq!(head.headers.get_all(name).iter().count(), 1, "{name} {head:?}");
        }
    }
}

#[test]
fn an_upstream_without_the_setting_is_not_asked_and_not_blamed() {
    let authority = Authority::new();
    let server = authority.server(&authority.issue("localhost"), &[b"h2"], None);
    let plain = Http2Origin::answering(None, 100, |call| async move { call.reply(200, b"plain") });
    let secure = Http2Origin::answering(Some(server), 100, |call| async move { call.reply(200, b"plain") });
    for (gate, origin) in [(prior(&plain), &plain), (choosing(&secure, &authority), &secure)] {
        let session = gate.open();
        for _ in 0..6 {
            let reply = gate.send(&upgrade(&session));
            reply.assert_refused("upstream-failed");
            assert!(
                reply.field("proxy-status").is_some_and(|status| status.contains("http_protocol_error")),
                "{reply:?}"
            );
            gate.send(&session.get("/orders")).assert_status(200);
        }
        runtime().block_on(async {
            let mut sender = connect(&gate).await;
            let (status, problem) = text(ask(&mut sender, &session.get("/feed"), "feed").await).await;
            assert!(status == 502 && problem.contains("upstream-failed"), "{status} {problem}");
        });
        gate.await_stderr("did not announce extended CONNECT");
        assert_eq!(origin.seen().len(), 6, "only the calls: {:?}", origin.seen());
    }
    assert_eq!(plain.connections(), 1);
}

#[test]
fn an_upstream_that_chose_only_http2_is_asked_over_http2() {
    let authority = Authority::new();
    let server = authority.server(&authority.issue("localhost"), &[b"h2"], None);
    let origin = Http2Origin::switching(Some(server), |call| async move {
        assert_eq!(call.request.uri().scheme_str(), Some("https"));
        let (mut send, _receive) = call.switch();
        send.send_data(Bytes::from_static(b"hello"), true).expect("sent");
    });
    let gate = choosing(&origin, &authority);
    let session = gate.open();
    for _ in 0..3 {
        let mut raw = raw_tunnel(&gate, &upgrade(&session));
        assert_eq!(raw.read_at_least(5), b"hello");
        raw.assert_closed();
    }
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(origin.connections(), 2, "one was lost on HTTP/1.1, the other carries all");
}

#[test]
fn the_first_protocol_is_asked_for_and_either_side_can_end_first() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Http2Origin::switching(None, move |call: Http2Call| {
        let protocol = call.request.extensions().get::<Asked>().map(|protocol| protocol.as_str().to_owned());
        let tell = tell.lock().expect("the channel").clone();
        async move {
            let first = call.request.uri().path() == "/goodbye";
            let (mut send, mut receive) = call.switch();
            if first {
                send.send_data(Bytes::from_static(b"goodbye"), true).expect("sent");
            }
            let read = read_to_end(&mut receive).await.expect("ended in order");
            if !first {
                send.send_data(Bytes::from_static(b"answer"), true).expect("sent");
            }
            tell.send((protocol, read)).expect("the test listens");
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let mut raw = raw_tunnel(&gate, &upgrade(&session));
    raw.send("last request");
    raw.finish();
    assert_eq!(raw.read_at_least(6), b"answer");
    raw.assert_closed();
    assert_eq!(told.recv().expect("told"), (Some("feed".to_owned()), b"last request".to_vec()));

    let mut raw = raw_tunnel(&gate, &upgrade(&session).to("GET", "/goodbye"));
    assert_eq!(raw.read_at_least(7), b"goodbye");
    raw.send("and thanks");
    raw.finish();
    assert_eq!(told.recv().expect("told").1, b"and thanks");

    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        let mut stream = tunnel(&mut sender, &session.get("/feed"), "feed").await;
        stream.write_all(b"last request").await.expect("sent");
        stream.shutdown().await.expect("ended");
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("a whole answer");
        assert_eq!(read, b"answer");
    });
    assert_eq!(told.recv().expect("told"), (Some("feed".to_owned()), b"last request".to_vec()));
}

#[test]
fn what_an_upstream_of_http2_says_instead_of_switching_is_passed_on() {
    let origin = Http2Origin::switching(None, |mut call| async move {
        match call.request.uri().path() {
            "/no" => call.reply(403, b"no"),
            "/length" => {
                let head = Response::builder().header("content-length", "5").body(()).expect("a head");
                let mut stream = call.respond.send_response(head, false).expect("an open stream");
                stream.send_data(Bytes::from_static(b"hello"), true).expect("sent");
            }
            _ => _ = call.switch(),
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let reply = gate.send(&upgrade(&session).to("GET", "/no"));
    assert_eq!((reply.status, reply.text().as_str()), (403, "no"));
    gate.send(&upgrade(&session).to("GET", "/length")).assert_refused("upstream-failed");
    // Nobody could answer for the upstream what the client did not ask.
    let keyless = session.get("/live").field("connection", "upgrade").field("upgrade", "websocket");
    gate.send(&keyless).assert_refused("request-malformed");
    gate.send(&keyless.field("sec-websocket-key", "short")).assert_refused("request-malformed");
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        assert_eq!(text(ask(&mut sender, &session.get("/no"), "feed").await).await, (403, "no".to_owned()));
        let (status, problem) = text(ask(&mut sender, &session.get("/length"), "feed").await).await;
        assert!(status == 502 && problem.contains("upstream-failed"), "{status} {problem}");
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_tunnel_that_breaks_off_on_either_side_ends_alone() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Http2Origin::switching(None, move |call| {
        let tell = tell.lock().expect("the channel").clone();
        async move {
            match call.request.uri().path() {
                "/orders" => call.reply(200, b"plain"),
                "/break" => {
                    let (mut send, mut receive) = call.switch();
                    assert_eq!(receive.data().await.expect("some").expect("in order"), "go");
                    send.send_reset(Reason::INTERNAL_ERROR);
                }
                _ => {
                    let (_send, mut receive) = call.switch();
                    tell.send(read_to_end(&mut receive).await.map_err(|error| error.reason())).expect("told");
                }
            }
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let mut raw = raw_tunnel(&gate, &upgrade(&session).to("GET", "/break"));
    raw.send("go");
    raw.assert_closed();
    assert!(gate.access_log(2).iter().any(|call| call["ended_by"] == "upstream"), "{:?}", gate.access_log(2));

    let raw = raw_tunnel(&gate, &upgrade(&session));
    drop(raw);
    // A client of TCP that closes has said all; that of HTTP/2 can take back what it said.
    assert_eq!(told.recv().expect("told"), Ok(Vec::new()));
    runtime().block_on(async {
        let mut sender = connect(&gate).await;
        drop(tunnel(&mut sender, &session.get("/feed"), "feed").await);
    });
    assert_eq!(told.recv().expect("told"), Err(Some(Reason::CANCEL)));
    assert_eq!(gate.send(&session.get("/orders")).text(), "plain");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn each_side_sends_no_more_than_the_other_takes() {
    // More than all buffers between them.
    const BYTES: usize = 32 * 1024 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let origin = Http2Origin::switching(None, move |call| {
        let counted = Arc::clone(&counted);
        async move {
            let takes = call.request.uri().path() == "/takes";
            let (mut send, mut receive) = call.switch();
            if takes {
                let read = read_to_end(&mut receive).await.expect("ended in order").len();
                send.send_data(Bytes::from(read.to_string()), true).expect("sent");
                return;
            }
            let mut left = BYTES;
            while left > 0 {
                send.reserve_capacity(left.min(64 * 1024));
                let Some(Ok(room)) = std::future::poll_fn(|context| send.poll_capacity(context)).await else { return };
                let piece = room.min(left);
                send.send_data(Bytes::from(vec![b'x'; piece]), left == piece).expect("sent");
                counted.fetch_add(piece, Ordering::Relaxed);
                left -= piece;
            }
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    // A client that reads nothing.
    let mut stalled = raw_tunnel(&gate, &upgrade(&session));
    let mut last = usize::MAX;
    eventually("the upstream pauses", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = sent.load(Ordering::Relaxed);
        now > 0 && std::mem::replace(&mut last, now) == now
    });
    assert!(last < BYTES, "{last} bytes were taken for a client that reads none");
    // It stops nobody else, in the other direction either.
    let mut raw = raw_tunnel(&gate, &upgrade(&session).to("GET", "/takes"));
    raw.send(vec![b'x'; BYTES]);
    raw.finish();
    assert_eq!(raw.read_at_least(7), BYTES.to_string().into_bytes());
    // And it gets all in the end.
    let mut rest = stalled.read_at_least(BYTES);
    assert_eq!(rest.len(), BYTES);
    rest.retain(|byte| *byte != b'x');
    assert!(rest.is_empty());
    stalled.assert_closed();
}
