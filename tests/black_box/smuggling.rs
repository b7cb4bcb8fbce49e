//! HTTP that two parsers could read differently: 400, closed, and nobody behind the gate sees a byte of it.

use std::sync::{Mutex, mpsc};

use crate::harness::{Call, Frames, Gate, Origin, PATIENCE, Session, Setup};

/// The fields of a good call, without the empty line at the end.
fn good(session: &Session, method: &str) -> String {
    let head = session.call(method, "/orders").set("content-type", "application/json").head();
    String::from_utf8(head).expect("ASCII").trim_end_matches("\r\n").to_owned() + "\r\n"
}

/// A request that must never be served: what a smuggler hides in a body.
fn hidden(session: &Session) -> String {
    String::from_utf8(session.get("/hidden").bytes()).expect("ASCII")
}

/// Sends bytes; the gate must refuse them, close, and keep them to itself.
#[track_caller]
fn refused(gate: &Gate, origin: &Origin, bytes: impl AsRef<[u8]>) {
    let mut raw = gate.connect();
    let _ = raw.try_send(&bytes);
    let shown = String::from_utf8_lossy(bytes.as_ref()).chars().take(300).collect::<String>();
    let reply = raw.next_to("GET").unwrap_or_else(|| panic!("closed without a word: {shown:?}"));
    assert_eq!(reply.status, 400, "{shown:?}: {}", reply.text());
    reply.assert_refused("request-malformed");
    assert_eq!(reply.field("connection"), Some("close"), "{shown:?}");
    raw.assert_closed();
    assert_eq!((origin.calls(), origin.bytes()), (0, 0), "{shown:?}");
}

#[test]
fn a_value_of_http2_that_http1_would_read_otherwise_is_refused() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut http2 = gate.http2();
    for value in ["\tx", "x\t", " x", "x "] {
        for name in ["x-other", "cookie", "accept"] {
            http2.exchange(&session.get("/orders").field(name, value)).assert_refused("request-malformed");
        }
    }
    origin.assert_untouched();
    // In trailers it comes when the upstream has begun to read: it must not take what it has for the whole.
    let bearer = format!("Bearer {}", session.token);
    let mut frames = Frames::connect(gate.address());
    frames.headers(1, &session.http2(&bearer, "POST"), false);
    frames.data(1, b"hello", false);
    frames.headers(1, &[("x-sum", " 99")], true);
    assert!(frames.find(|frame| frame.ends(1) || frame.resets(1)).is_some(), "an answer");
    let refused = |call: &serde_json::Value| call["code"] == "request-malformed";
    assert_eq!(gate.access_log(14).iter().filter(|call| refused(call)).count(), 13);
    assert!(origin.seen().iter().all(|seen| !seen.complete && seen.trailers.is_empty()), "{:?}", origin.seen());
    http2.exchange(&session.get("/orders")).assert_status(200);
}

#[test]
fn two_framings_are_never_taken() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let (post, hidden) = (good(&session, "POST"), hidden(&session));

    for framing in [
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 6\r\n",
        "Content-Length: 6\r\nTransfer-Encoding: Chunked\r\n",
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
        "content-length: 6\r\ncontent-length: 7\r\n",
        "content-length: 6, 7\r\n",
        "content-length: 6, 6\r\n",
        "content-length: 6\r\ncontent-length: 6\r\n",
    ] {
        refused(&gate, &origin, format!("{post}{framing}\r\n0\r\n\r\n{hidden}"));
    }
}

#[test]
fn transfer_encoding_has_one_spelling() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let (post, hidden) = (good(&session, "POST"), hidden(&session));

    for coding in [
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: gzip",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked,",
        "transfer-encoding: ,chunked",
        "transfer-encoding:",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: chunk\u{e9}d",
        "transfer-encoding:\r\n chunked",
        "transfer_encoding: chunked\r\ntransfer-encoding: x",
    ] {
        let bytes = format!("{post}{coding}\r\n\r\n0\r\n\r\n{hidden}");
        let mut raw = gate.connect();
        let _ = raw.try_send(&bytes);
        let reply = raw.next_to("GET").unwrap_or_else(|| panic!("closed without a word: {coding:?}"));
        assert!(matches!(reply.status, 400 | 501), "{coding:?}: {}", reply.text());
        raw.assert_closed();
        assert_eq!(origin.bytes(), 0, "{coding:?}");
    }
}

#[test]
fn a_disguised_framing_field_stays_here() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    let reply = gate.send(&session.get("/orders").field("transfer_encoding", "chunked").field("content_length", "5"));
    reply.assert_status(200);
    assert_eq!((origin.last().field("transfer_encoding"), origin.last().field("content_length")), (None, None));
}

