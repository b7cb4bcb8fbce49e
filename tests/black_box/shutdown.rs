//! The end of a gate: drained, in time, with exit code 0.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{CLIENT, Call, Config, Frames, Gate, Origin, Raw, Session, Setup, eventually, token};

/// An origin whose answers wait until the test lets them go.
fn held_back() -> (Origin, mpsc::Sender<()>) {
    let (release, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::answering(move |_, line| {
        let _ = wait.lock().expect("the channel").recv();
        line.reply(200, &[], b"late");
    });
    (origin, release)
}

#[test]
fn an_idle_gate_ends_at_once_with_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let origin = Origin::start();
        let mut gate = Gate::file_less(&origin.url());
        let session = gate.open();
        let mut idle = gate.connect();
        idle.exchange(&session.get("/orders")).assert_status(200);
        let begun = Instant::now();
        gate.signal(signal);
        idle.assert_closed();
        assert_eq!(gate.exit_code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_call_in_flight_finishes_and_new_work_is_refused() {
    let (origin, release) = held_back();
    let mut gate = Setup::file_less(&origin.url()).with_admin().start();
    let session = gate.open();
    let mut busy = gate.connect();
    let mut other = gate.connect();
    busy.send(session.get("/orders").bytes());
    origin.await_calls(1);
    let address = gate.address();

    gate.signal(Signal::TERM);
    // The port no longer accepts; what was accepted before is still served or closed.
    eventually("the port closes", || std::net::TcpStream::connect(address).is_err());
    let _ = other.try_send(Session::opening(&token(), CLIENT).bytes());
    if let Some(reply) = other.next_to("POST") {
        reply.assert_refused("draining");
    }
    assert!(gate.is_alive());
    // The operator watches to the end.
    gate.admin(&Call::new("GET", "/readyz")).assert_status(503);
    assert!(gate.metrics().contains("sessiongate_draining 1"));
    release.send(()).expect("the origin waits");
    let reply = busy.reply();
    reply.assert_status(200);
    assert_eq!((reply.text().as_str(), reply.field("connection")), ("late", Some("close")));
    busy.assert_closed();
    assert_eq!(gate.exit_code(), Some(0));
}

#[test]
fn readiness_goes_first_while_the_gate_still_accepts() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("server", "drain = { delay = \"2s\", deadline = \"10s\" }")
        .section("admin", "address = \"127.0.0.1:0\"");
    let mut gate = Gate::configured(&config);
    let session = gate.open();
    gate.signal(Signal::TERM);
    eventually("readiness is off", || gate.admin(&crate::harness::Call::new("GET", "/readyz")).status == 503);
    gate.admin(&crate::harness::Call::new("GET", "/livez")).assert_status(200);
    gate.send(&session.get("/orders")).assert_status(200);
    gate.send(&Session::opening(&token(), CLIENT)).assert_refused("draining");
    assert_eq!(gate.exit_code(), Some(0));
}

#[test]
fn a_call_that_never_ends_is_cut_at_the_deadline() {
    let origin = Origin::answering(|_, line| line.hang());
    let config = Config::new(&origin.url()).section("server", "drain = { deadline = \"1s\" }");
    let mut gate = Gate::configured(&config);
    let session = gate.open();
    let mut busy = gate.connect();
    busy.send(session.get("/orders").bytes());
    origin.await_calls(1);
    let mut half = gate.connect();
    half.send("GET /orders HTTP/1.1\r\nhost: sh");
    let begun = Instant::now();
    gate.signal(Signal::TERM);
    assert_eq!(gate.exit_code(), Some(0));
    assert!((900..15_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::answering(|_, line| line.hang());
    let mut gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut busy = gate.connect();
    busy.send(session.get("/orders").bytes());
    origin.await_calls(1);
    let address = gate.address();
    gate.signal(Signal::TERM);
    eventually("it drains", || std::net::TcpStream::connect(address).is_err());
    assert!(gate.is_alive());
    let begun = Instant::now();
    gate.signal(Signal::TERM);
    gate.exit_code();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_drain_over_http2_says_goaway_twice_and_lets_streams_finish() {
    let (origin, release) = held_back();
    let mut gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    let mut busy = Frames::connect(gate.address());
    let mut idle = Frames::connect(gate.address());
    let head = session.http2(&bearer, "GET");
    busy.headers(1, &head, true);
    origin.await_calls(1);

    gate.signal(Signal::TERM);
    let first = busy.find(|frame| frame.goaway().is_some()).expect("a first GOAWAY");
    assert_eq!(first.goaway(), Some(0x7fff_ffff));
    assert!(idle.find(|frame| frame.goaway().is_some()).is_some());
    let second = busy.find(|frame| frame.goaway().is_some()).expect("a second GOAWAY");
    assert_eq!(second.goaway(), Some(1));
    release.send(()).expect("the origin waits");
    assert!(busy.find(|frame| frame.ends(1)).is_some(), "the stream completes");
    assert!(busy.next().is_none(), "and then the connection ends");
    assert_eq!(gate.exit_code(), Some(0));
}

#[test]
fn the_access_log_is_flushed_before_the_end() {
    let origin = Origin::start();
    let mut gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    for _ in 0..100 {
        raw.exchange(&session.get("/orders")).assert_status(200);
    }
    gate.signal(Signal::TERM);
    assert_eq!(gate.exit_code(), Some(0));
    assert_eq!(gate.access_log(101).len(), 101);
}

#[test]
fn a_stopped_process_that_goes_on_serves_within_a_second() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.exchange(&session.get("/orders")).assert_status(200);
    let recoveries = (0..3).map(|_| {
        gate.signal(Signal::STOP);
        // How long it is stopped is what this is about.
        thread::sleep(Duration::from_millis(700));
        gate.signal(Signal::CONT);
        let begun = Instant::now();
        gate.send(&session.get("/orders")).assert_status(200);
        begun.elapsed()
    });
    let quickest = recoveries.min().expect("there are tries");
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

#[test]
fn a_gate_that_was_killed_starts_again_without_its_sessions() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.signal(Signal::KILL);
    drop(gate);
    let again = Gate::file_less(&origin.url());
    again.send(&session.get("/orders")).assert_refused("session-not-found");
    let mut raw = Raw::connect(again.address());
    raw.exchange(&again.open().get("/orders")).assert_status(200);
}
