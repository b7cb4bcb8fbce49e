//! HTTP/2, in cleartext by prior knowledge and over TLS by ALPN; HTTP/1.1 over TLS.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    CLIENT, Call, Certificate, Config, Frames, Gate, Http2, Origin, PATIENCE, Raw, Session, Setup, eventually, token,
};

#[test]
fn http2_by_prior_knowledge_serves_beside_http1() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let mut http2 = gate.http2();

    let opened = http2.exchange(&Session::opening(&token(), CLIENT));
    opened.assert_status(201);
    assert_eq!(opened.version, "HTTP/2.0");
    let id = opened.field("session-id").expect("an id").to_owned();
    let session = Session { token: token(), client: CLIENT.into(), id };

    let reply = http2.exchange(&session.post("/orders?a=%2f", r#"{"n":1}"#));
    reply.assert_status(200);
    let seen = origin.last();
    assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/orders?a=%2f", &br#"{"n":1}"#[..]));
    assert_eq!(seen.all("host"), ["shop.test"]);
    assert_eq!(seen.all("session-id"), [session.id.as_str()]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        assert_eq!(reply.field(name), None, "{name}");
    }
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn refusals_over_http2_say_the_same() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut http2 = gate.http2();

    http2.exchange(&session.get("/orders").without("authorization")).assert_refused("credentials-missing");
    http2.exchange(&session.get("/orders").without("session-id")).assert_refused("header-missing");
    http2.exchange(&session.get("/orders").field("client-id", CLIENT)).assert_refused("header-repeated");
    http2.exchange(&session.get("/a%2Fb")).assert_refused("request-malformed");
    http2.exchange(&session.call("TRACE", "/orders")).assert_refused("method-not-allowed");
    http2.exchange(&session.call("PURGE", "/orders")).assert_refused("method-not-implemented");
    http2.exchange(&session.get("/session")).assert_status(200);
    let large = session.get("/orders").field("x-large", &"a".repeat(40 * 1024));
    let reply = http2.start(&large);
    match http2.try_finish(reply) {
        Ok(reply) => assert_eq!(reply.status, 431, "{}", reply.text()),
        Err(error) => assert!(!error.is_user(), "{error}"),
    }
    origin.assert_untouched();
}

#[test]
fn cookies_that_came_in_pieces_are_one_field_again() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let call = session.get("/orders").field("cookie", "a=1").field("cookie", "b=2").field("cookie", "c=3");
    gate.http2().exchange(&call).assert_status(200);
    assert_eq!(origin.last().all("cookie"), ["a=1; b=2; c=3"]);
}

#[test]
fn trailers_cross_to_http2() {
    let origin = Origin::sending(
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 99\r\n\r\n"[..],
    );
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let reply = gate.http2().exchange(&session.get("/orders").field("te", "trailers"));
    reply.assert_status(200);
    assert_eq!((reply.text().as_str(), reply.field("x-sum")), ("hello", None));
    assert_eq!(reply.trailers, [("x-sum".to_owned(), "99".to_owned())]);
}

