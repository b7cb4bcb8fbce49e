//! The registry of clients: who may call, with which scopes, with how many live sessions.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Session, Setup, binary, eventually, finish, token, token_with,
};

/// A registry with one entry per line: an id, and more keys if there are any.
fn registry(entries: &[(&str, &str)]) -> String {
    entries.iter().map(|(id, more)| format!("[[client]]\nid = \"{id}\"\n{more}\n\n")).collect()
}

fn config(origin: &Origin) -> Config {
    Config::new(&origin.url()).section("clients", "path = \"clients.toml\"")
}

/// A gate with this registry, and an operator.
#[track_caller]
fn gate(config: Config, entries: &[(&str, &str)]) -> Gate {
    let setup = Setup::administered(config);
    setup.write("clients.toml", registry(entries));
    setup.start()
}

/// Puts another registry in the place of the one that is there, as editors do.
fn replace(gate: &Gate, entries: &[(&str, &str)]) {
    gate.write("clients.toml.new", registry(entries));
    std::fs::rename(gate.path("clients.toml.new"), gate.path("clients.toml")).expect("it is replaced");
}

fn open(client: &str) -> Call {
    Session::opening(&token_with(json!({ "client_id": client })), client)
}

#[track_caller]
fn shown(gate: &Gate, path: &str) -> Value {
    let reply = gate.operate(&Call::new("GET", path));
    reply.assert_status(200);
    reply.json()
}

#[track_caller]
fn metric(gate: &Gate, name: &str) -> f64 {
    let metrics = gate.metrics();
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {metrics}"))
}

#[test]
fn only_clients_of_the_registry_may_call() {
    let origin = Origin::start();
    let gate = gate(config(&origin), &[(CLIENT, ""), ("disabled", "enabled = false")]);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);

    for client in ["disabled", OTHER_CLIENT] {
        let refused = gate.send(&open(client));
        refused.assert_refused("client-not-allowed");
        assert_eq!(refused.field("www-authenticate"), None, "no other token would help");
        let call =
            Session { token: token_with(json!({"client_id": client})), client: client.into(), ..session.clone() };
        gate.send(&call.get("/orders")).assert_refused("client-not-allowed");
        gate.send(&call.call("DELETE", "/session")).assert_refused("client-not-allowed");
    }
    // Who is not even the client that it says it is learns nothing about the registry.
    let other = open("disabled").set("client-id", CLIENT);
    gate.send(&other).assert_refused("client-mismatch");
    assert_eq!(origin.calls(), 1);
}

#[test]
fn without_a_registry_every_client_may_call() {
    let origin = Origin::start();
    let gate = Gate::administered(&origin.url());
    gate.send(&open("anyone")).assert_status(201);
    gate.operate(&Call::new("GET", "/clients")).assert_status(404);
    assert!(!gate.metrics().contains("sessiongate_clients"), "{}", gate.metrics());
}

#[test]
fn a_client_that_is_disabled_or_removed_loses_its_sessions_within_a_second() {
    let origin = Origin::answering(|_, line| {
        line.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        line.hang();
    });
    for remaining in [vec![(CLIENT, "enabled = false"), (OTHER_CLIENT, "")], vec![(OTHER_CLIENT, "")]] {
        let gate = gate(config(&origin), &[(CLIENT, ""), (OTHER_CLIENT, "")]);
        let (session, other) =
            (gate.open(), gate.open_as(&token_with(json!({"client_id": OTHER_CLIENT})), OTHER_CLIENT));
        let mut stream = gate.connect();
        stream.send(session.get("/events").bytes());
        eventually("the stream has begun", || origin.calls() > 0);

        replace(&gate, &remaining);
        let replaced = Instant::now();
        eventually("its sessions are revoked", || {
            shown(&gate, &format!("/sessions/{}", session.id))["state"] == "revoked"
        });
        eventually("the stream ends", || origin.open_connections() == 0);
        // A second is promised; what a busy machine adds is not ours.
        assert!(replaced.elapsed() < Duration::from_secs(5), "{:?}", replaced.elapsed());
        gate.send(&session.get("/session")).assert_refused("client-not-allowed");
        gate.send(&other.get("/session")).assert_status(200);

        replace(&gate, &[(CLIENT, ""), (OTHER_CLIENT, "")]);
        eventually("it may call again", || gate.send(&Session::opening(&token(), CLIENT)).status == 201);
        gate.send(&session.get("/session")).assert_refused("session-revoked");
    }
}

#[test]
fn a_change_holds_from_the_next_call_on_also_on_warm_connections() {
    let origin = Origin::start();
    let gate = gate(config(&origin), &[(CLIENT, ""), (OTHER_CLIENT, "")]);
    let session = gate.open();
    let (mut http1, mut http2) = (gate.connect(), gate.http2());
    for _ in 0..2 {
        http1.exchange(&session.get("/orders")).assert_status(200);
        http2.exchange(&session.get("/orders")).assert_status(200);
    }
    replace(&gate, &[(OTHER_CLIENT, "")]);
    eventually("it is refused", || http1.exchange(&session.get("/orders")).status == 403);
    http1.exchange(&session.get("/orders")).assert_refused("client-not-allowed");
    http2.exchange(&session.get("/orders")).assert_refused("client-not-allowed");
}

