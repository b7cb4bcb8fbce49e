//! gRPC: refusals that its clients understand, and streams that end with a status.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Call, Config, Gate, Http2, Origin, Reply, Session, dead_address, eventually, now, token_with};

/// A unary call.
fn unary(session: &Session) -> Call {
    session
        .post("/shop.Orders/Get", "\0\0\0\0\x02\x08\x07")
        .set("content-type", "application/grpc")
        .field("te", "trailers")
}

/// Fails unless this is a refusal in trailers only.
#[track_caller]
fn assert_refused(reply: &Reply, status: &str, code: &str) {
    reply.assert_status(200);
    assert!(reply.body.is_empty() && reply.trailers.is_empty(), "{reply:?}");
    for (name, value) in [("content-type", "application/grpc"), ("grpc-status", status), ("x-sg-problem", code)] {
        assert_eq!(reply.all(name), [value], "{reply:?}");
    }
    assert!(reply.field("grpc-message").is_some_and(|message| !message.is_empty()), "{reply:?}");
    for name in ["x-request-id", "x-correlation-id", "proxy-status"] {
        assert_eq!(reply.all(name).len(), 1, "{name} {reply:?}");
    }
    assert_eq!(reply.field("content-length"), None, "{reply:?}");
}

/// An origin that begins an answer and sends one message of it, and then does what `script` says.
fn streaming(content_type: &'static str, script: impl Fn(&mut crate::harness::Line) + Send + Sync + 'static) -> Origin {
    Origin::answering(move |_, line| {
        line.send(format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"));
        line.send("7\r\n\0\0\0\0\x02\x08\x07\r\n");
        script(line);
    })
}

fn trailer<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.trailers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_refusal_is_trailers_only_with_the_status_of_its_code() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .upstream(&format!("name = \"gone\"\nendpoints = [\"http://{}\"]", dead_address()))
        .route("name = \"orders\"\npath = \"/{*rest}\"\nupstream = \"shop\"\nmethods = [\"POST\"]\nmax_body = \"1 KB\"")
        .route("name = \"gone\"\npath = \"/gone\"\nupstream = \"gone\"")
        .route("name = \"right\"\npath = \"/right\"\nupstream = \"shop\"\nscopes = [\"admin\"]")
        .section("sessions", "max_live_per_client = 2");
    let gate = Gate::administered_with(config);
    let (session, ended) = (gate.open(), gate.open());
    let mut http2 = gate.http2();

    let opening = unary(&session).to("POST", "/session").without("session-id");
    let limit = http2.exchange(&opening);
    assert_refused(&limit, "8", "session-limit");
    let wait: u64 = limit.field("retry-after").and_then(|text| text.parse().ok()).expect("a time");
    assert_eq!(limit.field("grpc-retry-pushback-ms"), Some((wait * 1000).to_string().as_str()));

    gate.revoke(&ended);
    let large = "x".repeat(2000);
    for (call, status, code) in [
        (unary(&session).without("authorization"), "16", "credentials-missing"),
        (unary(&session).set("authorization", "Bearer a.b.c"), "16", "token-invalid"),
        (unary(&session).without("session-id"), "3", "header-missing"),
        (unary(&session).set("client-id", "other"), "7", "client-mismatch"),
        (unary(&session).to("POST", "/right"), "7", "scope-insufficient"),
        (unary(&session).set("session-id", "8f14e45f-ceea-4e7a-9c1b-0a1b2c3d4e5f"), "5", "session-not-found"),
        (unary(&ended), "5", "session-revoked"),
        (unary(&session).to("PUT", "/shop.Orders/Get"), "12", "method-not-allowed"),
        (unary(&session).to("POST", "/a%2Fb"), "3", "request-malformed"),
        (unary(&session).body(large), "8", "request-too-large"),
    ] {
        assert_refused(&http2.exchange(&call), status, code);
    }
    origin.assert_untouched();
    assert_refused(&http2.exchange(&unary(&session).to("POST", "/gone")), "14", "upstream-failed");

    let log = gate.access_log(14);
    assert_eq!((&log[2]["status"], &log[2]["code"]), (&json!(429), &json!("session-limit")), "{}", log[2]);
    assert_eq!((&log[3]["status"], &log[3]["code"]), (&json!(401), &json!("credentials-missing")), "{}", log[3]);
    assert!(gate.metrics().contains("code=\"session-revoked\""), "counted under its code");
}

#[test]
fn the_message_of_a_refusal_names_the_fields_at_fault() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let reply = gate.http2().exchange(&unary(&session).without("client-id").set("session-id", "7"));
    assert_refused(&reply, "3", "header-missing");
    let message = reply.field("grpc-message").expect("a message");
    assert!(message.ends_with(": client-id missing, session-id invalid"), "{message}");
}

