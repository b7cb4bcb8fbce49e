//! The access log: one line per call, refused and admitted alike, and no secret in it. That no output of any gate in
//! any test holds a secret is checked when the harness ends the gate.

use serde_json::Value;

use crate::harness::{CLIENT, Call, Config, Gate, Origin, Session, Setup, eventually};

#[test]
fn every_call_has_one_line_whatever_became_of_it() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&session.get("/orders/7?secret=query")).assert_status(200);
    gate.send(&session.get("/orders").without("session-id")).assert_refused("header-missing");
    gate.send(&session.get("/orders").set("authorization", "Bearer junk-token")).assert_refused("token-invalid");
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    gate.send(&session.get("/orders")).assert_refused("session-closed");
    gate.send_raw("BROKEN\r\n\r\n").assert_refused("request-malformed");

    let lines = gate.access_log(7);
    assert_eq!(lines.len(), 7, "{lines:#?}");
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["status"].as_u64().unwrap_or(0), line["code"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        told,
        [
            (201, "ok"),
            (200, "ok"),
            (400, "header-missing"),
            (401, "token-invalid"),
            (204, "ok"),
            (404, "session-closed"),
            (400, "request-malformed")
        ]
    );
    let text = gate.stdout();
    for word in ["junk-token", "secret=query", "/orders/7", &session.id, &session.token] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

#[test]
fn a_line_has_the_facts_of_its_call() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let reply = gate.send(&session.post("/orders", "{\"n\":1}"));
    reply.assert_status(200);

    let lines = gate.access_log(2);
    let (opened, called) = (&lines[0], &lines[1]);
    assert_eq!(called["request_id"], reply.field("x-request-id").unwrap_or_default());
    assert_eq!(called["correlation_id"], "corr-7");
    assert_eq!((&called["client"], &called["method"]), (&Value::from(CLIENT), &Value::from("POST")));
    assert!(called["session"].as_str().is_some_and(|key| key.len() == 32), "{called}");
    assert_eq!(called["session"], opened["session"], "all calls of a transaction share their session's key");
    assert!(called["route"].is_string() && called["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{called}");
    assert_eq!((called["bytes_in"].as_u64(), called["bytes_out"].as_u64()), (Some(7), Some(11)), "{called}");
    for name in ["admission_us", "first_byte_us", "total_us"] {
        assert!(called[name].as_u64().is_some(), "{name} in {called}");
    }
}

#[test]
fn refused_calls_have_the_same_fields_as_admitted_ones() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    gate.send(&session.get("/orders")).assert_refused("session-closed");

    let lines = gate.access_log(4);
    let refused = lines.last().expect("a line");
    for name in
        ["time", "request_id", "correlation_id", "method", "route", "client", "session", "code", "status", "total_us"]
    {
        assert!(!refused[name].is_null() && !lines[1][name].is_null(), "{name} in {refused} and {}", lines[1]);
    }
    assert_eq!(refused["session"], lines[1]["session"]);
}

#[test]
fn a_log_line_cannot_be_forged() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    for target in ["/x%0a{\"status\":200}", "/x?a=\"},{\"b\":\"", "/\u{e9}\\"] {
        gate.send(&session.get(target));
    }
    gate.send(&session.get("/orders").set("x-correlation-id", "\",\"status\":200,\"x\":\""));
    let lines = gate.access_log(5);
    assert_eq!(lines.len(), 5);
}

#[test]
fn the_log_can_be_off_or_go_to_a_file() {
    let origin = Origin::start();
    let config =
        |access: &str| Config::new(&origin.url()).section("logs", &format!("access = \"{access}\"\nformat = \"json\""));
    let off = Gate::configured(&config("off"));
    let session = off.open();
    off.send(&session.get("/orders")).assert_status(200);

    let file = Gate::configured(&config("{dir}/access.log"));
    let session = file.open();
    file.send(&session.get("/orders")).assert_status(200);
    let read = || std::fs::read_to_string(file.path("access.log")).unwrap_or_default();
    eventually("two lines in the file", || read().lines().count() == 2);
    assert!(!read().contains(&session.id) && !read().contains(&session.token), "{}", read());
    assert_eq!((file.stdout(), off.stdout()), (String::new(), String::new()));
}

#[test]
fn session_ids_are_shown_only_where_the_operator_asked_for_them() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("logs", "access = \"{dir}/access.log\"\nformat = \"json\"\nsession_id = \"clear\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    let read = || std::fs::read_to_string(gate.path("access.log")).unwrap_or_default();
    eventually("the id in the file", || read().contains(&session.id));
    assert!(!read().contains(&session.token));
}

#[test]
fn a_reader_that_stalls_does_not_hold_up_calls() {
    // The harness reads standard output; a FIFO that nobody reads does not.
    let origin = Origin::start();
    let config = Config::new(&origin.url()).section("logs", "access = \"{dir}/log.fifo\"\nformat = \"json\"");
    let setup = Setup::configured(&config);
    let fifo = setup.dir().join("log.fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("both ends");
    let gate = setup.start();
    let session = gate.open();
    let mut raw = gate.connect();
    for _ in 0..500 {
        raw.exchange(&session.get("/orders")).assert_status(200);
    }
    drop(reader);
}

#[test]
fn an_upstream_that_fails_and_one_that_is_silent_read_differently() {
    let origin = Origin::answering(|seen, line| if seen.target == "/silent" { line.hang() } else { line.close() });
    let config = Config::new(&origin.url())
        .section("logs", "access = \"stdout\"\nformat = \"json\"")
        .upstream_setting("response_timeout = \"1s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    gate.send(&session.post("/broken", "{}")).assert_refused("upstream-failed");
    gate.send(&session.post("/silent", "{}")).assert_refused("upstream-timeout");
    let codes: Vec<_> = gate.access_log(3).iter().map(|line| line["code"].clone()).collect();
    assert_eq!(codes, ["ok", "upstream-failed", "upstream-timeout"]);
}

#[test]
fn a_client_that_left_is_recorded_as_the_one_who_ended_the_call() {
    let origin = Origin::answering(|_, line| line.hang());
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.get("/orders").bytes());
    origin.await_calls(1);
    drop(raw);
    let lines = gate.access_log(2);
    assert_eq!(lines[1]["ended_by"], "client", "{}", lines[1]);
}

#[test]
fn a_call_without_a_session_has_a_line_without_one() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    gate.send(&Call::new("GET", "/orders")).assert_refused("credentials-missing");
    gate.send(&Session::opening("junk", CLIENT)).assert_refused("token-invalid");
    for line in gate.access_log(2) {
        assert!(line.get("session").is_none_or(Value::is_null), "{line}");
        assert!(line["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{line}");
    }
}
