//! What crosses the gate, and what stays on its side, in both directions.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{CLIENT, Config, Gate, Origin, Session, eventually};

/// An origin that answers with this, and the gate in front of it.
fn answering(bytes: &'static [u8]) -> (Origin, Gate, Session) {
    let origin = Origin::sending(bytes);
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    (origin, gate, session)
}

#[test]
fn an_accepted_call_arrives_with_the_identity_the_gate_has_proven() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    let peer = raw.local_address().ip().to_string();

    let reply = raw.exchange(&session.post("/orders?a=1", r#"{"n":1}"#).field("x-end", "kept"));

    reply.assert_status(200);
    let seen = origin.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.complete), ("POST", "/orders?a=1", true));
    assert_eq!(seen.body, br#"{"n":1}"#);
    for (name, value) in [
        ("host", "shop.test"),
        ("session-id", &session.id),
        ("client-id", CLIENT),
        ("x-correlation-id", "corr-7"),
        ("authorization", &format!("Bearer {}", session.token)),
        ("x-sg-subject", "buyer-1"),
        ("x-sg-scopes", "listerine.all"),
        ("x-forwarded-for", &peer),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.test"),
        ("content-type", "application/json"),
        ("content-length", "7"),
        ("x-end", "kept"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}: {seen:?}");
    }
    assert_eq!(seen.all("x-request-id"), [reply.field("x-request-id").expect("a request id")]);
    let trace = seen.field("traceparent").expect("a trace");
    let shape: Vec<_> = trace.split('-').map(str::len).collect();
    assert_eq!(shape, [2, 32, 16, 2], "{trace}");
    assert!(seen.field("forwarded").is_none_or(|text| text.contains(&peer)), "{seen:?}");
    assert!(seen.field("via").is_some(), "{seen:?}");
    for name in ["transfer-encoding", "connection", "accept-encoding", "expect", "te", "keep-alive"] {
        assert!(seen.field(name).is_none_or(|value| value == "keep-alive"), "{name}: {seen:?}");
    }
}

#[test]
fn an_answer_carries_its_ids_and_nothing_of_the_gates_own_family() {
    let (_origin, gate, session) = answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nsession-id: 758fc320-af96-4faf-8af7-536e7cac5775\r\nx-sg-debug: 1\r\nX-SG-Subject: root\r\nsession-expires-in: 9\r\nx-request-id: theirs\r\nx-kept: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\nok",
    );
    let reply = gate.send(&session.get("/orders"));

    reply.assert_status(200);
    assert_eq!(reply.all("session-id"), [session.id.as_str()]);
    assert_eq!(reply.all("x-correlation-id"), ["corr-7"]);
    assert_eq!(reply.all("x-request-id").len(), 1);
    assert_ne!(reply.field("x-request-id"), Some("theirs"));
    assert!(reply.field("session-expires-in").is_some_and(|text| text != "9"));
    assert_eq!(reply.all("x-kept"), ["1"]);
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"], "lines that cannot be joined stay apart");
    assert!(reply.fields.iter().all(|(name, _)| !name.starts_with("x-sg-")), "{reply:?}");
    assert!(reply.field("via").is_some(), "{reply:?}");
    assert!(reply.field("proxy-status").is_none(), "an upstream's answer is not ours: {reply:?}");
}

#[test]
fn fields_that_upstreams_believe_are_never_taken_from_a_client() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut call = session.get("/orders");
    let forged = [
        "x-sg-subject",
        "X-Sg-Scopes",
        "x-sg-session-step",
        "x-sg-anything",
        "session_id",
        "Client_Id",
        "x_sg_subject",
        "x-user-id",
        "x-remote-user",
        "remote-user",
        "x-authenticated-userid",
        "x-consumer-id",
        "x-auth-request-user",
        "forwarded",
        "x-real-ip",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-client-cert",
        "ssl-client-cert",
        "true-client-ip",
        "proxy-authorization",
        "x-original-url",
        "x-http-method-override",
    ];
    for name in forged {
        call = call.field(name, "for=forged");
    }
    gate.send(&call.field("x-request-id", "forged").field("x-end", "kept")).assert_status(200);

    let seen = origin.last();
    for (name, value) in &seen.fields {
        assert!(!value.contains("forged"), "{name}: {value}");
    }
    assert_eq!(seen.all("x-sg-subject"), ["buyer-1"]);
    assert_eq!(seen.all("session-id"), [session.id.as_str()]);
    assert_eq!(seen.all("x-end"), ["kept"]);
}

