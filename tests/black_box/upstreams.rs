//! Upstreams that fail, and what may be tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Config, Deaf, Gate, Origin, Reply, Setup, dead_address, eventually, quickest};

/// What is waited without a setting, less what a busy machine may add.
const DEFAULT_LIMIT: Duration = Duration::from_secs(20);

/// What a refusal must not tell about the inside.
#[track_caller]
fn assert_discreet(reply: &Reply, address: &str) {
    let shown = format!("{:?} {}", reply.fields, reply.text());
    let port = address.rsplit(':').next().unwrap_or_default();
    for word in [address, port, "127.0.0.1", "hyper", "tokio", "os error", "Connection refused", "IncompleteMessage"] {
        assert!(!shown.to_lowercase().contains(&word.to_lowercase()), "{word:?} in {shown}");
    }
}

/// One worker, so that all calls share one pool.
fn one_worker(origin: &Origin) -> Gate {
    Setup::file_less(&origin.url()).args(&["--workers", "1"]).start()
}

#[test]
fn an_upstream_that_is_down_is_told_at_once() {
    let dead = dead_address();
    let gate = Gate::file_less(&format!("http://{dead}"));
    let session = gate.open();
    for call in [session.get("/orders"), session.post("/orders", "{}")] {
        let took = quickest(|| {
            let reply = gate.send(&call);
            // Refused is 502.
            reply.assert_refused("upstream-failed");
            assert_discreet(&reply, &dead.to_string());
        });
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    let head = gate.send(&session.call("HEAD", "/orders"));
    head.assert_head_refused("upstream-failed", 502);
}

#[test]
fn nonsense_from_an_upstream_is_502() {
    for nonsense in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        b"<html>hello</html>",
    ] {
        let origin = Origin::answering(move |_, line| {
            line.send(nonsense);
            line.close();
        });
        let gate = Gate::file_less(&origin.url());
        let session = gate.open();
        let mut raw = gate.connect();
        let reply = raw.exchange(&session.post("/orders", "{}"));
        reply.assert_refused("upstream-failed");
        assert_discreet(&reply, &origin.address().to_string());
        assert_eq!(origin.calls(), 1, "a POST is sent once: {nonsense:?}");
        raw.assert_in_step();
    }
}

#[test]
fn a_reset_is_502_and_a_post_is_not_repeated() {
    let origin = Origin::answering(|_, line| line.reset());
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let reply = gate.send(&session.post("/orders", "{}"));
    reply.assert_refused("upstream-failed");
    assert_discreet(&reply, &origin.address().to_string());
    assert_eq!(origin.calls(), 1);
}

#[test]
fn a_silent_upstream_is_504_at_the_limit() {
    let origin = Origin::answering(|_, line| line.hang());
    let config = Config::new(&origin.url())
        .upstream_setting("response_timeout = \"1s\"")
        .route("name = \"slow\"\npath = \"/slow\"\nresponse_timeout = \"2s\"\nupstream = \"shop\"")
        .catch_all();
    let gate = Gate::configured(&config);
    let session = gate.open();
    for (target, at_least) in [("/orders", 1000), ("/slow", 2000)] {
        let begun = Instant::now();
        let reply = gate.send(&session.post(target, "{}"));
        let took = begun.elapsed();
        reply.assert_refused("upstream-timeout");
        assert_discreet(&reply, &origin.address().to_string());
        assert!(took >= Duration::from_millis(at_least - 50), "{target}: {took:?}");
        assert!(took < DEFAULT_LIMIT, "{target}: {took:?}");
    }
    assert_eq!(origin.calls(), 2);
    eventually("the silent connections are given up", || origin.open_connections() == 0);
}