#[test]
fn lengths_are_plain_numbers() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let (post, hidden) = (good(&session, "POST"), hidden(&session));

    for length in ["+6", "-1", "0x6", "6 6", "6;", "six", "", "1e1", "6.0", "\u{b}6", "99999999999999999999999999"] {
        let mut raw = gate.connect();
        let _ = raw.try_send(format!("{post}content-length: {length}\r\n\r\n{{\"a\":1}}{hidden}"));
        let reply = raw.next_to("GET").unwrap_or_else(|| panic!("closed without a word: {length:?}"));
        assert!(matches!(reply.status, 400 | 413 | 431), "{length:?}: {}", reply.text());
        raw.assert_closed();
        assert_eq!(origin.bytes(), 0, "{length:?}");
    }
    for length in ["9223372036854775808", "18446744073709551615"] {
        let mut raw = gate.connect();
        let _ = raw.try_send(format!("{post}content-length: {length}\r\n\r\n"));
        let reply = raw.reply();
        assert!(matches!(reply.status, 400 | 413), "{length}: {}", reply.text());
        assert_eq!(origin.bytes(), 0, "{length}");
    }
}

#[test]
fn broken_heads_are_refused_and_closed() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let get = good(&session, "GET");
    let after = |request_line: &str| format!("{request_line}\r\n{}\r\n", get.split_once("\r\n").expect("a line").1);

    for bytes in [
        after("GET /orders"),
        after("GET  /orders HTTP/1.1"),
        after("GET /orders  HTTP/1.1"),
        after("GET /orders HTTP/1.1 "),
        after("GET /a b HTTP/1.1"),
        after("GET\t/orders HTTP/1.1"),
        after("GET /orders HTTP/0.9"),
        after("GET /orders HTTP/1.2"),
        after("GET /orders HTTP/2.0"),
        after("GET /orders http/1.1"),
        after("GET /orders HTTP/1.1x"),
        after("G@T /orders HTTP/1.1"),
        after(" GET /orders HTTP/1.1"),
        after("GET /ord\u{1}ers HTTP/1.1"),
        after("GET /ord\0ers HTTP/1.1"),
        after("GET /<x> HTTP/1.1"),
        format!("{get}x-a : 1\r\n\r\n"),
        format!("{get} x-a: 1\r\n\r\n"),
        format!("{get}x-a: 1\r\n folded\r\n\r\n"),
        format!("{get}x a: 1\r\n\r\n"),
        format!("{get}: 1\r\n\r\n"),
        format!("{get}x-a\r\n\r\n"),
        format!("{get}x-a: 1\0\r\n\r\n"),
        format!("{get}x-a: 1\r2\r\n\r\n"),
        format!("{get}x-a: \u{1}\r\n\r\n"),
        format!("{get}x(a): 1\r\n\r\n"),
        format!("{get}x-\u{e9}: 1\r\n\r\n"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
        "hello\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "{\"method\":\"GET\"}\r\n\r\n".to_owned(),
    ] {
        refused(&gate, &origin, bytes);
    }
}

#[test]
fn broken_chunks_are_the_clients_fault() {
    for chunks in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \t5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
    ] {
        let origin = Origin::start();
        let gate = Gate::file_less(&origin.url());
        let session = gate.open();
        let mut raw = gate.connect();
        raw.send(session.call("POST", "/orders").field("transfer-encoding", "chunked").head());
        let _ = raw.try_send(chunks);
        let _ = raw.try_send(hidden(&session));

        let reply = raw.next_to("GET").unwrap_or_else(|| panic!("closed without a word: {chunks:?}"));
        assert_eq!(reply.status, 400, "{chunks:?}: {}", reply.text());
        reply.assert_refused("request-malformed");
        raw.assert_closed();
        assert!(origin.seen().iter().all(|seen| !seen.complete && seen.target == "/orders"), "{chunks:?}");
    }
}

#[test]
fn http_1_0_has_no_chunks() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let post = good(&session, "POST").replace("HTTP/1.1", "HTTP/1.0");
    refused(&gate, &origin, format!("{post}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{}", hidden(&session)));

    // Nor a body that ends with its connection (CVE-2026-2835): without a length there is none.
    let mut raw = gate.connect();
    raw.send(format!("{post}\r\n{}", hidden(&session)));
    raw.reply().assert_status(200);
    raw.assert_closed();
    assert_eq!((origin.calls(), origin.last().body), (1, Vec::new()));

    let get = good(&session, "GET").replace("HTTP/1.1", "HTTP/1.0");
    let mut raw = gate.connect();
    raw.send(format!("{get}\r\n"));
    raw.reply().assert_status(200);
    raw.assert_closed();
}

