//! Sizes and times: everything a peer can make the gate keep or wait for has an end.

use std::time::{Duration, Instant};

use crate::harness::{Call, Config, Frames, Gate, Origin, PATIENCE, Session, Setup, eventually, scale};

#[test]
fn a_head_that_is_too_large_is_431() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    let mut many = session.get("/orders");
    for number in 0..110 {
        many = many.field(&format!("x-field-{number}"), "1");
    }
    let large = session.get("/orders").field("x-large", &"a".repeat(33 * 1024));
    for call in [many, large] {
        let mut raw = gate.connect();
        let reply = raw.exchange(&call);
        assert_eq!(reply.status, 431, "{}", reply.text());
        reply.assert_refused("request-too-large");
        raw.assert_closed();
    }
    origin.assert_untouched();
    gate.send(&session.get("/orders").field("x-large", &"a".repeat(20 * 1024))).assert_status(200);
}

#[test]
fn a_hundred_fields_are_not_too_many() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut call = session.get("/orders");
    for number in call.fields.len()..100 {
        call = call.field(&format!("x-field-{number}"), "1");
    }
    gate.send(&call).assert_status(200);
    assert_eq!(origin.last().field("x-field-99"), Some("1"));
}

#[test]
fn a_target_that_is_too_long_is_414() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for target in [format!("/{}", "a".repeat(8 * 1024)), format!("/?{}", "a".repeat(9 * 1024))] {
        let reply = gate.send(&session.get(&target));
        assert_eq!(reply.status, 414, "{}", reply.text());
        reply.assert_refused("request-too-large");
    }
    origin.assert_untouched();
    gate.send(&session.get(&format!("/{}", "a".repeat(8 * 1024 - 1)))).assert_status(200);
}

#[test]
fn a_body_that_is_too_large_is_413() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .lenient()
        .route("name = \"small\"\npath = \"/small\"\nmax_body = \"1KiB\"\nupstream = \"shop\"")
        .catch_all();
    let gate = Gate::configured(&config);
    let session = gate.open();

    let exact = "x".repeat(1024);
    gate.send(&session.post("/small", &exact)).assert_status(200);
    assert_eq!(origin.last().body.len(), 1024);
    let before = origin.calls();

    let announced = session.post("/small", "").set("content-length", "1025");
    let reply = gate.send(&announced);
    assert_eq!(reply.status, 413, "{}", reply.text());
    reply.assert_refused("request-too-large");
    assert_eq!(origin.calls(), before, "a length that is announced is refused before anything is sent");

    let mut raw = gate.connect();
    raw.send(session.call("POST", "/small").field("transfer-encoding", "chunked").head());
    for _ in 0..20 {
        let _ = raw.try_send(format!("64\r\n{}\r\n", "x".repeat(100)));
    }
    let _ = raw.try_send("0\r\n\r\n");
    let reply = raw.reply();
    assert_eq!(reply.status, 413, "{}", reply.text());
    reply.assert_refused("request-too-large");
    assert!(origin.seen().iter().skip(before).all(|seen| !seen.complete), "the origin never saw a whole one");
    raw.assert_in_step_or_closed();
}

#[test]
fn a_head_that_does_not_come_is_408_or_a_closed_connection() {
    let origin = Origin::start();
    let config = Config::new(&origin.url()).section("limits", "head_timeout = \"1s\"\nidle_timeout = \"2s\"");
    let gate = Gate::configured(&config);

    let begun = Instant::now();
    let mut half = gate.connect();
    half.send("GET /orders HTTP/1.1\r\nhost: sh");
    half.reply().assert_refused("request-timeout");
    half.assert_closed();
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());

    let mut silent = gate.connect();
    silent.assert_closed();
    let mut preface = gate.connect();
    preface.send("PRI * HTTP/2.0\r\n");
    while preface.read_at_least(1).len() > 1 {}
    assert!(begun.elapsed() < PATIENCE);
    origin.assert_untouched();
}

#[test]
fn a_head_that_drips_ends_in_time() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("limits", "head_timeout = \"1s\""));
    let mut raw = gate.connect();
    let begun = Instant::now();
    raw.send("GET / HTTP/1.1\r\nhost: shop.test\r\nx-drip: ");
    while raw.try_send("a").is_ok() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "a drop now and then buys no time: {:?}", begun.elapsed());
    origin.assert_untouched();
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("limits", "idle_timeout = \"1s\""));
    let session = gate.open();
    let mut raw = gate.connect();
    raw.exchange(&session.get("/orders")).assert_status(200);
    raw.assert_closed();
}

#[test]
fn a_head_timeout_counts_from_the_first_byte_of_the_next_head() {
    let origin = Origin::start();
    let config = Config::new(&origin.url()).section("limits", "head_timeout = \"1s\"\nidle_timeout = \"30s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.exchange(&session.get("/orders")).assert_status(200);
    // Longer than the head time-out: idling between calls is another matter.
    std::thread::sleep(Duration::from_millis(1500));
    raw.exchange(&session.get("/orders")).assert_status(200);
    raw.send("GET /half");
    raw.reply().assert_refused("request-timeout");
    raw.assert_closed();
}

#[test]
fn a_body_that_stalls_is_408_and_never_looks_whole_to_the_origin() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("limits", "body_timeout = \"1s\""));
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.post("/orders", "").set("content-length", "10").head());
    raw.send("half");
    raw.reply().assert_refused("request-timeout");
    raw.assert_closed();
    eventually("the upstream call is given up", || origin.open_connections() == 0);
    assert!(origin.seen().iter().all(|seen| !seen.complete), "{:?}", origin.seen());
}

