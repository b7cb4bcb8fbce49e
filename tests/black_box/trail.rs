//! The trail: a session can be followed call by call, by its owner, by the operator and in files, and nothing that
//! writes it ever holds up a call.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{CLIENT, Call, Config, Gate, Origin, Session, Setup, eventually, token_with};

/// A gate with an operator and a trail.
fn traced(origin: &Origin, trail: &str) -> Gate {
    Gate::operated(config(origin, trail))
}

fn config(origin: &Origin, trail: &str) -> Config {
    let routes = Config::new(&origin.url())
        .lenient()
        .section("logs", "access = \"off\"")
        .route("name = \"orders\"\npath = \"/orders/{*rest}\"\nupstream = \"shop\"")
        .route("name = \"offers\"\npath = \"/offers\"\nupstream = \"shop\"");
    if trail == "off" { routes } else { routes.section("trail", trail) }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

/// All records in the files of a folder, in the order of their names.
fn written(folder: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "ndjson"));
    files.sort();
    // The last line may be about to be written.
    let whole = |text: String| text.rsplit_once('\n').map_or(Vec::new(), |(whole, _)| lines(whole));
    files.iter().flat_map(|path| whole(std::fs::read_to_string(path).expect("a file"))).collect()
}

fn trail(gate: &Gate, session: &str, query: &str) -> crate::harness::Reply {
    gate.operate(&Call::new("GET", &format!("/sessions/{session}/trail{query}")))
}

/// The calls that the operator sees, once there are so many: a call is recorded when its last byte has left.
fn calls(gate: &Gate, session: &Session, count: usize) -> Vec<Value> {
    let seen = || {
        let reply = trail(gate, &session.id, "?format=ndjson");
        if reply.status == 200 { lines(&reply.text()) } else { Vec::new() }
    };
    eventually(&format!("{count} calls in the trail"), || seen().len() >= count);
    seen()
}

fn told(calls: &[Value]) -> Vec<(String, String, u64)> {
    let text = |call: &Value, key: &str| call[key].as_str().unwrap_or_default().to_owned();
    calls.iter().map(|call| (text(call, "route"), text(call, "code"), call["status"].as_u64().unwrap_or(0))).collect()
}

fn row(route: &str, code: &str, status: u64) -> (String, String, u64) {
    (route.into(), code.into(), status)
}

#[test]
fn the_operator_follows_a_session_call_by_call() {
    let origin = Origin::start();
    let gate = traced(&origin, "");
    let (session, other) = (gate.open(), gate.open());
    gate.send(&session.get("/offers?customer=7")).assert_status(200);
    let reply = gate.send(&session.post("/orders/7", "{\"n\":1}"));
    gate.send(&other.get("/offers")).assert_status(200);
    gate.send(&session.get("/nowhere")).assert_refused("route-unknown");
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    gate.send(&session.get("/offers")).assert_refused("session-closed");

    let seen = calls(&gate, &session, 5);
    assert_eq!(
        told(&seen),
        [
            row("session", "ok", 201),
            row("offers", "ok", 200),
            row("orders", "ok", 200),
            row("session", "ok", 204),
            row("offers", "session-closed", 404)
        ],
        "its own calls, and no call that was not proven to be"
    );
    let order = &seen[2];
    assert_eq!(order["request_id"], reply.field("x-request-id").unwrap_or_default());
    for (key, value) in [
        ("trail", json!(1)),
        ("number", json!(3)),
        ("correlation_id", json!("corr-7")),
        ("client", json!(CLIENT)),
        ("method", json!("POST")),
        ("path", json!("/orders/7")),
        ("scope", json!("listerine.all")),
        (
            "headers",
            json!(["authorization", "client-id", "session-id", "correlation-id", "content-type", "accept", "host"]),
        ),
        ("protocol", json!("http/1")),
        ("upstream", json!("shop")),
        ("verdict", json!("admitted")),
        ("ended_by", json!("gate")),
        ("bytes_in", json!(7)),
        ("bytes_out", json!(11)),
    ] {
        assert_eq!(order[key], value, "{key} in {order}");
    }
    let span = |key: &str| order[key].as_u64().unwrap_or_else(|| panic!("{key} in {order}"));
    assert!(span("admission_us") <= span("first_byte_us") && span("first_byte_us") <= span("total_us"), "{order}");
    assert_eq!((&seen[1]["query"], &seen[4]["verdict"]), (&json!(true), &json!("refused")));
    let text = trail(&gate, &session.id, "").text();
    for secret in ["customer=7", session.id.as_str(), session.token.as_str()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }

    let whole: Value = serde_json::from_str(&text).expect("JSON");
    let key = whole["session"].as_str().expect("a key");
    assert_eq!((whole["calls"].as_array().map(Vec::len), &whole["forgotten"]), (Some(5), &json!(0)));
    trail(&gate, key, "?format=csv").assert_status(200);
}

