//! HTTP/2 used as a weapon: whatever is sent without end, the connection ends, memory stays, and others are served.

use std::time::Instant;

use crate::harness::frames::{CONTINUATION, DATA, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::harness::{Config, Frames, Gate, Origin, PATIENCE, Session};

/// More than the gate takes without a call, in bytes.
const ENOUGH: usize = 24 * 1024 * 1024;

fn gate(origin: &Origin) -> (Gate, Session) {
    let config = Config::new(&origin.url()).lenient().section("admin", "address = \"127.0.0.1:0\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    (gate, session)
}

/// Sends until the gate has enough, which must come before our end.
#[track_caller]
fn flood(gate: &Gate, session: &Session, what: &str, mut send: impl FnMut(&mut Frames, u32) -> std::io::Result<usize>) {
    let before = gate.resident();
    let begun = Instant::now();
    let mut frames = Frames::connect(gate.address());
    frames.discard_answers();
    let (mut sent, mut number) = (0, 0);
    while let Ok(bytes) = send(&mut frames, number) {
        sent += bytes;
        number += 1;
        assert!(sent < ENOUGH && begun.elapsed() < PATIENCE * 3, "{what}: {sent} bytes and it goes on");
        if number == 100 {
            gate.send(&session.get("/session")).assert_status(200);
        }
    }
    gate.send(&session.get("/session")).assert_status(200);
    let grown = gate.resident().saturating_sub(before);
    assert!(grown < 48 * 1024 * 1024, "{what}: {grown} bytes more");
}

/// Frames that mean nothing, 64 at a time.
fn many(frames: &mut Frames, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<usize> {
    (0..64).map(|_| frames.try_send(kind, flags, stream, payload).map(|()| 9 + payload.len())).sum()
}

#[test]
fn frames_without_calls_end_the_connection() {
    let origin = Origin::start();
    let (gate, session) = gate(&origin);
    for (what, kind, stream, payload) in [
        ("PING", PING, 0, &[7; 8][..]),
        ("SETTINGS", SETTINGS, 0, &[]),
        ("SETTINGS with content", SETTINGS, 0, &[0, 3, 0, 0, 0, 9]),
        ("PRIORITY", PRIORITY, 1, &[0, 0, 0, 0, 9]),
        ("unknown frames", 0xbe, 0, &[1; 1000]),
    ] {
        flood(&gate, &session, what, |frames, _| many(frames, kind, 0, stream, payload));
    }
    let metrics = gate.metrics();
    assert!(metrics.contains("sessiongate_connections_refused_total{reason=\"http2-flood\"}"), "{metrics}");
    assert!(!metrics.contains("sessiongate_connections_refused_total{reason=\"http2-flood\"} 0"), "{metrics}");
}

#[test]
fn frames_within_a_call_that_does_not_move_end_the_connection() {
    let origin = Origin::answering(|_, line| line.hang());
    let (gate, session) = gate(&origin);
    let bearer = format!("Bearer {}", session.token);
    let upload = session.http2(&bearer, "POST");
    let download = session.http2(&bearer, "GET");
    flood(&gate, &session, "empty DATA", |frames, number| {
        if number == 0 {
            frames.headers(1, &upload, false);
        }
        many(frames, DATA, 0, 1, &[])
    });
    flood(&gate, &session, "WINDOW_UPDATE", |frames, number| {
        if number == 0 {
            frames.headers(1, &download, true);
        }
        many(frames, WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())
    });
}

#[test]
fn resets_of_either_side_end_the_connection() {
    let origin = Origin::answering(|_, line| line.hang());
    let (gate, session) = gate(&origin);
    let bearer = format!("Bearer {}", session.token);
    let head = session.http2(&bearer, "GET");
    flood(&gate, &session, "rapid reset", |frames, number| {
        frames.headers(number * 2 + 1, &head, true);
        frames.try_send(RST_STREAM, 0, number * 2 + 1, &8u32.to_be_bytes()).map(|()| 300)
    });
    // The gate is made to reset them (CVE-2025-8671).
    flood(&gate, &session, "made you reset", |frames, number| {
        frames.headers(number * 2 + 1, &head, true);
        frames.try_send(WINDOW_UPDATE, 0, number * 2 + 1, &0u32.to_be_bytes()).map(|()| 300)
    });
    assert!(gate.metrics().contains("sessiongate_connections_refused_total{reason=\"http2-abuse\"}"));
}

#[test]
fn a_head_without_end_ends_the_connection() {
    let origin = Origin::start();
    let (gate, session) = gate(&origin);
    flood(&gate, &session, "CONTINUATION", |frames, number| {
        if number == 0 {
            // `:method: GET` from the static table, and no end.
            return frames.try_send(HEADERS, 1, 1, &[0x82]).map(|()| 10);
        }
        // A literal field that is not indexed.
        let field = [&[0, 4][..], b"x-no", &[100], &[b'a'; 100]].concat();
        frames.try_send(CONTINUATION, 0, 1, &field.repeat(100)).map(|()| 10_600)
    });
    origin.assert_untouched();
}

#[test]
fn a_head_that_unpacks_to_much_is_refused_and_takes_no_memory() {
    let origin = Origin::start();
    let (gate, session) = gate(&origin);
    let before = gate.resident();
    // One cookie of 3 KiB in the table, then one byte for each further crumb (CVE-2026-49975).
    for _ in 0..20 {
        let mut frames = Frames::connect(gate.address());
        let mut block = vec![0x82, 0x86, 0x84, 0x41, 9];
        block.extend_from_slice(b"shop.test");
        block.extend_from_slice(&[0x40 | 32]);
        block.extend_from_slice(&[0x7f, 0x81, 0x17]);
        block.extend_from_slice(&[b'c'; 3072]);
        block.extend_from_slice(&[0x80 | 62; 8000]);
        frames.send(HEADERS, 5, 1, &block);
        let answer = frames.find(|frame| frame.resets(1) || frame.ends(1) || frame.goaway().is_some());
        assert!(answer.is_some(), "closed without a word");
    }
    origin.assert_untouched();
    let grown = gate.resident().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes more");
    gate.send(&session.get("/orders")).assert_status(200);
}