#[test]
fn forged_forwarding_fields_give_way_to_the_peer() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let call = session
        .get("/orders")
        .field("x-forwarded-for", "203.0.113.9")
        .field("x-forwarded-for", "203.0.113.10")
        .field("x-forwarded-proto", "https");
    gate.send(&call).assert_status(200);
    assert_eq!(origin.last().all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(origin.last().all("x-forwarded-proto"), ["http"]);
}

#[test]
fn a_trusted_proxy_is_believed_and_continued() {
    let origin = Origin::start();
    let config = Config::new(&origin.url()).section("server", "trusted_proxies = [\"127.0.0.0/8\"]");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let call = session
        .get("/orders")
        .field("x-forwarded-for", "203.0.113.9")
        .field("x-forwarded-proto", "https")
        .field("x-sg-subject", "forged");
    gate.send(&call).assert_status(200);
    assert_eq!(origin.last().all("x-forwarded-for").join(", "), "203.0.113.9, 127.0.0.1");
    assert_eq!(origin.last().all("x-forwarded-proto"), ["https"]);
    assert_eq!(origin.last().all("x-sg-subject"), ["buyer-1"], "trust is about the path, not about identity");
}

#[test]
fn fields_of_one_hop_stay_there_in_both_directions() {
    let (origin, gate, session) = answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive, X-Up-Hop\r\nX-Up-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Up-End: kept\r\n\r\nok",
    );
    let call = session
        .get("/orders")
        .field("connection", "X-My-Hop, keep-alive")
        .field("X-My-Hop", "1")
        .field("Keep-Alive", "timeout=9")
        .field("Proxy-Connection", "keep-alive")
        .field("TE", "gzip")
        .field("Upgrade", "h2c")
        .field("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")
        .field("X-End", "kept");
    let reply = gate.send(&call);

    reply.assert_status(200);
    let seen = origin.last();
    assert_eq!(seen.all("x-end"), ["kept"]);
    for name in ["x-my-hop", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(reply.all("x-up-end"), ["kept"]);
    for name in ["x-up-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(reply.field(name), None, "{name}");
    }
}

#[test]
fn authorization_can_be_kept_from_an_upstream() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .route("name = \"all\"\npath = \"/{*rest}\"\nauthorization = \"strip\"\nupstream = \"shop\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.last().field("authorization"), None);
    assert_eq!(origin.last().field("client-id"), Some(CLIENT));
}