#[test]
fn an_upstream_that_accepts_no_connection_is_504() {
    let deaf = Deaf::new();
    let config = Config::new(&deaf.url()).upstream_setting("connect_timeout = \"1s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let begun = Instant::now();
    gate.send(&session.post("/orders", "{}")).assert_refused("upstream-timeout");
    assert!(begun.elapsed() < DEFAULT_LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn connections_to_an_upstream_are_kept_and_used_again() {
    let origin = Origin::start();
    let gate = one_worker(&origin);
    let session = gate.open();
    for _ in 0..20 {
        gate.send(&session.get("/orders")).assert_status(200);
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    assert_eq!((origin.calls(), origin.connections()), (40, 1));
}

#[test]
fn an_upstream_that_says_close_is_believed() {
    let origin = Origin::answering(|_, line| {
        line.reply(200, &[("connection", "close")], b"ok");
        line.close();
    });
    let gate = one_worker(&origin);
    let session = gate.open();
    let mut raw = gate.connect();
    for _ in 0..5 {
        raw.exchange(&session.post("/orders", "{}")).assert_status(200);
    }
    assert_eq!((origin.calls(), origin.connections()), (5, 5));
}

/// An origin that answers the first call on each connection and dies on the second, as if the connection had gone
/// stale just then.
fn stale_after_one() -> Origin {
    Origin::speaking(|line| {
        if line.read_request().is_none() {
            return;
        }
        line.reply(200, &[], b"ok");
        line.read_request();
        line.close();
    })
}

#[test]
fn a_bodyless_get_on_a_connection_that_went_stale_is_sent_once_more() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let origin = stale_after_one();
        let gate = one_worker(&origin);
        let session = gate.open();
        gate.send(&session.get("/first")).assert_status(200);

        gate.send(&session.call(method, "/second")).assert_status(200);

        let seen: Vec<_> = origin.seen().into_iter().map(|seen| (seen.connection, seen.target)).collect();
        assert_eq!(seen, [(1, "/first".into()), (1, "/second".into()), (2, "/second".into())], "{method}");
    }
}

#[test]
fn a_get_is_not_sent_a_third_time() {
    let first = AtomicBool::new(true);
    let origin = Origin::answering(move |_, line| {
        if first.swap(false, Ordering::SeqCst) {
            line.reply(200, &[], b"ok");
        } else {
            line.close();
        }
    });
    let gate = one_worker(&origin);
    let session = gate.open();
    gate.send(&session.get("/first")).assert_status(200);
    gate.send(&session.get("/second")).assert_refused("upstream-failed");
    assert_eq!(origin.calls(), 3);
}

#[test]
fn a_fresh_connection_that_dies_is_not_tried_again() {
    let origin = Origin::answering(|_, line| line.close());
    let gate = one_worker(&origin);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_refused("upstream-failed");
    assert_eq!(origin.calls(), 1);
}

#[test]
fn a_post_is_never_sent_twice() {
    for (method, body) in [("POST", "{}"), ("PATCH", "{}"), ("POST", ""), ("PUT", "{}"), ("DELETE", "")] {
        let origin = stale_after_one();
        let gate = one_worker(&origin);
        let session = gate.open();
        gate.send(&session.get("/first")).assert_status(200);

        let call = session.post("/second", body).to(method, "/second");
        gate.send(&call).assert_refused("upstream-failed");
        let sent = origin.seen().iter().filter(|seen| seen.target == "/second").count();
        assert_eq!(sent, 1, "{method} {body:?}");
    }
}

#[test]
fn a_get_with_a_body_is_not_sent_again() {
    let origin = stale_after_one();
    let gate = one_worker(&origin);
    let session = gate.open();
    gate.send(&session.get("/first")).assert_status(200);
    gate.send(&session.get("/second").body("hello")).assert_refused("upstream-failed");
    assert_eq!(origin.calls(), 2);
}

#[test]
fn a_get_whose_answer_had_begun_is_not_sent_again() {
    let origin = Origin::speaking(|line| {
        if line.read_request().is_none() {
            return;
        }
        line.reply(200, &[], b"ok");
        line.read_request();
        line.send("HTTP/1.1 200 O");
        line.close();
    });
    let gate = one_worker(&origin);
    let session = gate.open();
    gate.send(&session.get("/first")).assert_status(200);
    gate.send(&session.get("/second")).assert_refused("upstream-failed");
    assert_eq!(origin.calls(), 2);
}

#[test]
fn a_connection_that_the_upstream_closed_is_never_used_for_a_post() {
    // It closes right after the answer: the gate knows before the next call, and nothing was written.
    let origin = Origin::answering(|_, line| {
        line.reply(200, &[], b"ok");
        line.close();
    });
    let gate = one_worker(&origin);
    let session = gate.open();
    for _ in 0..20 {
        eventually("the origin has closed", || origin.open_connections() == 0);
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    assert_eq!(origin.calls(), 20);
}

#[test]
fn a_broken_answer_leaves_nothing_for_the_next_call() {
    let turn = Arc::new(AtomicUsize::new(0));
    let turns = Arc::clone(&turn);
    let origin = Origin::answering(move |seen, line| match turns.fetch_add(1, Ordering::SeqCst) % 4 {
        0 => line.reply(200, &[], seen.target.as_bytes()),
        1 => {
            line.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
            line.close();
        }
        2 => line.reply(200, &[], seen.target.as_bytes()),
        _ => {
            line.send("garbage\r\n\r\n");
            line.close();
        }
    });
    let gate = one_worker(&origin);
    let session = gate.open();
    for number in 0..12 {
        let target = format!("/{number}");
        let reply = gate.send(&session.post(&target, "{}"));
        match number % 2 {
            0 => assert_eq!(reply.text(), target),
            _ => assert!(reply.status == 502 || !reply.complete, "{reply:?}"),
        }
    }
    assert_eq!(turn.load(Ordering::SeqCst), 12);
}

#[test]
fn calls_are_spread_over_endpoints() {
    let (first, second) = (Origin::start(), Origin::start());
    let config = Config::default().upstream(&format!(
        "name = \"shop\"\nendpoints = [\"{}\", \"{}\"]\n",
        first.url(),
        second.url()
    ));
    let gate = Gate::configured(&config);
    let session = gate.open();
    for _ in 0..20 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert!(first.calls() > 0 && second.calls() > 0, "{} and {}", first.calls(), second.calls());
}

#[test]
fn the_host_that_an_upstream_sees_is_a_setting() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).upstream_setting("host = \"endpoint\""));
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.last().all("host"), [origin.address().to_string().as_str()]);
}

#[test]
fn an_upstream_that_comes_back_is_served_within_a_second() {
    let down = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&down);
    let origin = Origin::speaking(move |line| {
        while !switch.load(Ordering::SeqCst) {
            if line.read_request().is_none() {
                return;
            }
            line.reply(200, &[], b"ok");
        }
        line.reset();
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let recoveries = (0..3).map(|_| {
        down.store(true, Ordering::SeqCst);
        eventually("it is down", || matches!(gate.send(&session.get("/orders")).status, 502 | 503));
        down.store(false, Ordering::SeqCst);
        let begun = Instant::now();
        eventually("it serves again", || gate.send(&session.get("/orders")).status == 200);
        begun.elapsed()
    });
    let quickest = recoveries.min().expect("there are tries");
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}