#[test]
fn a_body_that_stalls_is_not_blamed_on_the_upstream() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .upstream_setting("response_timeout = \"500ms\"")
        .section("limits", "body_timeout = \"2s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.post("/orders", "").set("content-length", "10").head());
    raw.send("half");
    raw.reply().assert_refused("request-timeout");
    raw.assert_closed();

    // One that only paused is served.
    let mut raw = gate.connect();
    raw.send(session.post("/orders", "").set("content-length", "10").head());
    raw.send("half");
    std::thread::sleep(Duration::from_millis(1200));
    raw.send(" whole");
    raw.reply().assert_status(200);
}

#[test]
fn a_client_that_stops_reading_holds_nothing_for_ever() {
    let origin = Origin::answering(|_, line| {
        line.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while line.try_send(chunk.as_bytes()).is_ok() {}
        line.close();
    });
    let gate = Gate::configured(&Config::new(&origin.url()).section("limits", "write_timeout = \"1s\""));
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.get("/orders").bytes());
    origin.await_calls(1);
    eventually("the gate gives up on the reader", || origin.open_connections() == 0);
    drop(raw);
}

#[test]
fn memory_stays_bounded_while_a_large_answer_waits_for_its_reader() {
    let origin = Origin::answering(|_, line| {
        let size = 100 * 1024 * 1024;
        line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"));
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..100 {
            if line.try_send(&chunk).is_err() {
                break;
            }
        }
    });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    let before = gate.resident();
    raw.send(session.get("/orders").bytes());
    raw.next_head().expect("the head");
    let mut read = 0;
    let mut most = 0;
    while read < 100 * 1024 * 1024 {
        let bytes = raw.read_at_least(1).len();
        assert!(bytes > 0, "cut at {read}");
        read += bytes;
        most = most.max(gate.resident());
    }
    assert!(most.saturating_sub(before) < 64 * 1024 * 1024, "{before} to {most} bytes");
}