#[test]
fn an_upstreams_error_passes_untouched() {
    let (origin, gate, session) =
        answering(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\ncontent-type: text/plain\r\n\r\nbusy");
    let reply = gate.send(&session.post("/orders", "{}"));
    reply.assert_status(503);
    assert_eq!((reply.field("retry-after"), reply.text().as_str()), (Some("7"), "busy"));
    assert_eq!(reply.field("content-type"), Some("text/plain"));
    assert!(reply.field("proxy-status").is_none());
    assert_eq!(origin.calls(), 1, "a POST is delivered once");
}

#[test]
fn a_head_keeps_the_length_it_was_told_and_gets_none_invented() {
    for (answer, length) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n"[..], Some("1234")),
        (b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
        (b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n", None),
    ] {
        let (_origin, gate, session) = answering(answer);
        let mut raw = gate.connect();
        let reply = raw.exchange(&session.call("HEAD", "/orders"));
        assert!(matches!(reply.status, 200 | 304), "{reply:?}");
        assert_eq!(reply.field("content-length"), length, "{}", String::from_utf8_lossy(answer));
        raw.assert_in_step();
    }
}

#[test]
fn a_204_ends_at_once_without_framing() {
    let (_origin, gate, session) = answering(b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n");
    let mut raw = gate.connect();
    let reply = raw.exchange(&session.call("DELETE", "/orders/7"));
    assert_eq!((reply.status, reply.field("x-a")), (204, Some("1")));
    assert_eq!((reply.field("content-length"), reply.field("transfer-encoding")), (None, None));
    raw.assert_in_step();
}

#[test]
fn announced_trailers_arrive_as_trailers() {
    let (_origin, gate, session) = answering(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 99\r\n\r\n",
    );
    let mut raw = gate.connect();
    let reply = raw.exchange(&session.get("/orders").field("te", "trailers"));
    reply.assert_status(200);
    assert_eq!((reply.text().as_str(), reply.field("x-sum")), ("hello", None));
    assert_eq!(reply.trailers, [("x-sum".to_owned(), "99".to_owned())]);
    raw.assert_in_step();
}

#[test]
fn trailers_nobody_asked_for_leave_the_body_whole() {
    let (_origin, gate, session) = answering(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nsession-id: forged\r\nX-Sum: 99\r\n\r\n",
    );
    let mut raw = gate.connect();
    let reply = raw.exchange(&session.get("/orders"));
    reply.assert_status(200);
    assert_eq!(reply.text(), "hello");
    assert!(reply.trailers.iter().all(|(name, _)| name != "session-id"), "{reply:?}");
    assert_eq!(reply.all("session-id"), [session.id.as_str()]);
    raw.assert_in_step();
}

#[test]
fn an_answer_that_breaks_off_never_looks_complete() {
    for broken in [
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n100\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let origin = Origin::answering(move |_, line| {
            line.send(broken);
            line.close();
        });
        let gate = Gate::file_less(&origin.url());
        let session = gate.open();
        let mut raw = gate.connect();

        let reply = raw.exchange(&session.post("/orders", "{}"));

        // Before the head went out, the gate may still say that the upstream failed.
        if reply.status != 502 {
            assert!(!reply.complete, "{reply:?}");
            raw.assert_closed();
        }
        assert_eq!(origin.calls(), 1);
    }
}

#[test]
fn an_answer_that_ends_by_closing_arrives_whole_and_framed() {
    let body = "x".repeat(10_000);
    let answer = format!("HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\n{body}");
    let origin = Origin::answering(move |_, line| {
        line.send(&answer);
        line.close();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    let reply = raw.exchange(&session.get("/orders"));
    reply.assert_status(200);
    assert_eq!(reply.text(), body);
    assert!(reply.field("transfer-encoding").is_some() || reply.field("connection") == Some("close"), "{reply:?}");
}

#[test]
fn a_chunked_upload_arrives_once_with_one_framing() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    let call = session.call("POST", "/orders").field("transfer-encoding", "chunked");

    raw.send(call.head());
    for chunk in ["5\r\nhello\r\n", "1\r\n,\r\n", "6\r\n world\r\n", "0\r\n\r\n"] {
        raw.send(chunk);
        thread::yield_now();
    }
    raw.reply().assert_status(200);
    raw.exchange(&session.get("/next")).assert_status(200);

    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].body.as_slice(), seen[0].complete), (&b"hello, world"[..], true));
    assert_eq!(seen[0].all("transfer-encoding").len() + seen[0].all("content-length").len(), 1);
    assert_eq!((seen[1].target.as_str(), seen[1].body.len()), ("/next", 0));
}

#[test]
fn request_trailers_cross_without_becoming_headers() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let call = session.call("POST", "/orders").field("transfer-encoding", "chunked").field("trailer", "x-sum");
    let mut raw = gate.connect();
    raw.send(call.head());
    raw.send("5\r\nhello\r\n0\r\nx-sum: 9\r\nsession-id: 758fc320-af96-4faf-8af7-536e7cac5775\r\n\r\n");
    raw.reply().assert_status(200);

    let seen = origin.last();
    assert_eq!((seen.body.as_slice(), seen.field("x-sum")), (&b"hello"[..], None));
    assert_eq!(seen.all("session-id"), [session.id.as_str()]);
    assert!(seen.trailers.iter().all(|(name, _)| name != "session-id"), "{seen:?}");
}

#[test]
fn a_get_with_a_body_keeps_it() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    gate.send(&session.get("/orders").body("hello")).assert_status(200);
    assert_eq!(origin.last().body, b"hello");
    let mut raw = gate.connect();
    raw.send(session.get("/orders").field("transfer-encoding", "chunked").head());
    raw.send("5\r\nhello\r\n0\r\n\r\n");
    let reply = raw.reply();
    if reply.status == 200 {
        assert_eq!((origin.last().body.as_slice(), origin.last().complete), (&b"hello"[..], true));
    } else {
        reply.assert_refused("request-malformed");
        assert_eq!(origin.calls(), 1);
    }
}

#[test]
fn compressed_answers_pass_as_they_are() {
    let (origin, gate, session) = answering(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\netag: \"abc\"\r\ncontent-length: 6\r\nvary: accept-encoding\r\n\r\n\x1f\x8b\x08\x00\x00\x01",
    );
    let reply = gate.send(&session.get("/orders"));
    reply.assert_status(200);
    assert_eq!(reply.body, b"\x1f\x8b\x08\x00\x00\x01");
    assert_eq!((reply.field("content-encoding"), reply.field("etag")), (Some("gzip"), Some("\"abc\"")));
    assert_eq!(origin.last().field("accept-encoding"), None);
    gate.send(&session.get("/orders").field("accept-encoding", "br;q=0.5")).assert_status(200);
    assert_eq!(origin.last().field("accept-encoding"), Some("br;q=0.5"));
}

