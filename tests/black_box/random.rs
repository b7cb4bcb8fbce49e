//! Random heads through the real gate: every answer is well formed or the connection closed, the gate lives, and the
//! origin sees nothing without the whole proof.

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner};

use crate::harness::{CLIENT, Gate, Origin, Session, scale};

/// A piece of a head: from plausible to hostile.
fn line(session: &Session) -> impl Strategy<Value = Vec<u8>> + use<> {
    let known = [
        format!("authorization: Bearer {}", session.token),
        format!("client-id: {CLIENT}"),
        format!("session-id: {}", session.id),
        "authorization: Bearer x".to_owned(),
        "authorization: Basic x".to_owned(),
        "client-id: other".to_owned(),
        "session-id: 758fc320-af96-4faf-8af7-536e7cac5775".to_owned(),
        "host: other.test".to_owned(),
        "connection: close".to_owned(),
        "connection: session-id".to_owned(),
        "content-length: 5".to_owned(),
        "content-length: 0".to_owned(),
        "transfer-encoding: chunked".to_owned(),
        "transfer-encoding: gzip".to_owned(),
        "expect: 100-continue".to_owned(),
        "upgrade: websocket".to_owned(),
        "te: trailers".to_owned(),
        "x-correlation-id: c".to_owned(),
        "accept: text/html".to_owned(),
        "x-forwarded-for: 1.1.1.1".to_owned(),
        "via: 1.1 x".to_owned(),
        " folded".to_owned(),
        "no colon".to_owned(),
    ];
    prop_oneof![
        8 => proptest::sample::select(known.to_vec()).prop_map(String::into_bytes),
        2 => ("[a-zA-Z-]{1,20}", "[ -~]{0,40}").prop_map(|(name, value)| format!("{name}: {value}").into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn request(session: &Session) -> impl Strategy<Value = Vec<u8>> + use<> {
    let method =
        prop_oneof![6 => "GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH", 1 => "TRACE|CONNECT|PURGE", 1 => "[ -~]{0,8}"];
    let target = prop_oneof![
        4 => "/[a-z/]{0,12}",
        2 => "/session",
        2 => "/[ -~]{0,20}",
        1 => "(/|\\.|%2e|%2f|session|\\\\|%|#|\\?){0,8}",
        1 => "[^\r\n]{0,12}",
    ];
    let version = prop_oneof![12 => "HTTP/1\\.1", 1 => "HTTP/1\\.0", 1 => "[ -~]{0,8}"];
    let proof =
        format!("authorization: Bearer {}\r\nclient-id: {CLIENT}\r\nsession-id: {}\r\n", session.token, session.id);
    let lines = proptest::collection::vec(line(session), 0..8);
    let body = prop_oneof![4 => Just(Vec::new()), 1 => Just(b"hello".to_vec()), 1 => proptest::collection::vec(any::<u8>(), 0..60)];
    (method, target, version, any::<bool>(), lines, body).prop_map(
        move |(method, target, version, proven, lines, body)| {
            let mut bytes = format!("{method} {target} {version}\r\nhost: shop.test\r\n").into_bytes();
            if proven {
                bytes.extend_from_slice(proof.as_bytes());
            }
            for line in lines {
                bytes.extend_from_slice(&line);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&body);
            bytes
        },
    )
}

#[test]
fn random_heads_get_a_well_formed_answer_or_a_closed_connection() {
    let origin = Origin::start();
    let mut gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let cases = Cases { cases: 500 * scale(), failure_persistence: None, ..Cases::default() };
    let mut runner = TestRunner::new_with_rng(cases, TestRng::deterministic_rng(RngAlgorithm::ChaCha));

    let outcome = runner.run(&request(&session), |bytes| {
        let mut raw = gate.connect();
        let _ = raw.try_send(&bytes);
        // Whatever the gate still waits for will not come.
        raw.finish();
        let method = if bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        while let Some(reply) = raw.next_to(method) {
            prop_assert!((200..600).contains(&reply.status), "{:?}", reply);
            if reply.status >= 400 && method != "HEAD" {
                let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
                reply.assert_refused(&code);
            }
            if !reply.complete || bytes.starts_with(b"HEAD ") {
                break;
            }
        }
        Ok(())
    });

    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(gate.is_alive());
    let bearer = format!("Bearer {}", session.token);
    for seen in origin.seen() {
        assert_eq!(seen.all("authorization"), [bearer.as_str()], "{seen:?}");
        assert_eq!(seen.all("client-id"), [CLIENT], "{seen:?}");
        assert_eq!(seen.all("session-id"), [session.id.as_str()], "{seen:?}");
        assert!(seen.target.starts_with('/') && !seen.target.contains("/../"), "{seen:?}");
    }
    assert!(origin.calls() > 0, "some of them were good calls");
    // The DELETEs among them may have closed the session: a fresh one shows that the gate still serves.
    let fresh = gate.open();
    gate.send(&fresh.get("/orders")).assert_status(200);
}
