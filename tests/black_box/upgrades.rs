//! WebSocket and other protocols behind an upgrade: a tunnel, if and only if the upstream agrees.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue};
use rustix::process::Signal;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{
    CLIENT, Call, Certificate, Config, Gate, Line, Origin, Raw, Session, Setup, eventually, now, token_with,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A handshake as browsers write it.
fn handshake(session: &Session) -> Call {
    upgrade(session.get("/live"))
}

fn upgrade(call: Call) -> Call {
    call.field("Connection", "keep-alive, Upgrade")
        .field("Upgrade", "WebSocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", KEY)
}

fn agreement(protocol: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nsession-id: forged\r\n\r\n"
    )
}

/// An origin that agrees and then does what `script` says.
fn agreeing(script: impl Fn(&mut Line) + Send + Sync + 'static) -> Origin {
    Origin::answering(move |_, line| {
        line.send(agreement("websocket"));
        script(line);
        line.close();
    })
}

/// Sends back what comes until it ends.
fn echo(line: &mut Line) {
    loop {
        let bytes = line.read_some();
        if bytes.is_empty() {
            return;
        }
        line.send(bytes);
    }
}

#[track_caller]
fn assert_agreed(raw: &mut Raw) {
    let reply = raw.next_head().expect("an answer");
    assert_eq!(reply.status, 101, "{reply:?}");
    assert!(reply.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")), "{reply:?}");
    assert!(reply.field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")), "{reply:?}");
}

/// Reads until there are these bytes.
#[track_caller]
fn expect(raw: &mut Raw, bytes: &[u8]) {
    let read = raw.read_at_least(bytes.len());
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(bytes));
}

#[test]
fn a_handshake_goes_through_and_bytes_flow_both_ways() {
    let origin = agreeing(echo);
    let gate = Gate::strict(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    let reply = raw.next_head().expect("an answer");

    assert_eq!(reply.status, 101, "{reply:?}");
    assert_eq!(reply.all("connection").len(), 1, "{reply:?}");
    assert!(reply.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(reply.field("upgrade"), Some("websocket"));
    assert_eq!(reply.field("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(reply.all("session-id"), [session.id.as_str()]);
    for name in ["x-request-id", "via", "x-correlation-id"] {
        assert_eq!(reply.all(name).len(), 1, "{name} {reply:?}");
    }
    for name in ["content-length", "transfer-encoding"] {
        assert_eq!(reply.field(name), None, "{reply:?}");
    }
    let seen = origin.last();
    assert_eq!(seen.all("connection"), ["upgrade"]);
    assert_eq!(seen.all("upgrade"), ["WebSocket"]);
    assert_eq!(seen.all("sec-websocket-key"), [KEY]);
    assert_eq!(seen.all("sec-websocket-version"), ["13"]);

    for text in ["one", "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n", "\0\r\n\r\n"] {
        raw.send(text);
        expect(&mut raw, text.as_bytes());
    }
    raw.finish();
    raw.assert_closed();
    assert_eq!((origin.calls(), origin.connections()), (1, 1));

    let log = gate.access_log(2);
    let call = &log[1];
    assert_eq!((&call["status"], &call["ended_by"]), (&101.into(), &"gate".into()), "{call}");
    let bytes = 3 + 33 + 5;
    assert_eq!((&call["bytes_in"], &call["bytes_out"]), (&json!(bytes), &json!(bytes)), "{call}");
}

#[test]
fn any_protocol_will_do_but_not_one_that_carries_http() {
    let origin = Origin::answering(|seen, line| match seen.field("upgrade") {
        Some(protocol) => {
            line.send(agreement(protocol));
            echo(line);
            line.close();
        }
        None => line.reply(200, &[], b"plain"),
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let ask = |protocol: &str| session.get("/live").field("connection", "upgrade").field("upgrade", protocol);

    let mut raw = gate.connect();
    raw.send(ask("orders-feed/2").bytes());
    let reply = raw.next_head().expect("an answer");
    assert_eq!((reply.status, reply.field("upgrade")), (101, Some("orders-feed/2")));
    raw.send("x");
    expect(&mut raw, b"x");

    let mut raw = gate.connect();
    for protocol in ["h2c", "H2C", "HTTP/2.0", "TLS/1.2", "websocket, h2c", "", "a b"] {
        let reply = raw.exchange(&ask(protocol));
        assert_eq!((reply.status, reply.text().as_str()), (200, "plain"), "{protocol}");
    }
    // A body, another method, another version: a call like any other.
    let reply = raw.exchange(&upgrade(session.post("/live", "{}")));
    assert_eq!((reply.status, reply.text().as_str()), (200, "plain"));
    let reply = raw.exchange(&handshake(&session).body("x"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "plain"));
    let reply = raw.exchange(&session.get("/live").field("upgrade", "websocket"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "plain"));
    let old = String::from_utf8(handshake(&session).bytes()).expect("text").replacen("HTTP/1.1", "HTTP/1.0", 1);
    assert_eq!(gate.send_raw(old).status, 200);
    raw.assert_in_step();
    assert!(origin.seen().iter().skip(1).all(|seen| seen.field("connection").is_none()), "{:?}", origin.seen());
}

#[test]
fn large_amounts_arrive_whole_in_both_directions_at_once() {
    const SIZE: usize = 8 << 20;
    let origin = agreeing(|line| {
        let mut writer = line.writer();
        let sender = thread::spawn(move || writer.write_all(&pattern(SIZE, 7)).expect("the gate reads"));
        let read = line.read_raw(SIZE);
        assert!(read == pattern(SIZE, 3), "other bytes arrived");
        sender.join().expect("all was sent");
        line.send("done");
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    let mut writer = raw.writer();
    let sender = thread::spawn(move || writer.write_all(&pattern(SIZE, 3)).expect("the gate reads"));
    let read = raw.read_at_least(SIZE + 4);
    sender.join().expect("all was sent");
    assert!(read[..SIZE] == pattern(SIZE, 7), "other bytes arrived");
    assert_eq!(&read[SIZE..], b"done");
}

fn pattern(size: usize, step: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(step) >> 3) as u8).collect()
}

#[test]
fn a_receiver_that_does_not_read_stops_the_sender() {
    let (sent, amount) = mpsc::channel();
    let sent = std::sync::Mutex::new(sent);
    let origin = agreeing(move |line| {
        line.stop_waiting_after(Duration::from_millis(500));
        let mut total = 0;
        while total < 256 << 20 && line.try_send(&[b'x'; 64 * 1024]).is_ok() {
            total += 64 * 1024;
        }
        let _ = sent.lock().expect("the channel").send(total);
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    let total = amount.recv_timeout(Duration::from_secs(20)).expect("the origin gives up");
    assert!(total < 64 << 20, "{total} bytes were taken for a client that reads none");
}

#[test]
fn bytes_right_behind_the_heads_are_not_lost() {
    let origin = Origin::answering(|_, line| {
        line.send([agreement("websocket").as_bytes(), b"hello"].concat());
        let early = line.read_raw(5);
        line.send(early);
        line.close();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send([handshake(&session).bytes().as_slice(), b"early"].concat());
    assert_agreed(&mut raw);
    expect(&mut raw, b"helloearly");
    raw.assert_closed();
}

#[test]
fn what_was_pipelined_behind_an_upgrade_is_not_answered_as_http() {
    let (told, heard) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let origin = agreeing(move |line| {
        let _ = told.lock().expect("the channel").send(line.read_to_end());
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let behind = [session.get("/first").bytes(), session.get("/second").without("session-id").bytes()].concat();
    let mut raw = gate.connect();
    raw.send([handshake(&session).bytes(), behind.clone()].concat());
    assert_agreed(&mut raw);
    raw.finish();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)).expect("the origin heard it"), behind);
    raw.assert_closed();
    assert_eq!(origin.calls(), 1);
}

#[test]
fn either_side_can_end_first_and_still_hear_the_other() {
    let origin = agreeing(|line| {
        assert_eq!(line.read_to_end(), b"last request");
        thread::sleep(Duration::from_millis(400));
        line.send("answer");
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    raw.send("last request");
    raw.finish();
    expect(&mut raw, b"answer");
    raw.assert_closed();

    let (told, heard) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let origin = agreeing(move |line| {
        line.send("goodbye");
        line.finish();
        let _ = told.lock().expect("the channel").send(line.read_to_end());
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    assert_eq!(raw.read_at_least(100), b"goodbye");
    thread::sleep(Duration::from_millis(200));
    raw.send("and thanks");
    raw.finish();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)).expect("the origin heard it"), b"and thanks");
}

#[test]
fn an_answer_other_than_101_is_an_ordinary_one() {
    let origin = Origin::answering(|seen, line| match seen.target.as_str() {
        "/no" => line.reply(403, &[("upgrade", "websocket"), ("connection", "upgrade")], b"no"),
        _ => line.reply(200, &[], b"plain"),
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    for (target, status, text) in [("/live", 200, "plain"), ("/no", 403, "no"), ("/live", 200, "plain")] {
        let reply = raw.exchange(&upgrade(session.get(target)));
        assert_eq!((reply.status, reply.text().as_str()), (status, text));
        assert_eq!(reply.field("upgrade"), None, "{reply:?}");
    }
    raw.assert_in_step();
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_101_for_something_else_or_in_doubt_opens_nothing() {
    for head in [
        "Connection: Upgrade\r\nUpgrade: other\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, other\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let origin = Origin::answering(move |_, line| {
            line.send(format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n"));
            line.hang();
        });
        let gate = Gate::file_less(&origin.url());
        let session = gate.open();
        let mut raw = gate.connect();
        raw.exchange(&handshake(&session)).assert_refused("upstream-failed");
        raw.assert_in_step_or_closed();
    }
}

#[test]
fn nothing_of_an_upgrade_without_proof_reaches_the_origin() {
    let origin = agreeing(echo);
    let gate = Gate::strict(&origin.url());
    let session = gate.open();
    for (call, code) in [
        (handshake(&session).without("session-id"), "header-missing"),
        (handshake(&session).without("authorization"), "credentials-missing"),
        (handshake(&session).set("session-id", "8f14e45f-ceea-4e7a-9c1b-0a1b2c3d4e5f"), "session-not-found"),
    ] {
        let mut raw = gate.connect();
        raw.send([call.bytes().as_slice(), b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"].concat());
        raw.reply().assert_refused(code);
        if let Some(reply) = raw.next_to("GET") {
            reply.assert_refused("credentials-missing");
        }
    }
    origin.assert_untouched();
}

#[test]
fn the_connection_of_a_tunnel_carries_no_other_call() {
    let origin = Origin::answering(|seen, line| {
        if seen.field("upgrade").is_some() {
            line.send(agreement("websocket"));
            line.finish();
            line.hang();
        } else {
            line.reply(200, &[], b"plain");
        }
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    raw.finish();
    raw.assert_closed();
    for _ in 0..8 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    let seen = origin.seen();
    let tunnel = seen.iter().position(|seen| seen.target == "/live").expect("the upgrade");
    assert!(seen[tunnel + 1..].iter().all(|after| after.connection != seen[tunnel].connection), "{seen:?}");
}

#[test]
fn a_revoked_session_ends_its_websocket_with_1008() {
    let (told, heard) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let origin = agreeing(move |line| {
        line.send(b"\x81\x05hello");
        let _ = told.lock().expect("the channel").send(line.read_to_end());
    });
    let gate = Gate::administered(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    expect(&mut raw, b"\x81\x05hello");
    raw.send(b"\x81\x82\0\0\0\0hi");
    thread::sleep(Duration::from_millis(300));

    let begun = Instant::now();
    gate.revoke(&session);
    let close = raw.read_at_least(1000);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((close[0], close[1] as usize), (0x88, close.len() - 2), "{close:?}");
    assert_eq!(close[2..4], 1008_u16.to_be_bytes());
    let heard = heard.recv_timeout(Duration::from_secs(20)).expect("the origin heard it");
    assert_eq!(&heard[..8], b"\x81\x82\0\0\0\0hi");
    assert_eq!((heard[8], heard[9] & 0x80), (0x88, 0x80), "{heard:?}");
    let code: Vec<_> = (0..2).map(|at| heard[14 + at] ^ heard[10 + at]).collect();
    assert_eq!(code, 1008_u16.to_be_bytes());
    let log = gate.access_log(2);
    assert_eq!((&log[1]["status"], &log[1]["ended_by"]), (&101.into(), &"gate".into()), "{}", log[1]);
}

#[test]
fn a_frame_is_never_broken_by_a_close() {
    let origin = agreeing(|line| {
        line.send(b"\x81\x7dhalf a frame");
        line.hang();
    });
    let gate = Gate::administered(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    expect(&mut raw, b"\x81\x7dhalf a frame");
    gate.revoke(&session);
    raw.assert_closed();
}

#[test]
fn another_protocol_just_ends_with_its_session_or_token() {
    let origin = Origin::answering(|_, line| {
        line.send(agreement("feed"));
        echo(line);
    });
    let gate = Gate::administered(&origin.url());
    let session = gate.open();
    let ask = |session: &Session| session.get("/live").field("connection", "upgrade").field("upgrade", "feed");
    let mut raw = gate.connect();
    raw.send(ask(&session).bytes());
    assert_eq!(raw.next_head().expect("an answer").status, 101);
    let begun = Instant::now();
    gate.revoke(&session);
    raw.assert_closed();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

    let short = token_with(json!({ "exp": now() + 3 }));
    let session = gate.open_as(&short, CLIENT);
    let mut raw = gate.connect();
    raw.send(ask(&session).bytes());
    assert_eq!(raw.next_head().expect("an answer").status, 101);
    raw.assert_closed();
    eventually("the origin is let go", || origin.open_connections() == 0);
}

#[test]
fn a_side_that_breaks_off_takes_the_other_along() {
    let origin = agreeing(|line| {
        let _ = line.read_raw(2);
        line.reset();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    raw.send("go");
    raw.assert_closed();
    assert_eq!(gate.access_log(2)[1]["ended_by"], "upstream");

    let origin = agreeing(echo);
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    drop(raw);
    eventually("the origin is let go", || origin.open_connections() == 0);
}

#[test]
fn a_drain_waits_for_tunnels_until_its_deadline() {
    let origin = agreeing(echo);
    let config = Config::new(&origin.url()).section("server", "drain = { deadline = \"2s\" }");
    let mut gate = Gate::configured(&config);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    let begun = Instant::now();
    gate.signal(Signal::TERM);
    let address = gate.address();
    eventually("it drains", || std::net::TcpStream::connect(address).is_err());
    raw.send("still here");
    expect(&mut raw, b"still here");
    raw.assert_closed();
    assert_eq!(gate.exit_code(), Some(0));
    assert!((1500..15_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());

    let mut gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(handshake(&session).bytes());
    assert_agreed(&mut raw);
    gate.signal(Signal::TERM);
    raw.finish();
    raw.assert_closed();
    assert_eq!(gate.exit_code(), Some(0));
}

#[test]
fn a_tunnel_works_over_tls() {
    let origin = agreeing(|line| {
        let all = line.read_raw(100_006);
        line.send(all);
    });
    let certificate = Certificate::new();
    let gate = Setup::file_less(&origin.url()).with_tls(&certificate).start();
    let session = gate.open();
    let (mut raw, _) = certificate.connect(gate.tls_address(), &[b"http/1.1"]);
    raw.send([handshake(&session).bytes().as_slice(), b"early "].concat());
    assert_agreed(&mut raw);
    raw.send(vec![b'x'; 100_000]);
    let read = raw.read_at_least(100_006);
    assert_eq!((read.len(), &read[..7]), (100_006, b"early x".as_slice()));
}

#[test]
fn a_websocket_client_and_server_of_others_understand_each_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let gate = Gate::administered(&format!("http://{}", listener.local_addr().expect("an address")));
    let session = gate.open();
    let server = runtime.spawn(async move {
        let (socket, _) = listener.accept().await.expect("the gate connects");
        let mut server = tokio_tungstenite::accept_async(socket).await.expect("a handshake");
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
        let mut request = format!("ws://{}/live", gate.address()).into_client_request().expect("a request");
        for (name, value) in handshake(&session).fields {
            if !["host", "connection", "upgrade"].contains(&name.to_lowercase().as_str()) && !name.starts_with("Sec-") {
                let name = HeaderName::try_from(name).expect("a name");
                request.headers_mut().insert(name, HeaderValue::try_from(value).expect("a value"));
            }
        }
        let socket = tokio::net::TcpStream::connect(gate.address()).await.expect("the gate accepts");
        let (mut client, _) = tokio_tungstenite::client_async(request, socket).await.expect("a handshake");
        for size in [0, 1, 125, 126, 70_000, 1 << 20] {
            let message = Message::text("x".repeat(size));
            client.send(message.clone()).await.expect("sent");
            assert_eq!(client.next().await.expect("an answer").expect("in order"), message);
        }
        let revoking = move || {
            gate.revoke(&session);
            gate
        };
        let _gate = tokio::task::spawn_blocking(revoking).await.expect("revoked");
        let last = client.next().await.expect("a goodbye").expect("in order");
        let Message::Close(Some(close)) = last else { panic!("{last:?}") };
        assert_eq!(close.code, CloseCode::Policy);
        let close = server.await.expect("no panic").expect("the server is told too");
        assert_eq!(close.code, CloseCode::Policy);
    });
}