#[test]
fn a_scope_that_its_client_may_not_use_counts_as_not_held() {
    let origin = Origin::start();
    let config = config(&origin)
        .route("name = \"write\"\npath = \"/write\"\nscopes = [\"orders.write\"]\nupstream = \"shop\"")
        .catch_all();
    let gate = gate(config, &[(CLIENT, "scopes = [\"orders.read\", \"listerine.all\"]"), (OTHER_CLIENT, "")]);
    let scope = json!({"scope": "orders.read orders.write"});
    let token = token_with(scope);
    let opened = gate.send(&Session::opening(&token, CLIENT));
    assert_eq!(opened.json()["scope"], "orders.read");
    let session = gate.open_as(&token, CLIENT);

    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.last().field("x-sg-scopes"), Some("orders.read"), "upstreams believe it");
    let refused = gate.send(&session.get("/write"));
    refused.assert_refused("scope-insufficient");

    let widened = [(CLIENT, "scopes = [\"orders.read\", \"orders.write\"]"), (OTHER_CLIENT, "")];
    replace(&gate, &widened);
    eventually("it may", || gate.send(&session.get("/write")).status == 200);
    assert_eq!(origin.last().field("x-sg-scopes"), Some("orders.read orders.write"));
}

#[test]
fn a_client_has_a_cap_of_its_own() {
    let origin = Origin::start();
    let config = config(&origin).section("sessions", "max_live_per_client = 2");
    let gate =
        gate(config, &[("few", "max_live_sessions = 1"), ("many", "max_live_sessions = \"unlimited\""), ("usual", "")]);
    for (client, most) in [("few", 1), ("usual", 2)] {
        (0..most).for_each(|_| _ = gate.send(&open(client)).assert_status(201));
        gate.send(&open(client)).assert_refused("session-limit");
    }
    (0..5).for_each(|_| _ = gate.send(&open("many")).assert_status(201));
    let page = shown(&gate, "/clients");
    let caps: Vec<_> =
        page["clients"].as_array().expect("clients").iter().map(|one| &one["max_live_sessions"]).collect();
    assert_eq!(caps, [&json!(1), &Value::Null, &json!(2)]);
}

#[test]
fn the_operator_sees_the_registry_page_by_page() {
    let origin = Origin::start();
    let gate = gate(
        config(&origin),
        &[("c", "enabled = false"), ("a", "name = \"Web shop\"\nscopes = [\"listerine.all\"]"), ("b", "")],
    );
    for _ in 0..3 {
        gate.send(&open("a")).assert_status(201);
    }
    let page = shown(&gate, "/clients?limit=2");
    assert_eq!((&page["registry"]["clients"], &page["registry"]["enabled"]), (&json!(3), &json!(2)), "{page}");
    assert_eq!((&page["registry"]["last_reload"], &page["next"]), (&json!("accepted"), &json!("b")), "{page}");
    let first = json!({"client_id": "a", "name": "Web shop", "enabled": true, "scopes": ["listerine.all"],
        "live_sessions": 3, "max_live_sessions": null});
    assert_eq!(page["clients"][0], first);
    assert_eq!(shown(&gate, "/clients/a"), first);
    let rest = shown(&gate, "/clients?limit=2&after=b");
    assert_eq!((&rest["clients"][0]["client_id"], rest["clients"].as_array().map(Vec::len)), (&json!("c"), Some(1)));
    assert!(rest.get("next").is_none(), "{rest}");
    let disabled = shown(&gate, "/clients?enabled=false");
    assert_eq!(disabled["clients"].as_array().map(Vec::len), Some(1), "{disabled}");
    for (path, status) in
        [("/clients/x", 404), ("/clients?limit=0", 400), ("/clients?enabled=x", 400), ("/clients?x=1", 400)]
    {
        gate.operate(&Call::new("GET", path)).assert_status(status);
    }
    gate.admin(&Call::new("GET", "/clients")).assert_status(401);
    assert_eq!(metric(&gate, "sessiongate_clients{state=\"enabled\"}"), 2.0);
    assert_eq!(metric(&gate, "sessiongate_clients{state=\"disabled\"}"), 1.0);
    assert!(metric(&gate, "sessiongate_clients_age_seconds") >= 0.0);
}