#[test]
fn memory_stays_bounded_while_an_upload_waits_for_an_upstream_that_does_not_read() {
    let origin = Origin::speaking(|line| {
        line.read_head();
        // Reads nothing more, and ends when the gate does.
        std::thread::park();
    });
    let config = Config::new(&origin.url()).section("limits", "body = \"unlimited\"\nbody_timeout = \"60s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let mut raw = gate.connect();
    let before = gate.resident();
    raw.send(session.post("/orders", "").set("content-length", "1000000000").head());
    origin.await_calls(1);
    raw.stop_waiting_after(Duration::from_millis(500));
    let chunk = vec![b'x'; 1024 * 1024];
    let taken = (0..1000).take_while(|_| raw.try_send(&chunk).is_ok()).count();
    assert!(taken < 64, "{taken} MiB went somewhere");
    let grown = gate.resident().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes");
}

#[test]
fn a_gate_without_descriptors_neither_dies_nor_spins_and_recovers() {
    let origin = Origin::start();
    let mut gate = Setup::file_less(&origin.url()).with_descriptors(64).start();
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    let crowd: Vec<_> = (0..100).map(|_| gate.connect()).collect();
    eventually("the descriptors are used up", || descriptors(&gate) >= 60);
    let (begun, before) = (Instant::now(), processor_time(&gate));
    std::thread::sleep(Duration::from_secs(1));
    let used = (processor_time(&gate) - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(used < 0.2, "{used} of a processor for accepting nothing");
    assert!(gate.is_alive());
    drop(crowd);
    let served = |gate: &Gate| {
        let mut raw = gate.connect();
        raw.try_send(session.get("/orders").bytes()).is_ok()
            && raw.next_to("GET").is_some_and(|reply| reply.status == 200)
    };
    eventually("it serves again", || served(&gate));
}

#[test]
fn a_call_for_which_no_descriptor_is_left_is_503_and_not_the_upstreams_fault() {
    let origin = Origin::start();
    let gate = Setup::file_less(&origin.url()).with_descriptors(64).with_admin().start();
    let session = gate.open();
    let mut good = gate.connect();
    // Over this one nothing has gone to the upstream yet.
    good.exchange(&session.get("/session")).assert_status(200);
    let crowd: Vec<_> = (0..100).map(|_| gate.connect()).collect();
    let mut refused = || {
        let reply = good.exchange(&session.post("/orders", "{}"));
        if reply.status == 200 {
            return false;
        }
        reply.assert_refused("upstream-unavailable");
        assert!(reply.field("proxy-status").is_some_and(|told| told.contains("connection_limit_reached")), "{reply:?}");
        true
    };
    eventually("the descriptors are used up", &mut refused);
    drop(crowd);
    eventually("it serves again", || good.exchange(&session.post("/orders", "{}")).status == 200);
    let metrics = gate.metrics();
    let counted = |line: &str| line.contains("kind=\"exhausted\"") && !line.ends_with(" 0");
    assert!(metrics.lines().any(counted), "{metrics}");
}

#[test]
fn memory_and_descriptors_come_back_after_connections_without_calls() {
    let origin =
        Origin::answering(|seen, line| if seen.target == "/hang" { line.hang() } else { line.reply(200, &[], b"") });
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    let before = descriptors(&gate);

    let mut idle: Vec<_> = (0..200).map(|_| gate.connect()).collect();
    for raw in &mut idle {
        raw.exchange(&Call::new("GET", "/")).assert_refused("credentials-missing");
    }
    drop(idle);
    for _ in 0..200 {
        drop(gate.connect());
    }
    for _ in 0..50 {
        let mut raw = gate.connect();
        raw.send(&session.get("/orders").bytes()[..40]);
    }
    let aborted: Vec<_> = (0..50)
        .map(|_| {
            let mut raw = gate.connect();
            raw.send(session.get("/hang").bytes());
            raw
        })
        .collect();
    origin.await_calls(51);
    drop(aborted);
    eventually("the descriptors come back", || descriptors(&gate) <= before + 10);
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn more_connections_than_allowed_wait_and_are_served_later() {
    let origin = Origin::start();
    // The kernel spreads connections over workers, each of which has its part of the limit: one worker, all of it.
    let config = Config::new(&origin.url()).section("server", "workers = 1").section("limits", "max_connections = 4");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let mut held: Vec<_> = (0..4).map(|_| connected(&gate, &session)).collect();
    let mut fifth = gate.connect();
    fifth.send(session.get("/fifth").bytes());
    for raw in &mut held {
        raw.exchange(&session.get("/held")).assert_status(200);
    }
    assert!(origin.seen().iter().all(|seen| seen.target != "/fifth"), "there was no room for it");
    held.pop();
    fifth.reply().assert_status(200);
}

#[test]
fn a_connection_carries_so_many_calls_and_says_that_it_ends() {
    let origin = Origin::start();
    let config = Config::new(&origin.url()).lenient().section("limits", "requests_per_connection = 3");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let mut raw = gate.connect();
    for last in [false, false, true] {
        let reply = raw.exchange(&session.get("/orders"));
        reply.assert_status(200);
        assert_eq!(reply.field("connection") == Some("close"), last);
    }
    raw.assert_closed();

    let bearer = format!("Bearer {}", session.token);
    let head = session.http2(&bearer, "GET");
    let mut frames = Frames::connect(gate.address());
    for stream in [1, 3, 5] {
        frames.headers(stream, &head, true);
    }
    let (mut answered, mut told) = (0, false);
    while let Some(frame) = frames.next() {
        answered += usize::from([1, 3, 5].iter().any(|stream| frame.ends(*stream)));
        told |= frame.goaway().is_some();
    }
    assert_eq!((answered, told), (3, true));
}

#[test]
fn an_idle_connection_costs_little() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    // An allocator keeps what a crowd needed while it was busy, so what counts is what more of them cost when those before
    // have gone to sleep and given back their buffers.
    let more = 500 * scale() as usize;
    let mut held: Vec<_> = (0..more).map(|_| connected(&gate, &session)).collect();
    eventually("one more idle connection costs little", || {
        let before = gate.resident();
        held.extend((0..more).map(|_| connected(&gate, &session)));
        gate.resident().saturating_sub(before) / (more as u64) <= 16 * 1024
    });
    assert!(held.len() >= 1000);
}

#[test]
fn a_crowd_that_is_half_silent_keeps_nobody_from_being_served() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut good = connected(&gate, &session);
    let before = descriptors(&gate);
    let mut crowd = Vec::new();
    for number in 0..(1000 * scale()) {
        let mut raw = gate.connect();
        if number % 2 == 0 {
            raw.send(b"GET /half HTTP/1.1\r\nhost: sh");
        }
        crowd.push(raw);
        if number % 50 == 0 {
            good.exchange(&session.get("/orders")).assert_status(200);
            gate.send(&session.get("/orders")).assert_status(200);
        }
    }
    drop(crowd);
    for _ in 0..2000 {
        drop(gate.connect());
    }
    eventually("the descriptors come back", || descriptors(&gate) <= before + 10);
    good.exchange(&session.get("/orders")).assert_status(200);
}

fn connected(gate: &Gate, session: &Session) -> crate::harness::Raw {
    let mut raw = gate.connect();
    raw.exchange(&session.get("/orders")).assert_status(200);
    raw
}

/// Processor time used so far.
fn processor_time(gate: &Gate) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.pid())).expect("the gate runs on Linux");
    let (_, numbers) = stat.rsplit_once(')').expect("the name is in brackets");
    let ticks = numbers.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum::<u64>();
    // The kernel shows hundredths of a second.
    Duration::from_millis(ticks * 10)
}

fn descriptors(gate: &Gate) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).expect("the gate runs on Linux").count()
}