#[test]
fn a_refusal_comes_before_the_body_and_without_100() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = Session { id: "00000000-0000-4000-8000-000000000000".into(), ..gate.open() };
    let call = session.call("POST", "/orders").field("expect", "100-continue").field("content-length", "1048576");
    let mut raw = gate.connect();

    raw.send(call.head());
    let reply = raw.reply();

    assert_eq!(reply.interim, [0_u16; 0]);
    reply.assert_refused("session-not-found");
    origin.assert_untouched();
}

#[test]
fn an_expected_100_comes_at_most_once_and_the_body_whole() {
    for says_100 in [true, false] {
        let origin = Origin::speaking(move |line| {
            while let Some(mut seen) = line.read_head() {
                if says_100 {
                    line.send("HTTP/1.1 100 Continue\r\n\r\n");
                }
                line.read_body(&mut seen);
                line.reply(200, &[], b"ok");
            }
        });
        let gate = Gate::file_less(&origin.url());
        let session = gate.open();
        let body = vec![b'b'; 70_000];
        let call = session.post("/orders", "").field("expect", "100-continue").body(&body);
        let mut raw = gate.connect();

        raw.send(call.head());
        // A client may send its body without waiting for the 100 (RFC 9110 section 10.1.1).
        raw.send(&body);
        let reply = raw.reply();

        reply.assert_status(200);
        assert!(reply.interim.len() <= 1 && reply.interim.iter().all(|status| *status == 100), "{reply:?}");
        assert_eq!((origin.last().body.len(), origin.last().complete), (70_000, true));
        assert_eq!(origin.last().field("expect"), None);
        raw.assert_in_step();
    }
}

#[test]
fn a_client_that_waits_for_its_100_gets_it() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.post("/orders", "hello").field("expect", "100-continue").head());
    assert_eq!(raw.next_head().map(|head| head.status), Some(100));
    raw.send("hello");
    raw.reply().assert_status(200);
    assert_eq!(origin.last().body, b"hello");
}

#[test]
fn a_trace_is_continued_and_a_broken_one_is_begun_anew() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    gate.send(&session.get("/orders").field("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")))
        .assert_status(200);
    let seen = origin.last();
    let continued = seen.field("traceparent").expect("a trace");
    assert!(continued.starts_with(&format!("00-{trace}-")) && continued.ends_with("-01"), "{continued}");
    assert!(!continued.contains("00f067aa0ba902b7"), "the gate is a span of its own: {continued}");

    for broken in ["nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4BF9-1-01", ""] {
        gate.send(&session.get("/orders").field("traceparent", broken)).assert_status(200);
        let seen = origin.last();
        assert_eq!(seen.all("traceparent").len(), 1);
        assert!(
            seen.field("traceparent").is_some_and(|trace| trace != broken && trace.len() == 55),
            "{broken}: {seen:?}"
        );
    }
}

#[test]
fn an_expectation_nobody_knows_hangs_nobody() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    for expectation in ["200-maybe", "100-continue, x", "100-Continue"] {
        let mut raw = gate.connect();
        raw.send(session.post("/orders", "hello").field("expect", expectation).bytes());
        let reply = raw.reply();
        assert!(matches!(reply.status, 200 | 400 | 417), "{expectation}: {reply:?}");
        assert!(origin.seen().iter().all(|seen| seen.field("expect").is_none()));
        raw.assert_in_step_or_closed();
    }
}

#[test]
fn pipelined_calls_get_their_own_answers_in_order() {
    let origin = Origin::answering(|seen, line| line.reply(200, &[], seen.target.as_bytes()));
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();

    let mut bytes = session.get("/1").bytes();
    bytes.extend(session.get("/2").without("client-id").bytes());
    bytes.extend(session.post("/3", "{}").bytes());
    bytes.extend(session.get("/4").bytes());
    raw.send(bytes);

    assert_eq!(raw.reply().text(), "/1");
    raw.reply().assert_refused("header-missing");
    assert_eq!(raw.reply().text(), "/3");
    assert_eq!(raw.reply().text(), "/4");
}

