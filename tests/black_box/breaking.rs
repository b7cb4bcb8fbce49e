//! Limits toward upstreams, retries within their budget, and time-outs told apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Config, Deaf, Gate, Origin, Reply, dead_address, eventually};

fn config(origin: &Origin, settings: &str) -> Config {
    at(&origin.url(), settings)
}

fn at(url: &str, settings: &str) -> Config {
    Config::new(url)
        .upstream_setting(settings)
        .section("server", "workers = 1")
        .section("admin", "address = \"127.0.0.1:0\"")
}

#[track_caller]
fn assert_told(reply: &Reply, code: &str, error: &str) {
    reply.assert_refused(code);
    let told = reply.field("proxy-status").unwrap_or_default();
    assert!(told.contains(&format!("error={error};")), "{told}");
}

#[track_caller]
fn assert_counted(gate: &Gate, series: &str) {
    let metrics = gate.metrics();
    assert!(metrics.lines().any(|line| line.contains(series) && !line.ends_with(" 0")), "{series} in {metrics}");
}

#[test]
fn more_running_calls_than_allowed_are_overloaded() {
    let origin =
        Origin::answering(|seen, line| if seen.target == "/slow" { line.hang() } else { line.reply(200, &[], b"ok") });
    let gate = Gate::configured(&config(&origin, "max_requests = 2"));
    let session = gate.open();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut raw = gate.connect();
            raw.send(session.get("/slow").bytes());
            raw
        })
        .collect();
    origin.await_calls(2);
    let reply = gate.send(&session.get("/orders"));
    assert_told(&reply, "overloaded", "connection_limit_reached");
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert_counted(&gate, "sessiongate_upstream_refused_total{upstream=\"shop\",reason=\"requests\"}");
    assert_counted(&gate, "kind=\"overloaded\"");
    drop(held);
    eventually("there is room again", || gate.send(&session.get("/orders")).status == 200);
}

#[test]
fn a_limit_holds_over_a_reload_of_other_settings() {
    let origin =
        Origin::answering(|seen, line| if seen.target == "/slow" { line.hang() } else { line.reply(200, &[], b"ok") });
    let gate = Gate::configured(&config(&origin, "max_requests = 1"));
    let session = gate.open();
    let mut held = gate.connect();
    held.send(session.get("/slow").bytes());
    origin.await_calls(1);
    gate.write_config(&config(&origin, "max_requests = 1\nconnect_timeout = \"3s\""));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration reloaded");
    assert_told(&gate.send(&session.get("/orders")), "overloaded", "connection_limit_reached");
    drop(held);
    eventually("there is room again", || gate.send(&session.get("/orders")).status == 200);
}

#[test]
fn calls_wait_for_a_connection_where_there_are_as_many_as_allowed() {
    let origin = Origin::answering(|_, line| {
        thread::sleep(Duration::from_millis(5));
        line.reply(200, &[], b"ok");
    });
    let many = config(&origin, "max_connections = 2\nconnect_timeout = \"20s\"");
    let gate = Gate::configured(&many);
    let session = gate.open();
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let (address, call) = (gate.address(), session.get("/orders"));
            thread::spawn(move || crate::harness::Raw::connect(address).exchange(&call).status)
        })
        .collect();
    assert!(calls.into_iter().all(|call| call.join().expect("a call") == 200));
    assert!(origin.connections() <= 4, "{}", origin.connections());
    assert!(origin.open_connections() <= 2);
}

#[test]
fn workers_give_idle_connections_to_each_other() {
    let origin = Origin::start();
    let gate = Gate::configured(
        &Config::new(&origin.url())
            .upstream_setting("max_connections = 1\nidle_timeout = \"60s\"\nconnect_timeout = \"10s\"")
            .section("server", "workers = 4"),
    );
    let session = gate.open();
    // Each on a connection of its own, so that all workers get some.
    for _ in 0..60 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    eventually("one is left", || origin.open_connections() == 1);
}

#[test]
fn who_finds_no_connection_in_time_is_told_to_come_back() {
    let origin = Origin::answering(|_, line| line.hang());
    let gate = Gate::configured(&config(&origin, "max_connections = 1\nmax_pending = 1\nconnect_timeout = \"300ms\""));
    let session = gate.open();
    let mut held = gate.connect();
    held.send(session.get("/orders").bytes());
    origin.await_calls(1);
    assert_told(&gate.send(&session.post("/orders", "{}")), "overloaded", "connection_limit_reached");
    assert_counted(&gate, "reason=\"connections\"");
    assert_eq!(origin.calls(), 1);
}