#[test]
fn a_registry_with_mistakes_is_refused_and_the_one_before_stays() {
    let origin = Origin::start();
    let gate = gate(config(&origin), &[(CLIENT, "")]);
    let session = gate.open();
    gate.write("clients.toml", "[[client]]\nid = \"x\"\nenable = true\n\n[[client]]\nid = 5\n");

    gate.await_stderr("registry of clients refused");
    let stderr = gate.stderr();
    for part in ["clients.toml:3:1", "did you mean", "enabled", "clients.toml:6:6", "expected text"] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(metric(&gate, "sessiongate_clients_last_reload_successful"), 0.0);
    assert_eq!(metric(&gate, "sessiongate_clients_reloads_total{result=\"refused\"}"), 1.0);
    let page = shown(&gate, "/clients");
    assert_eq!(page["registry"]["last_reload"], "refused", "{page}");
    assert!(page["registry"]["refusal"].as_str().is_some_and(|text| text.contains("clients.toml:3:1")), "{page}");
    assert_eq!(page["clients"][0]["client_id"], CLIENT);

    // A file that somebody emptied locks nobody out.
    gate.write("clients.toml", "");
    eventually("it is refused", || metric(&gate, "sessiongate_clients_reloads_total{result=\"refused\"}") == 2.0);
    gate.send(&session.get("/orders")).assert_status(200);

    replace(&gate, &[(CLIENT, "name = \"x\"")]);
    eventually("a good one is taken", || metric(&gate, "sessiongate_clients_last_reload_successful") == 1.0);
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn a_registry_with_mistakes_is_refused_at_the_start_by_check_and_with_a_reload() {
    let origin = Origin::start();
    let setup = Setup::administered(config(&origin).section("limits", "haed = \"1KiB\""));
    setup.write("clients.toml", "[[client]]\nid = \"a b\"\n");
    let done = setup.run();
    assert_eq!(done.code, Some(2), "{done:?}");
    for part in [
        "haed",
        "clients.path: the registry of clients at",
        "clients.toml:2:6: client[0].id: \"a b\" is not a client-id",
    ] {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    let file = setup.dir().join("sessiongate.toml");
    let done = finish(binary().args(["check", "--output", "json"]).arg(&file));
    assert_eq!(done.code, Some(2), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let mistakes = report["mistakes"].as_array().expect("mistakes");
    let last = mistakes.last().expect("mistakes");
    assert!(last["file"].as_str().is_some_and(|file| file.ends_with("clients.toml")), "{report}");
    assert_eq!((&last["line"], &last["column"]), (&json!(2), &json!(6)));

    let gate = gate(config(&origin), &[(CLIENT, "")]);
    let session = gate.open();
    gate.write("other.toml", "[[client]]\n");
    gate.write_config(&Gate::administration(
        Config::new(&origin.url()).section("clients", "path = \"other.toml\"").section("sessions", "idle = \"1s\""),
    ));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration refused");
    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(gate.send(&Session::opening(&token(), CLIENT)).field("session-expires-in"), Some("1800"));
}

#[test]
fn a_reload_of_the_configuration_brings_a_registry_and_takes_it_away() {
    let origin = Origin::start();
    let gate = gate(Config::new(&origin.url()), &[(OTHER_CLIENT, "")]);
    let session = gate.open();
    gate.write_config(&Gate::administration(config(&origin)));
    gate.signal(Signal::HUP);
    eventually("it is barred", || shown(&gate, &format!("/sessions/{}", session.id))["state"] == "revoked");
    gate.send(&session.get("/orders")).assert_refused("client-not-allowed");

    gate.write_config(&Gate::administration(Config::new(&origin.url())));
    gate.signal(Signal::HUP);
    eventually("all may call", || gate.send(&Session::opening(&token(), CLIENT)).status == 201);
}

#[test]
fn a_folder_of_files_is_one_registry() {
    let origin = Origin::start();
    let setup = Setup::administered(Config::new(&origin.url()).section("clients", "path = \"clients.d\""));
    std::fs::create_dir(setup.dir().join("clients.d")).expect("a folder");
    setup.write("clients.d/one.toml", registry(&[(CLIENT, "")]));
    setup.write("clients.d/two.toml", registry(&[(OTHER_CLIENT, "")]));
    let gate = setup.start();
    gate.send(&open(CLIENT)).assert_status(201);
    gate.send(&open(OTHER_CLIENT)).assert_status(201);

    gate.write("clients.d/three.toml", registry(&[(CLIENT, "")]));
    gate.await_stderr("registry of clients refused");
    let stderr = gate.stderr();
    assert!(stderr.contains("two.toml") || stderr.contains("one.toml:2:6"), "{stderr}");
    std::fs::remove_file(gate.path("clients.d/three.toml")).expect("it goes");
    std::fs::remove_file(gate.path("clients.d/two.toml")).expect("it goes");
    eventually("two.toml is gone", || gate.send(&open(OTHER_CLIENT)).status == 403);
    gate.send(&open(CLIENT)).assert_status(201);
}

#[test]
fn grpc_clients_are_told_in_their_way() {
    let origin = Origin::start();
    let gate = gate(config(&origin), &[(OTHER_CLIENT, "")]);
    let call = Session::opening(&token(), CLIENT).to("POST", "/shop.Orders/Get");
    let call = call
        .field("session-id", "758fc320-af96-4faf-8af7-536e7cac5775")
        .field("content-type", "application/grpc")
        .field("te", "trailers");
    let reply = gate.http2().exchange(&call);
    reply.assert_status(200);
    assert_eq!((reply.field("grpc-status"), reply.field("x-sg-problem")), (Some("7"), Some("client-not-allowed")));
    origin.assert_untouched();
}