#[test]
fn others_are_refused_as_ever() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&unary(&session).without("session-id")).assert_refused("header-missing");
    for other in ["application/json", "application/grpc-web", "application/grpc-web-text+proto", "text/plain"] {
        let call = unary(&session).without("session-id").set("content-type", other);
        gate.http2().exchange(&call).assert_refused("header-missing");
    }
}

#[test]
fn an_answer_of_grpc_passes_untouched() {
    let origin = streaming("application/grpc+proto", |line| line.send("0\r\ngrpc-status: 0\r\n\r\n"));
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let reply = gate.http2().exchange(&unary(&session));
    reply.assert_status(200);
    assert_eq!(reply.body, b"\0\0\0\0\x02\x08\x07");
    assert_eq!(reply.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
    assert_eq!(origin.last().all("te"), ["trailers"]);
}

/// Starts a stream, lets `end` happen to it, and gives what the client got.
#[track_caller]
fn ended(gate: &Gate, session: &Session, end: impl FnOnce()) -> Reply {
    let mut http2: Http2 = gate.http2();
    let pending = http2.start(&unary(session));
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    end();
    let reply = http2.finish(pending);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    reply
}

#[test]
fn a_stream_says_in_its_trailers_why_it_ends() {
    let origin = streaming("application/grpc", crate::harness::Line::hang);
    let gate = Gate::administered(&origin.url());
    let session = gate.open();
    let revoked = ended(&gate, &session, || gate.revoke(&session));
    let short = gate.open_as(&token_with(json!({ "exp": now() + 3 })), crate::harness::CLIENT);
    let expired = ended(&gate, &short, || ());
    for (reply, status, code) in [(revoked, "5", "session-revoked"), (expired, "16", "token-invalid")] {
        reply.assert_status(200);
        assert_eq!(reply.body, b"\0\0\0\0\x02\x08\x07");
        assert_eq!(
            (trailer(&reply, "grpc-status"), trailer(&reply, "x-sg-problem")),
            (Some(status), Some(code)),
            "{reply:?}"
        );
        assert!(trailer(&reply, "grpc-message").is_some(), "{reply:?}");
        assert_eq!(trailer(&reply, "x-request-id"), reply.field("x-request-id"), "{reply:?}");
    }
    eventually("the origin is let go", || origin.open_connections() == 0);
    let log = gate.access_log(4);
    assert!(log[1..].iter().any(|call| call["ended_by"] == "gate"), "{log:?}");
}

#[test]
fn a_stream_whose_upstream_breaks_off_is_unavailable_and_never_ok() {
    let origin = streaming("application/grpc", crate::harness::Line::close);
    let gate = Gate::administered(&origin.url());
    let session = gate.open();
    let reply = ended(&gate, &session, || ());
    reply.assert_status(200);
    assert_eq!(
        (trailer(&reply, "grpc-status"), trailer(&reply, "x-sg-problem")),
        (Some("14"), Some("upstream-failed"))
    );
    assert_eq!(gate.access_log(2)[1]["ended_by"], "upstream");
}

#[test]
fn a_stream_of_anything_else_is_reset() {
    let origin = streaming("text/event-stream", crate::harness::Line::hang);
    let gate = Gate::administered(&origin.url());
    let session = gate.open();
    let reply = ended(&gate, &session, || gate.revoke(&session));
    assert!(!reply.complete && reply.trailers.is_empty(), "{reply:?}");
}

#[test]
fn an_upload_without_an_answer_ends_with_its_session_or_token() {
    let origin = Origin::speaking(|line| line.hang());
    let gate = Gate::administered(&origin.url());
    let session = gate.open();
    let drip = |session: &Session, end: &dyn Fn()| {
        let mut raw = gate.connect();
        let call =
            session.call("POST", "/upload").field("content-type", "text/plain").field("transfer-encoding", "chunked");
        raw.send(call.head());
        let mut writer = raw.writer();
        let dripping = std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(15);
            while Instant::now() < end && std::io::Write::write_all(&mut writer, b"1\r\nx\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        end();
        let reply = raw.reply();
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        drop(raw);
        dripping.join().expect("no panic");
        reply
    };
    drip(&session, &|| gate.revoke(&session)).assert_refused("session-revoked");
    let short = gate.open_as(&token_with(json!({ "exp": now() + 3 })), crate::harness::CLIENT);
    drip(&short, &|| ()).assert_refused_with_status("token-invalid", Some(401));
    eventually("the origin is let go", || origin.open_connections() == 0);
    let log = gate.access_log(4);
    assert!(log.iter().any(|call| call["code"] == "session-revoked" && call["bytes_in"].as_u64() > Some(1)), "{log:?}");
}