/// An upstream that drops the next call that it is told to.
fn stale(dropping: &Arc<AtomicBool>) -> Origin {
    let dropping = Arc::clone(dropping);
    Origin::answering(move |_, line| {
        if dropping.swap(false, Ordering::SeqCst) {
            line.close();
        } else {
            line.reply(200, &[], b"ok");
        }
    })
}

/// Without a budget, in front of `origin`, where idempotent calls may be repeated.
fn without_budget(origin: &Origin) -> Gate {
    let config = config(origin, "retry_budget = { percent = 0, min_per_second = 0 }");
    let route = "name = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"\nretry = \"idempotent\"";
    Gate::configured(&config.route(route))
}

#[test]
fn retries_end_with_their_budget() {
    let dropping = Arc::default();
    let origin = stale(&dropping);
    let gate = without_budget(&origin);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    dropping.store(true, Ordering::SeqCst);
    gate.send(&session.post("/orders", "").to("PUT", "/orders")).assert_refused("upstream-failed");
    assert_eq!(origin.calls(), 2, "it would have been sent again");
    assert_counted(&gate, "sessiongate_upstream_retry_budget_exhausted_total{upstream=\"shop\"} 1");
}

#[test]
fn a_get_that_met_a_stale_connection_is_repeated_whatever_the_budget() {
    let dropping = Arc::default();
    let origin = stale(&dropping);
    let gate = without_budget(&origin);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    dropping.store(true, Ordering::SeqCst);
    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.calls(), 3);
    assert_counted(&gate, "sessiongate_upstream_retries_total{upstream=\"shop\"} 1");
}

#[test]
fn a_route_can_allow_to_repeat_idempotent_calls() {
    for (method, body, calls) in
        [("PUT", "", 2), ("DELETE", "", 2), ("GET", "", 2), ("POST", "", 1), ("PUT", "{}", 1), ("GET", "{}", 1)]
    {
        let origin = Origin::answering(|_, line| line.close());
        let config = config(&origin, "")
            .route("name = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"\nretry = \"idempotent\"");
        let gate = Gate::configured(&config);
        let session = gate.open();
        gate.send(&session.post("/orders", body).to(method, "/orders")).assert_refused("upstream-failed");
        assert_eq!(origin.calls(), calls, "{method} {body:?}");
    }
}