#[test]
fn a_body_after_a_refused_head_never_becomes_a_request() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let body = hidden(&session);

    for call in [
        session.post("/orders", &body).without("session-id"),
        session.post("/orders", &body).without("authorization"),
        session.post("/orders", &body).set("session-id", "00000000-0000-4000-8000-000000000000"),
        session.post("/a%2Fb", &body),
        session.post("/orders", &body).to("PURGE", "/orders"),
        session.post("/session", &body).to("PUT", "/session"),
        session.post("/session", &body).to("DELETE", "/session").set("session-id", "x"),
        session.post("/session", &body).to("GET", "/session").without("client-id"),
        Session::opening("junk", "c").body(&body),
    ] {
        let mut raw = gate.connect();
        let reply = raw.exchange(&call);
        assert!(reply.status >= 400, "{call:?}: {}", reply.text());
        raw.assert_in_step_or_closed();
    }
    // The same for the answers that are no refusals and have no use for a body.
    for call in [session.get("/session").body(&body), Session::opening(&session.token, &session.client).body(&body)] {
        let mut raw = gate.connect();
        assert!(raw.exchange(&call).status < 300, "{call:?}");
        raw.assert_in_step_or_closed();
    }
    origin.assert_untouched();
}

#[test]
fn a_refused_body_that_comes_late_is_drained_or_the_connection_closed() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for (size, late) in [(100, false), (60_000, false), (60_000, true), (1_000_000, true)] {
        let body = hidden(&session).into_bytes().into_iter().cycle().take(size).collect::<Vec<_>>();
        let call = session.post("/orders", "").body(&body).without("client-id");
        let mut raw = gate.connect();
        if late {
            raw.send(call.head());
            raw.reply().assert_refused("header-missing");
            let _ = raw.try_send(&body);
        } else {
            raw.exchange(&call).assert_refused("header-missing");
        }
        raw.assert_in_step_or_closed();
    }
    origin.assert_untouched();
}

#[test]
fn an_upgrade_opens_no_tunnel_before_the_upstream_agreed() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let upgrade = |call: Call| {
        call.field("connection", "upgrade")
            .field("upgrade", "websocket")
            .field("sec-websocket-version", "13")
            .field("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };

    let mut raw = gate.connect();
    raw.send(upgrade(session.get("/orders")).bytes());
    raw.send(session.get("/hidden").without("authorization").bytes());
    let reply = raw.reply();
    assert_ne!(reply.status, 101, "{reply:?}");
    if let Some(second) = raw.next_to("GET") {
        second.assert_refused("credentials-missing");
    }
    assert!(origin.seen().iter().all(|seen| seen.target == "/orders"), "{:?}", origin.seen());

    let before = origin.calls();
    let mut raw = gate.connect();
    raw.exchange(&upgrade(session.get("/orders").without("session-id"))).assert_refused("header-missing");
    raw.assert_in_step_or_closed();
    assert_eq!(origin.calls(), before);
}

#[test]
fn a_101_that_nobody_asked_for_opens_nothing() {
    let origin = Origin::answering(|_, line| {
        line.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
        line.hang();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.exchange(&session.get("/orders")).assert_refused("upstream-failed");
    raw.assert_in_step_or_closed();
}

/// Sends a second answer that nobody asked for behind the first one on each connection, and says when it is out.
fn with_stray_answer(answer: &'static str) -> (Origin, mpsc::Receiver<()>) {
    let (sent, strays) = mpsc::channel();
    let sent = Mutex::new(sent);
    let origin = Origin::answering(move |_, line| {
        line.send(answer);
        line.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged");
        let _ = sent.lock().expect("the channel").send(());
    });
    (origin, strays)
}

#[test]
fn an_answer_to_nobodys_question_is_never_given_to_anyone() {
    let (origin, strays) = with_stray_answer("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine");
    let gate = Setup::file_less(&origin.url()).args(&["--workers", "1"]).start();
    let session = gate.open();
    let mut raw = gate.connect();
    for _ in 0..10 {
        let reply = raw.exchange(&session.get("/orders"));
        // Loopback has delivered what was written: from here on the gate can know.
        strays.recv_timeout(PATIENCE).expect("the stray answer is out");
        assert_eq!(reply.text(), "mine");
    }
}

#[test]
fn an_upstreams_double_framing_cuts_nothing_and_splits_nothing() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 100\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let (origin, strays) = with_stray_answer(answer);
        let gate = Setup::file_less(&origin.url()).args(&["--workers", "1"]).start();
        let session = gate.open();
        let mut raw = gate.connect();
        for _ in 0..5 {
            let reply = raw.exchange(&session.get("/orders"));
            strays.recv_timeout(PATIENCE).expect("the stray answer is out");
            if reply.status == 200 {
                assert_eq!(reply.text(), "hello", "{answer:?}");
            } else {
                reply.assert_refused("upstream-failed");
            }
        }
    }
}

#[test]
fn a_good_call_before_a_broken_one_keeps_its_answer() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    let mut bytes = session.get("/orders").bytes();
    bytes.extend_from_slice(b"BROKEN\r\n\r\n");
    raw.send(bytes);

    raw.reply().assert_status(200);
    raw.reply().assert_refused("request-malformed");
    raw.assert_closed();
    assert_eq!(origin.calls(), 1);
}