#[test]
fn the_operator_chooses_the_form() {
    let origin = Origin::start();
    let gate = traced(&origin, "");
    let session = gate.open();
    gate.send(&session.get("/offers").set("x-correlation-id", "=cmd")).assert_status(200);
    calls(&gate, &session, 2);
    let path = format!("/sessions/{}/trail", session.id);
    for (accept, form) in [
        ("*/*", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/html, text/csv;q=0.5", "text/csv; charset=utf-8; header=present"),
    ] {
        let reply = gate.operate(&Call::new("GET", &path).field("accept", accept));
        reply.assert_status(200);
        assert_eq!(reply.field("content-type"), Some(form), "{accept}");
    }
    let table = trail(&gate, &session.id, "?format=csv").text();
    let columns = |line: &str| line.matches(',').count();
    let rows: Vec<_> = table.lines().collect();
    assert_eq!((rows.len(), columns(rows[1])), (3, columns(rows[0])), "{table}");
    assert!(!table.contains(",=cmd"), "a spreadsheet would run it: {table}");

    trail(&gate, &session.id, "?format=xml").assert_status(400);
    trail(&gate, "nobody", "").assert_status(400);
    trail(&gate, "758fc320-af96-4faf-8af7-536e7cac5775", "").assert_status(404);
    gate.operate(&Call::new("POST", &path)).assert_status(405);
    gate.admin(&Call::new("GET", &path)).assert_status(401);
}

#[test]
fn the_owner_sees_a_summary() {
    let origin = Origin::start();
    let gate = traced(&origin, "");
    let session = gate.open();
    gate.send(&session.get("/offers")).assert_status(200);
    gate.send(&session.get("/offers")).assert_status(200);
    calls(&gate, &session, 3);
    let state = gate.send(&session.get("/session")).json();
    let summary = &state["trail"];
    assert_eq!((&summary["calls"], &summary["refused"], &summary["forgotten"]), (&json!(3), &json!(0), &json!(0)));
    let routes = summary["routes"].as_array().expect("routes");
    assert_eq!((&routes[0]["route"], &routes[1]["route"]), (&json!("session"), &json!("offers")));
    assert_eq!((&routes[1]["calls"], &routes[1]["last_status"]), (&json!(2), &json!(200)));
    assert_eq!(summary["last_at"], routes[1]["last_at"]);
}

#[test]
fn without_a_trail_nothing_is_kept() {
    let origin = Origin::start();
    let gate = traced(&origin, "off");
    let session = gate.open();
    gate.send(&session.get("/offers")).assert_status(200);
    assert!(gate.send(&session.get("/session")).json().get("trail").is_none());
    trail(&gate, &session.id, "").assert_status(404);
    assert!(!gate.metrics().contains("sessiongate_trail"), "what is not there is not measured");
}

#[test]
fn a_reload_begins_and_ends_a_trail() {
    let origin = Origin::start();
    let gate = traced(&origin, "off");
    let session = gate.open();
    gate.send(&session.get("/offers")).assert_status(200);
    gate.write_config(&Gate::with_operator(config(&origin, "calls_per_session = 2")));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration reloaded");
    for _ in 0..3 {
        gate.send(&session.get("/offers")).assert_status(200);
    }
    let numbers = |calls: &[Value]| calls.iter().map(|call| call["number"].as_u64().unwrap_or(0)).collect::<Vec<_>>();
    eventually("the last two calls", || numbers(&calls(&gate, &session, 2)) == [2, 3]);
    let whole = trail(&gate, &session.id, "").json();
    assert_eq!(whole["forgotten"], 1);

    gate.write_config(&Gate::with_operator(config(&origin, "off")));
    gate.signal(Signal::HUP);
    eventually("a second reload", || gate.metrics().contains("sessiongate_config_generation 3"));
    trail(&gate, &session.id, "").assert_status(404);
}

#[test]
fn files_hold_every_call_and_no_secret() {
    let origin = Origin::start();
    // Records of one worker are in the order in which calls ended.
    let config = config(&origin, "files = { folder = \"{dir}/trail\" }").section("server", "workers = 1");
    let mut gate = Gate::operated(config);
    let session = gate.open_as(&token_with(json!({ "sub": "ada@shop.example" })), CLIENT);
    gate.send(&session.get("/offers?customer=7")).assert_status(200);
    gate.send(&session.get("/offers").without("session-id")).assert_refused("header-missing");
    gate.send_raw("BROKEN\r\n\r\n").assert_refused("request-malformed");
    gate.signal(Signal::TERM);
    assert_eq!(gate.exit_code(), Some(0));

    let records = written(&gate.path("trail"));
    assert_eq!(
        told(&records),
        [
            row("session", "ok", 201),
            row("offers", "ok", 200),
            row("offers", "header-missing", 400),
            row("-", "request-malformed", 400)
        ]
    );
    assert!(records[2].get("session").is_none(), "{}", records[2]);
    let subject = records[0]["subject"].as_str().expect("a digest");
    assert!(subject.len() == 32 && records[1]["subject"] == subject, "{records:#?}");
    let text = format!("{records:?}");
    for secret in ["ada@shop", "customer=7", session.id.as_str(), session.token.as_str()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn standard_output_gets_one_object_per_call() {
    let origin = Origin::start();
    let config = config(&origin, "stdout = true\nsubject = \"off\"").section("server", "workers = 1");
    let gate = Gate::operated(config);
    let session = gate.open();
    gate.send(&session.get("/offers")).assert_status(200);
    let records = gate.access_log(2);
    assert_eq!(told(&records), [row("session", "ok", 201), row("offers", "ok", 200)]);
    assert!(records[0].get("subject").is_none());
}

#[test]
fn a_full_disk_stops_the_trail_and_not_the_traffic() {
    let origin = Origin::start();
    let setup = Setup::operated(config(&origin, "files = { folder = \"{dir}/trail\" }"));
    let folder = setup.dir().join("trail");
    std::fs::create_dir(&folder).expect("a folder");
    // A real disk that is too small, seen by the gate alone.
    let gate = setup.on_small_disk(&folder, 64).start();
    let session = gate.open();
    // Its own view of the disk.
    let inside =
        Path::new("/proc").join(gate.pid().to_string()).join("root").join(folder.strip_prefix("/").expect("/"));
    eventually("a record on the disk", || !written(&inside).is_empty());
    let failing = || gate.metrics().contains("sessiongate_trail_writable{sink=\"files\"} 0");
    eventually("a full disk", || {
        for _ in 0..50 {
            gate.send(&session.get("/offers")).assert_status(200);
        }
        failing()
    });
    gate.await_stderr("the trail cannot be written");
    gate.send(&session.get("/offers")).assert_status(200);
    assert!(count(&gate, "sessiongate_trail_dropped_total{sink=\"files\"}") > 0);
    assert!(calls(&gate, &session, 50).len() >= 50, "memory goes on");

    // Room is made, and writing goes on with whole lines.
    let before = written(&inside).len();
    std::fs::remove_file(inside.join("filler")).expect("the filler");
    eventually("it is written again", || {
        gate.send(&session.get("/offers")).assert_status(200);
        !failing() && written(&inside).len() > before
    });
}

fn count(gate: &Gate, series: &str) -> u64 {
    let metrics = gate.metrics();
    let line = metrics.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series} in {metrics}"));
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_device_without_room_stops_the_trail_and_not_the_traffic() {
    let origin = Origin::start();
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let gate = Setup::operated(config(&origin, "stdout = true")).stdout(full).start();
    let session = gate.open();
    gate.send(&session.get("/offers")).assert_status(200);
    eventually("records are dropped", || count(&gate, "sessiongate_trail_dropped_total{sink=\"stdout\"}") >= 2);
    assert_eq!(count(&gate, "sessiongate_trail_written_total{sink=\"stdout\"}"), 0);
    assert!(count(&gate, "sessiongate_trail_write_failures_total{sink=\"stdout\"}") >= 1);
    assert_eq!(count(&gate, "sessiongate_trail_writable{sink=\"stdout\"}"), 0);
    gate.send(&session.get("/offers")).assert_status(200);
}

#[test]
fn a_reader_that_does_not_read_costs_records_and_no_time() {
    let origin = Origin::start();
    let setup = Setup::operated(config(&origin, "stdout = true\nqueue = \"1MiB\""));
    let (reader, pipe) = std::io::pipe().expect("a pipe");
    let mut gate = setup.stdout(pipe).start();
    let session = gate.open();
    let mut connection = gate.connect();
    let long = format!("/orders/{}", "x".repeat(900));
    eventually("records are dropped", || {
        for _ in 0..500 {
            connection.exchange(&session.get(&long)).assert_status(200);
        }
        count(&gate, "sessiongate_trail_dropped_total{sink=\"stdout\"}") > 0
    });
    let begun = Instant::now();
    gate.signal(Signal::TERM);
    drop(connection);
    assert_eq!(gate.exit_code(), Some(0), "nor does it keep the gate from ending");
    assert!(begun.elapsed().as_secs() < 15);
    drop(reader);
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_at_the_start() {
    let origin = Origin::start();
    let setup = Setup::operated(config(&origin, "files = { folder = \"/proc/trail\" }"));
    let ended = setup.run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("the trail cannot be written to /proc/trail"), "{}", ended.stderr);
}

#[test]
fn a_reload_does_not_mix_the_trail_into_the_access_log() {
    let origin = Origin::start();
    let with_log = |trail: &str, access: &str| {
        let config = Config::new(&origin.url()).lenient().section("logs", &format!("access = \"{access}\""));
        Gate::with_operator(config.section("trail", trail))
    };
    let gate = Gate::operated(Config::new(&origin.url()).lenient().section("logs", "access = \"stdout\""));
    gate.write_config(&with_log("stdout = true", "off"));
    gate.signal(Signal::HUP);
    gate.await_stderr("until a restart, the access log does");
    gate.write_config(&with_log("stdout = false", "off"));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration reloaded");
}

#[test]
fn a_reload_that_cannot_write_is_refused_whole() {
    let origin = Origin::start();
    let gate = traced(&origin, "");
    let session = gate.open();
    gate.write_config(&Gate::with_operator(config(&origin, "files = { folder = \"/proc/trail\" }")));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration refused");
    gate.send(&session.get("/offers")).assert_status(200);
    assert_eq!(calls(&gate, &session, 2).len(), 2);
}

#[test]
fn steps_are_told_with_what_became_of_them() {
    let origin = Origin::start();
    let flow = "name = \"buying\"\nsteps = [{ name = \"look\", routes = [\"offers\"] }, \
                { name = \"buy\", routes = [\"orders\"], after = [\"look\"] }]";
    let config = config(&origin, "").flow(flow);
    let gate = Gate::operated(config);
    let session = gate.open();
    gate.send(&session.post("/orders/7", "{}")).assert_refused("step-not-allowed");
    gate.send(&session.post("/offers", "{}")).assert_status(200);
    gate.send(&session.post("/orders/7", "{}")).assert_status(200);
    let told: Vec<_> = calls(&gate, &session, 4)
        .iter()
        .map(|call| {
            ["flow", "step", "step_before", "step_after", "step_outcome"]
                .map(|key| call[key].as_str().unwrap_or("").to_owned())
        })
        .collect();
    assert_eq!(told[0], ["buying", "", "", "", ""].map(String::from));
    assert_eq!(told[1][..2], ["buying", "buy"].map(String::from));
    assert_eq!(told[2], ["buying", "look", "", "look", "committed"].map(String::from));
    assert_eq!(told[3], ["buying", "buy", "look", "buy", "committed"].map(String::from));
    assert!(calls(&gate, &session, 4)[1]["step_rule"].is_string());
}