#[test]
fn an_answer_that_breaks_off_is_a_reset_stream() {
    let origin = Origin::answering(|seen, line| {
        if seen.target == "/whole" {
            line.reply(200, &[], b"ok");
            return;
        }
        line.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        line.close();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut http2 = gate.http2();
    let pending = http2.start(&session.get("/orders"));
    match http2.try_finish(pending) {
        Ok(reply) => assert!(reply.status == 502 || !reply.complete, "{reply:?}"),
        Err(error) => assert!(!error.is_user(), "{error}"),
    }
    http2.exchange(&session.get("/whole")).assert_status(200);
}

#[test]
fn many_streams_share_a_connection_and_each_gets_its_own_answer() {
    let origin = Origin::answering(|seen, line| line.reply(200, &[], seen.target.as_bytes()));
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut http2 = gate.http2();
    let pending: Vec<_> = (0..50).map(|number| http2.start(&session.get(&format!("/{number}")))).collect();
    for (number, answer) in pending.into_iter().enumerate() {
        assert_eq!(http2.finish(answer).text(), format!("/{number}"));
    }
}

#[test]
fn an_upload_that_ends_with_an_empty_frame_is_whole_and_ended_once() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    let mut frames = Frames::connect(gate.address());
    frames.headers(1, &session.http2(&bearer, "POST"), false);
    frames.data(1, b"hello", false);
    frames.data(1, b"", true);
    assert!(frames.find(|frame| frame.ends(1)).is_some());
    frames.headers(3, &session.http2(&bearer, "GET"), true);
    assert!(frames.find(|frame| frame.ends(3)).is_some());

    let seen = origin.seen();
    assert_eq!((seen[0].body.as_slice(), seen[0].complete), (&b"hello"[..], true));
    assert_eq!((seen[1].method.as_str(), seen[1].body.len()), ("GET", 0));
}

#[test]
fn a_length_that_the_data_contradicts_never_looks_whole_upstream() {
    for (length, data) in [("5", &b"hello, world"[..]), ("50", b"hello")] {
        let origin = Origin::start();
        let gate = Gate::file_less(&origin.url());
        let session = gate.open();
        let bearer = format!("Bearer {}", session.token);
        let mut frames = Frames::connect(gate.address());
        let mut head = session.http2(&bearer, "POST");
        head.push(("content-length", length));
        frames.headers(1, &head, false);
        frames.data(1, data, true);
        let answer = frames.find(|frame| frame.resets(1) || frame.ends(1) || frame.goaway().is_some());
        assert!(answer.is_some(), "closed without a word");
        assert!(origin.seen().iter().all(|seen| !seen.complete), "{:?}", origin.seen());
    }
}

#[test]
fn a_length_that_nothing_can_have_is_refused_over_http2_too() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    for lengths in [
        &["9223372036854775808"][..],
        &["18446744073709551615"],
        &["18446744073709551616"],
        &["+5"],
        &["5, 5"],
        &["0x5"],
        &[""],
        &["5", "6"],
    ] {
        let mut head = session.http2(&bearer, "POST");
        head.extend(lengths.iter().map(|length| ("content-length", *length)));
        let mut frames = Frames::connect(gate.address());
        frames.headers(1, &head, false);
        frames.data(1, b"hello", false);
        let answer = frames.find(|frame| frame.resets(1) || frame.stream == 1 || frame.goaway().is_some());
        assert!(answer.is_some(), "closed without a word: {lengths:?}");
        assert_eq!((origin.calls(), origin.bytes()), (0, 0), "{lengths:?}");
    }
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn malformed_http2_requests_reach_nobody() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    let good = session.http2(&bearer, "GET");
    let with = |extra: (&'static str, &'static str)| good.iter().copied().chain([extra]).collect::<Vec<_>>();
    let without = |name: &str| good.iter().copied().filter(|(known, _)| *known != name).collect::<Vec<_>>();

    for head in [
        with(("Upper-Case", "1")),
        with(("connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("te", "gzip")),
        with((":path", "/again")),
        with((":unknown", "1")),
        with(("x-a", "1\r\nsession-id: x")),
        with(("x-a", "1\0")),
        without(":path"),
        without(":method"),
        without(":scheme"),
        good.iter().copied().map(|(name, value)| if name == ":path" { (name, "") } else { (name, value) }).collect(),
    ] {
        let mut frames = Frames::connect(gate.address());
        frames.headers(1, &head, true);
        let answer = frames.find(|frame| frame.resets(1) || frame.ends(1) || frame.goaway().is_some());
        assert!(answer.is_some(), "closed without a word: {head:?}");
        assert_eq!(origin.calls(), 0, "{head:?}");
    }
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn a_flood_of_resets_ends_the_connection_and_nothing_else() {
    let origin = Origin::answering(|_, line| line.hang());
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    let head = session.http2(&bearer, "GET");
    let mut frames = Frames::connect(gate.address());
    let begun = Instant::now();
    for stream in (1..20_000_u32).step_by(2) {
        frames.headers(stream, &head, true);
        if frames.reset(stream).is_err() {
            break;
        }
    }
    let ended = frames.find(|frame| frame.goaway().is_some());
    assert!(ended.is_some() || frames.next().is_none(), "rapid reset goes on for ever");
    assert!(begun.elapsed() < PATIENCE * 2);
    gate.send(&session.get("/session")).assert_status(200);
}

#[test]
fn tls_offers_both_protocols_and_keeps_to_the_one_agreed() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let gate = Setup::file_less(&origin.url()).with_tls(&certificate).start();
    let session = gate.open();

    let (mut http1, agreed) = certificate.connect(gate.tls_address(), &[b"http/1.1"]);
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
    http1.exchange(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.last().all("x-forwarded-proto"), ["https"]);
    let (mut plain, agreed) = certificate.connect(gate.tls_address(), &[]);
    assert_eq!(agreed, None);
    plain.exchange(&session.get("/orders")).assert_status(200);

    let mut http2 = Http2::tls(gate.tls_address(), &certificate);
    let reply = http2.exchange(&session.get("/orders"));
    reply.assert_status(200);
    assert_eq!(reply.version, "HTTP/2.0");
    assert_eq!(origin.last().all("x-forwarded-proto"), ["https"]);
    http2.exchange(&session.get("/orders").without("client-id")).assert_refused("header-missing");

    // HTTP/1.1 on a connection that agreed on h2 is no request.
    let before = origin.calls();
    let (mut confused, agreed) = certificate.connect(gate.tls_address(), &[b"h2"]);
    assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
    let _ = confused.try_send(session.get("/orders").bytes());
    let answer = String::from_utf8_lossy(&confused.read_at_least(1 << 20)).into_owned();
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.calls(), before);
}

#[test]
fn tls_refuses_protocols_it_does_not_speak_and_cleartext() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let gate = Setup::file_less(&origin.url()).with_tls(&certificate).start();
    let session = gate.open();

    assert!(certificate.handshake(gate.tls_address(), &[b"spdy/3"]).is_err(), "no protocol in common (RFC 7301)");
    let mut raw = Raw::connect(gate.tls_address());
    let _ = raw.try_send(session.get("/orders").bytes());
    let answer = raw.read_at_least(1 << 20);
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    origin.assert_untouched();
    let (mut good, _) = certificate.connect(gate.tls_address(), &[b"http/1.1"]);
    good.exchange(&session.get("/orders")).assert_status(200);
}