#[test]
fn an_idempotent_call_whose_body_has_not_begun_can_be_repeated() {
    let first = AtomicBool::new(true);
    let origin = Origin::speaking(move |line| {
        let Some(mut seen) = line.read_head() else { return };
        if first.swap(false, Ordering::SeqCst) {
            return line.close();
        }
        line.read_body(&mut seen);
        line.reply(200, &[], &seen.body);
    });
    let config =
        config(&origin, "").route("name = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"\nretry = \"idempotent\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    let call = session.post("/orders", "hello").to("PUT", "/orders");
    let mut raw = gate.connect();
    raw.send(call.head());
    origin.await_calls(2);
    raw.send("hello");
    assert_eq!(raw.reply_to("PUT").text(), "hello");
}

/// How an upstream fails, and what the client and the operator are told: code, `proxy-status`, label of the metric.
type Failure<'a> = (&'a str, Config, &'a str, &'a str, &'a str);

#[test]
fn each_failure_has_its_own_name() {
    let silent = Origin::answering(|_, line| line.hang());
    let resetting = Origin::answering(|_, line| line.reset());
    let closing = Origin::answering(|_, line| line.close());
    let half = Origin::answering(|_, line| {
        line.send("HTTP/1.1 200 OK\r\nx-half: ");
        line.close();
    });
    let nonsense = Origin::sending("<html>hello</html>");
    let twice = Origin::sending("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx");
    let large = Origin::sending(format!("HTTP/1.1 200 OK\r\nx-large: {}\r\n\r\n", "x".repeat(70_000)));
    let crowded = Origin::sending(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-one: 1\r\n".repeat(300)));
    let deaf = Deaf::new();
    let refusing = at(&format!("http://{}", dead_address()), "");
    let unreachable = at(&deaf.url(), "connect_timeout = \"200ms\"");
    let greeting = Origin::speaking(|line| line.send("220 hello\r\n"));
    let cleartext = at(&greeting.url().replace("http:", "https:"), "");
    let unknown = at("http://nobody.invalid:80", "connect_timeout = \"5s\"");
    let failures: [Failure<'_>; 12] = [
        ("refuses connections", refusing, "upstream-failed", "connection_refused", "connect"),
        ("takes no connection", unreachable, "upstream-timeout", "connection_timeout", "connect_timeout"),
        ("has no address", unknown, "upstream-failed", "dns_error", "dns"),
        ("speaks no TLS", cleartext, "upstream-failed", "tls_protocol_error", "tls"),
        ("resets", config(&resetting, ""), "upstream-failed", "connection_terminated", "closed"),
        ("closes", config(&closing, ""), "upstream-failed", "connection_terminated", "closed"),
        ("closes within the head", config(&half, ""), "upstream-failed", "connection_terminated", "closed"),
        ("speaks no HTTP", config(&nonsense, ""), "upstream-failed", "http_protocol_error", "protocol"),
        ("contradicts itself", config(&twice, ""), "upstream-failed", "http_protocol_error", "protocol"),
        ("says too much", config(&large, ""), "upstream-failed", "http_response_header_section_size", "protocol"),
        ("has many fields", config(&crowded, ""), "upstream-failed", "http_response_header_section_size", "protocol"),
        (
            "is silent",
            config(&silent, "response_timeout = \"200ms\""),
            "upstream-timeout",
            "http_response_timeout",
            "response_timeout",
        ),
    ];
    for (how, config, code, error, kind) in failures {
        let gate = Gate::configured(&config);
        let reply = gate.send(&gate.open().post("/orders", "{}"));
        assert_told(&reply, code, error);
        assert_counted(&gate, &format!("kind=\"{kind}\""));
        gate.await_stderr("upstream call failed");
        let told = gate.stderr();
        let line = told.lines().find(|line| line.contains("upstream call failed")).expect("a line");
        // What lies behind it, where something does.
        assert!(!line.contains(r#""cause":"""#), "an upstream that {how}: {line}");
        assert_eq!(
            line.contains(r#""cause":"#),
            ["connect", "tls"].contains(&kind) || how == "resets",
            "{how}: {line}"
        );
    }

    let gate = Gate::configured(&config(&silent, "total_timeout = \"200ms\""));
    assert_told(&gate.send(&gate.open().get("/")), "upstream-timeout", "http_response_timeout");
    assert_counted(&gate, "kind=\"total_timeout\"");
}

#[test]
fn an_answer_that_breaks_off_is_counted_and_blamed_on_the_upstream() {
    let cut = Origin::answering(|_, line| {
        line.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        line.close();
    });
    let gate = Gate::configured(&config(&cut, ""));
    let reply = gate.send(&gate.open().get("/orders"));
    assert!(reply.status == 200 && !reply.complete && reply.field("proxy-status").is_none(), "{reply:?}");
    assert_counted(&gate, "kind=\"closed\"");
    assert!(gate.access_log(2).iter().any(|call| call["ended_by"] == "upstream"), "{:?}", gate.access_log(2));
}

/// Sends the beginning of a body and then nothing.
fn stalling() -> Origin {
    Origin::answering(|_, line| {
        line.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        line.hang();
    })
}

#[test]
fn a_body_that_stops_is_broken_off() {
    for (setting, kind) in
        [("stall_timeout = \"300ms\"", "stall_timeout"), ("total_timeout = \"300ms\"", "total_timeout")]
    {
        let origin = stalling();
        let gate = Gate::configured(&config(&origin, setting));
        let reply = gate.send(&gate.open().get("/orders"));
        assert!(reply.status == 200 && !reply.complete, "{reply:?}");
        assert_counted(&gate, &format!("kind=\"{kind}\""));
        eventually("the upstream is let go", || origin.open_connections() == 0);
    }
}

#[test]
fn an_answer_that_waits_for_the_rest_of_the_request_does_not_stall() {
    let origin = Origin::speaking(|line| {
        let Some(mut seen) = line.read_head() else { return };
        line.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        line.read_body(&mut seen);
        line.send("half");
    });
    let gate = Gate::configured(&config(&origin, "stall_timeout = \"200ms\""));
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.post("/orders", "hello").head());
    origin.await_calls(1);
    thread::sleep(Duration::from_millis(1500));
    raw.send("hello");
    assert_eq!(raw.reply().text(), "halfhalf");
}

#[test]
fn an_event_stream_may_be_silent_where_its_route_says_so() {
    let origin = Origin::answering(|_, line| {
        line.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 8\r\n\r\nhalf");
        thread::sleep(Duration::from_millis(1500));
        line.send("half");
    });
    let config = config(&origin, "stall_timeout = \"200ms\"")
        .route("name = \"events\"\npath = \"/events\"\nupstream = \"shop\"\nstall_timeout = \"off\"")
        .catch_all();
    let gate = Gate::configured(&config);
    let session = gate.open();
    assert_eq!(gate.send(&session.get("/events")).text(), "halfhalf");
    assert!(!gate.send(&session.get("/orders")).complete);
}
