//! Clients that never pause, and hardly move: what they hold has an end, too.

use std::time::{Duration, Instant};

use crate::harness::frames::{SETTINGS, WINDOW_UPDATE};
use crate::harness::{Config, Frames, Gate, Origin, PATIENCE, eventually};

#[test]
fn an_upload_that_drips_is_408_although_it_never_pauses() {
    let origin = Origin::start();
    let config = Config::new(&origin.url()).lenient().section("limits", "body_rate = \"1KiB\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.call("POST", "/orders").field("content-length", "100000").head());
    let mut writer = raw.writer();
    let dripping = std::thread::spawn(move || {
        use std::io::Write;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && writer.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    raw.reply().assert_refused("request-timeout");
    drop(raw);
    dripping.join().expect("no panic");
    assert!(origin.seen().iter().all(|seen| !seen.complete), "it never looks whole");
    // One that is fast enough may take its time in all.
    gate.send(&session.post("/orders", &"x".repeat(100_000))).assert_status(200);
}

#[test]
fn an_upload_that_drips_over_http2_is_408_and_the_connection_goes_on() {
    let origin = Origin::start();
    let config = Config::new(&origin.url()).lenient().section("limits", "body_rate = \"1KiB\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    let mut frames = Frames::connect(gate.address());
    frames.headers(1, &session.http2(&bearer, "POST"), false);
    let mut writer = frames.writer();
    let dripping = std::thread::spawn(move || {
        let begun = Instant::now();
        let mut drops = 0;
        while begun.elapsed() < Duration::from_secs(8) && writer.try_send(0, 0, 1, b"x").is_ok() {
            drops += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        drops
    });
    assert!(frames.find(|frame| frame.stream == 1).is_some(), "an answer while it drips");
    assert!(dripping.join().expect("no panic") > 0);
    let log = gate.access_log(2);
    assert!(log.iter().any(|call| call["code"] == "request-timeout" && call["status"] == 408), "{log:?}");
    assert!(origin.seen().iter().all(|seen| !seen.complete), "it never looks whole");
    frames.headers(3, &session.http2(&bearer, "GET"), true);
    assert!(frames.find(|frame| frame.ends(3)).is_some(), "the connection serves others");
}

#[test]
fn a_client_of_http2_that_drips_its_window_loses_its_stream_and_holds_little() {
    const SIZE: usize = 64 * 1024 * 1024;
    let origin = Origin::answering(|seen, line| {
        if seen.method == "POST" {
            line.reply(200, &[], b"served");
            return;
        }
        line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
        let chunk = vec![b'x'; 1024 * 1024];
        let sent = (0..SIZE / chunk.len()).take_while(|_| line.try_send(&chunk).is_ok()).count();
        assert!(sent * chunk.len() < SIZE, "all was taken for a client that takes nothing");
        line.close();
    });
    let config = Config::new(&origin.url()).lenient().section("limits", "write_timeout = \"1s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    gate.send(&session.post("/orders", "{}")).assert_status(200);
    let before = gate.resident();
    let bearer = format!("Bearer {}", session.token);
    let mut frames = Frames::connect(gate.address());
    // Streams begin with a window of nothing (RFC 9113 section 6.5.2).
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let streams = [1, 3, 5, 7, 9, 11, 13, 15];
    for stream in streams {
        frames.headers(stream, &session.http2(&bearer, "GET"), true);
    }
    let mut writer = frames.writer();
    let dripping = std::thread::spawn(move || {
        let begun = Instant::now();
        let mut drip =
            || streams.iter().all(|stream| writer.try_send(WINDOW_UPDATE, 0, *stream, &[0, 0, 0, 1]).is_ok());
        while begun.elapsed() < PATIENCE / 2 && drip() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut left = streams.to_vec();
    while !left.is_empty() {
        let frame = frames.next().expect("each stream is reset before the connection ends");
        left.retain(|stream| !frame.resets(*stream));
        assert!(!streams.iter().any(|stream| frame.ends(*stream)), "what was cut never looks whole");
    }
    let grown = gate.resident().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes for those who take nothing");
    drop(frames);
    dripping.join().expect("no panic");
    eventually("the upstream is let go", || origin.open_connections() <= 1);
    gate.send(&session.post("/orders", "{}")).assert_status(200);
}