#[test]
fn bodies_stream_in_both_directions() {
    let origin = Origin::speaking(|line| {
        let Some(_) = line.read_head() else { return };
        assert!(!line.read_raw(7).is_empty(), "the first chunk comes before the last was sent");
        line.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        line.read_raw(7 + 10);
        line.send("4\r\nlast\r\n0\r\n\r\n");
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();

    raw.send(session.call("POST", "/orders").field("transfer-encoding", "chunked").head());
    raw.send("5\r\nhello\r\n");
    let head = raw.next_head().expect("the head of the answer, though the request goes on");
    assert_eq!(head.status, 200);
    assert!(String::from_utf8_lossy(&raw.read_at_least(10)).contains("first"));
    raw.send("5\r\nworld\r\n0\r\n\r\n");
    assert!(String::from_utf8_lossy(&raw.read_at_least(14)).contains("last"));
}

#[test]
fn a_large_body_arrives_byte_for_byte_in_both_directions() {
    let origin = Origin::answering(|seen, line| line.reply(200, &[], &seen.body));
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let body: Vec<u8> = (0..5_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let call = session.post("/orders", "").body(&body);

    let mut raw = gate.connect();
    raw.send(call.bytes());
    let reply = raw.reply();
    reply.assert_status(200);
    assert!(reply.body == body && origin.last().body == body);
}

#[test]
fn a_loop_through_the_gate_is_refused() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&session.get("/orders").field("via", "1.1 elsewhere")).assert_status(200);
    let via = origin.last().all("via").join(", ");
    assert!(via.starts_with("1.1 elsewhere, "), "{via}");
    let before = origin.calls();

    gate.send(&session.get("/orders").field("via", &via)).assert_refused("loop-detected");
    assert_eq!(origin.calls(), before);
}

#[test]
fn many_fields_from_an_upstream_are_no_failure() {
    let mut answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n".to_owned();
    for number in 0..150 {
        answer.push_str(&format!("x-field-{number}: {number}\r\n"));
    }
    answer.push_str("\r\nok");
    let origin = Origin::sending(answer);
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let reply = gate.send(&session.get("/orders"));
    reply.assert_status(200);
    assert_eq!(reply.field("x-field-149"), Some("149"));
}

#[test]
fn a_client_that_leaves_takes_its_upstream_call_with_it() {
    let origin = Origin::answering(|_, line| line.hang());
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.get("/orders").bytes());
    origin.await_calls(1);
    drop(raw);
    eventually("the upstream call is cancelled", || origin.open_connections() == 0);
}

#[test]
fn early_hints_reach_the_client_early_and_its_connection_stays_in_step() {
    let origin = Origin::answering(|seen, line| {
        if seen.target == "/hints" {
            line.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
            line.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nsession-id: forged\r\nx-sg-step: 1\r\n\
                 Connection: X-Hop\r\nX-Hop: 1\r\nUpgrade: x\r\nKeep-Alive: timeout=3\r\n\r\n",
            );
            thread::sleep(Duration::from_millis(800));
        }
        line.reply(200, &[], b"final");
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    for call in [session.get("/hints"), session.post("/hints", "{}")] {
        let begun = Instant::now();
        raw.send(call.bytes());
        assert_eq!(raw.next_head().expect("an interim answer").status, 102);
        let hint = raw.next_head().expect("an interim answer");
        assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
        assert_eq!(hint.status, 103, "{hint:?}");
        let names: Vec<_> = hint.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["link", "via"], "{hint:?}");
        let reply = raw.reply();
        assert_eq!((reply.status, reply.text().as_str()), (200, "final"));
        assert!(begun.elapsed() >= Duration::from_millis(800));
        raw.exchange(&session.get("/plain")).assert_status(200);
    }
    raw.assert_in_step();

    // HTTP/1.0 and HTTP/2 clients get the answer alone.
    let old = String::from_utf8(session.get("/hints").bytes()).expect("text").replacen("HTTP/1.1", "HTTP/1.0", 1);
    let mut raw = gate.connect();
    raw.send(old);
    let reply = raw.reply();
    assert_eq!((reply.status, reply.interim.len(), reply.text().as_str()), (200, 0, "final"));
    gate.http2().exchange(&session.get("/hints")).assert_status(200);
}

#[test]
fn interim_answers_without_end_are_a_failure() {
    let origin = Origin::answering(|_, line| {
        line.send("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(40));
        line.reply(200, &[], b"final");
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    let reply = raw.exchange(&session.get("/orders"));
    assert!(reply.interim.len() <= 16 && reply.interim.iter().all(|status| *status == 103), "{reply:?}");
    reply.assert_refused("upstream-failed");
    raw.assert_in_step_or_closed();
}