#[test]
fn a_handshake_that_stalls_is_ended() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let config = Config::new(&origin.url())
        .section("limits", "handshake_timeout = \"1s\"")
        .listener("address = \"127.0.0.1:0\"\ntls = { cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }");
    let setup = Setup::configured(&config);
    setup.write("cert.pem", &certificate.cert_pem);
    setup.write("key.pem", &certificate.key_pem);
    let gate = setup.start();

    let begun = Instant::now();
    let mut raw = Raw::connect(gate.tls_address());
    raw.send(b"\x16\x03\x01");
    raw.read_at_least(1 << 20);
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    origin.assert_untouched();
}

#[test]
fn a_rotated_certificate_is_taken_and_a_broken_one_refused() {
    let origin = Origin::start();
    let (first, second) = (Certificate::new(), Certificate::new());
    let config = Config::new(&origin.url())
        .listener("address = \"127.0.0.1:0\"\ntls = { cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }");
    let setup = Setup::configured(&config);
    setup.write("cert.pem", &first.cert_pem);
    setup.write("key.pem", &first.key_pem);
    let gate = setup.start();
    let serves = |certificate: &Certificate| certificate.handshake(gate.tls_address(), &[b"http/1.1"]).is_ok();
    assert!(serves(&first) && !serves(&second));
    let (mut kept, _) = first.connect(gate.tls_address(), &[b"http/1.1"]);

    gate.write("cert.pem", &second.cert_pem);
    gate.write("key.pem", &second.key_pem);
    gate.signal(Signal::HUP);
    eventually("the new certificate", || serves(&second));
    kept.exchange(&Call::new("GET", "/orders")).assert_refused("credentials-missing");

    let before = gate.stderr().lines().count();
    gate.write("key.pem", "broken");
    gate.signal(Signal::HUP);
    eventually("the refusal is logged", || gate.stderr().lines().skip(before).any(|line| line.contains("key.pem")));
    assert!(serves(&second), "the one before stays");

    // Other files count as well as other contents.
    gate.write("other.pem", format!("{}{}", first.cert_pem, first.key_pem));
    let moved = Config::new(&origin.url())
        .listener("address = \"127.0.0.1:0\"\ntls = { cert = \"{dir}/other.pem\", key = \"{dir}/other.pem\" }");
    gate.write_config(&moved);
    gate.signal(Signal::HUP);
    eventually("the certificate in the other file", || serves(&first));
}
