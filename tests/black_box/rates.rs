//! How fast calls may come, and how much a session may use up.

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Reply, Session, Setup, token, token_with};

fn config(origin: &Origin) -> Config {
    let order = "name = \"order\"\npath = \"/order\"\nupstream = \"shop\"";
    Config::new(&origin.url()).route(order).catch_all()
}

/// A rule whose buckets are not filled again while a test runs.
fn rule(name: &str, per: &str, requests: u32, more: &str) -> String {
    format!("[[rate_limits]]\nname = \"{name}\"\nper = \"{per}\"\nrequests = {requests}\nwindow = \"1h\"\n{more}\n")
}

/// A gate with these rules; tables of their own follow the section they are put after.
fn gate(origin: &Origin, rules: &[String]) -> Gate {
    Setup::administered(config(origin).section("logs", &format!("access = \"stdout\"\n{}", rules.join("\n")))).start()
}

fn open(client: &str) -> Call {
    Session::opening(&token_with(json!({ "client_id": client })), client)
}

fn open_session(gate: &Gate, client: &str) -> Session {
    gate.open_as(&token_with(json!({ "client_id": client })), client)
}

#[track_caller]
fn assert_limited(reply: &Reply) -> u64 {
    let problem = reply.assert_refused("rate-limited");
    reply.assert_status(429);
    let wait = reply.field("retry-after").and_then(|text| text.parse().ok()).expect("a time to wait");
    assert_eq!(problem["retry_after"], wait);
    assert!(wait > 0);
    wait
}

#[test]
fn a_session_may_call_as_fast_as_its_rule_says_and_a_refused_call_changes_nothing() {
    let origin = Origin::start();
    let gate = gate(&origin, &[rule("steady", "session", 3, "routes = [\"all\"]")]);
    let (session, other) = (gate.open(), gate.open());
    for left in [2, 1, 0] {
        let reply = gate.send(&session.get("/a"));
        reply.assert_status(200);
        assert_eq!(reply.field("ratelimit-policy"), Some("\"steady\";q=3;w=3600"));
        assert!(reply.field("ratelimit").is_some_and(|text| text.starts_with(&format!("\"steady\";r={left};t="))));
    }
    let calls = |session: &Session| gate.send(&session.get("/session")).json()["calls"].as_u64().expect("a count");
    let before = calls(&session);
    let refused = gate.send(&session.get("/a"));
    assert!((1..=1200).contains(&assert_limited(&refused)), "a third of an hour");
    assert!(refused.field("ratelimit").is_some_and(|text| text.starts_with("\"steady\";r=0;t=")));
    gate.send(&session.get("/a")).assert_refused("rate-limited");
    assert_eq!(calls(&session), before + 1, "refused calls do not count");
    assert_eq!(origin.calls(), 3);

    gate.send(&other.get("/a")).assert_status(200);
    let free = gate.send(&session.get("/order"));
    free.assert_status(200);
    assert_eq!(free.field("ratelimit"), None, "the rule is for another route");
    gate.send(&session.call("DELETE", "/session")).assert_status(204);

    let log = gate.access_log(10);
    let line = log.iter().find(|line| line["code"] == "rate-limited").expect("a refusal");
    assert_eq!((&line["rate_rule"], &line["rate_severity"]), (&json!("steady"), &json!("enforce")));
    let metrics = gate.metrics();
    assert!(metrics.contains("sessiongate_rate_exceeded_total{rule=\"steady\",severity=\"enforce\"} 2"), "{metrics}");
    assert!(metrics.contains("sessiongate_rate_buckets 2"), "{metrics}");
}

#[test]
fn a_client_has_one_bucket_for_all_its_sessions_and_opening_them_counts() {
    let origin = Origin::start();
    let gate = gate(&origin, &[rule("client", "client", 3, "")]);
    let first = open_session(&gate, CLIENT);
    let second = open_session(&gate, CLIENT);
    gate.send(&first.get("/a")).assert_status(200);
    assert_limited(&gate.send(&second.get("/a")));
    assert_limited(&gate.send(&open(CLIENT)));
    open_session(&gate, OTHER_CLIENT);
    gate.send(&second.call("DELETE", "/session")).assert_status(204);
    assert_eq!(origin.calls(), 1);
}

#[test]
fn a_rule_that_observes_or_warns_refuses_nothing() {
    let origin = Origin::start();
    let rules = [
        rule("watched", "session", 1, "severity = \"observe\"\nroutes = [\"all\"]"),
        rule("warned", "session", 1, "severity = \"warn\"\nroutes = [\"order\"]"),
        rule("off", "all", 1, "severity = \"off\""),
    ];
    let gate = gate(&origin, &rules);
    let session = gate.open();
    for path in ["/a", "/order"] {
        gate.send(&session.get(path)).assert_status(200);
    }
    let observed = gate.send(&session.get("/a"));
    observed.assert_status(200);
    assert_eq!(observed.field("x-sg-warning"), None);
    let warned = gate.send(&session.get("/order"));
    warned.assert_status(200);
    assert_eq!(warned.field("x-sg-warning"), Some("rate-limited warned"));
    assert_eq!(origin.calls(), 4);
    let metrics = gate.metrics();
    for line in [
        "sessiongate_rate_exceeded_total{rule=\"watched\",severity=\"observe\"} 1",
        "sessiongate_rate_exceeded_total{rule=\"warned\",severity=\"warn\"} 1",
        "sessiongate_would_refuse_total{severity=\"observe\"} 1",
        "sessiongate_would_refuse_total{severity=\"warn\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[test]
fn the_registry_gives_a_client_a_rate_of_its_own() {
    let origin = Origin::start();
    let rules = rule("common", "client", 1, "routes = [\"all\"]");
    let config = config(&origin).section("clients", &format!("path = \"clients.toml\"\n{rules}"));
    let setup = Setup::administered(config);
    let own = format!("[[client]]\nid = \"{CLIENT}\"\nrate = {{ requests = 4, window = \"1h\" }}\n");
    setup.write("clients.toml", format!("{own}[[client]]\nid = \"{OTHER_CLIENT}\"\n"));
    let gate = setup.start();
    let (own, common) = (open_session(&gate, CLIENT), open_session(&gate, OTHER_CLIENT));
    // The opening was the first of the four.
    for _ in 0..3 {
        gate.send(&own.get("/a")).assert_status(200);
    }
    assert_limited(&gate.send(&own.get("/a")));
    assert_limited(&gate.send(&own.get("/order")));
    gate.send(&common.get("/a")).assert_status(200);
    assert_limited(&gate.send(&common.get("/a")));
    let shown = gate.operate(&Call::new("GET", &format!("/clients/{CLIENT}"))).json();
    assert_eq!(shown["rate"], json!({"burst": 4, "full_in": 3600}));
    assert!(
        gate.metrics().contains("sessiongate_rate_exceeded_total{rule=\"client-registry\",severity=\"enforce\"} 2")
    );
}

#[test]
fn addresses_are_those_that_trusted_proxies_say() {
    let origin = Origin::start();
    let rules = rule("address", "address", 1, "routes = [\"all\"]");
    let config = config(&origin).lenient().section("server", &format!("trusted_proxies = [\"127.0.0.0/8\"]\n{rules}"));
    let gate = Setup::configured(&config).start();
    let session = gate.open();
    let from = |address: &str| gate.send(&session.get("/a").set("x-forwarded-for", address));
    from("192.0.2.1").assert_status(200);
    from("192.0.2.2").assert_status(200);
    assert_limited(&from("192.0.2.1"));
    // What the client wrote itself stands before what the proxy adds.
    assert_limited(&from("198.51.100.7, 192.0.2.1"));
    from("2001:db8:1::1").assert_status(200);
    assert_limited(&from("2001:db8:1::2"));
    from("2001:db8:2::1").assert_status(200);
}

#[test]
fn buckets_outlive_a_reload() {
    let origin = Origin::start();
    let with = |requests| {
        let rules = rule("steady", "session", requests, "routes = [\"all\"]");
        config(&origin).lenient().section("logs", &format!("access = \"off\"\n{rules}"))
    };
    let gate = Setup::configured(&with(2)).start();
    let session = gate.open();
    for _ in 0..2 {
        gate.send(&session.get("/a")).assert_status(200);
    }
    gate.write_config(&with(3));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration reloaded");
    assert_limited(&gate.send(&session.get("/a")));
}

#[test]
fn a_session_has_a_budget_of_calls_and_can_still_be_read_and_closed() {
    let origin = Origin::start();
    let config = config(&origin).section("sessions.budget", "calls = 3");
    let gate = Setup::administered(config).start();
    let (session, other) = (gate.open(), gate.open());
    for _ in 0..3 {
        gate.send(&session.get("/a")).assert_status(200);
    }
    let refused = gate.send(&session.get("/a"));
    assert!(assert_limited(&refused) > 3600, "as long as the session lives");
    assert!(refused.json()["detail"].as_str().is_some_and(|text| text.contains("open a new one")));
    gate.send(&session.get("/session")).assert_status(200);
    gate.send(&other.get("/a")).assert_status(200);
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    assert_eq!(origin.calls(), 4);
    assert!(gate.metrics().contains("sessiongate_rate_exceeded_total{rule=\"session-budget\",severity=\"enforce\"} 1"));
}

#[test]
fn a_budget_of_calls_holds_for_many_that_come_at_once() {
    let origin = Origin::start();
    let gate = Setup::configured(&config(&origin).lenient().section("sessions.budget", "calls = 10")).start();
    let session = gate.open();
    let served: usize = std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..32).map(|_| scope.spawn(|| usize::from(gate.send(&session.get("/a")).status == 200))).collect();
        callers.into_iter().map(|caller| caller.join().expect("a count")).sum()
    });
    assert_eq!((served, origin.calls()), (10, 10));
}

#[test]
fn a_session_has_a_budget_of_bytes() {
    let origin = Origin::start();
    let gate = Setup::configured(&config(&origin).lenient().section("sessions.budget", "bytes = \"2KiB\"")).start();
    let session = gate.open_as(&token(), CLIENT);
    gate.send(&session.post("/a", &"x".repeat(900))).assert_status(200);
    gate.send(&session.post("/a", &"x".repeat(900))).assert_status(200);
    crate::harness::eventually("the second one has been counted", || gate.send(&session.get("/a")).status == 429);
}

#[test]
fn under_overload_no_session_is_opened_first_and_nothing_is_served_beyond_the_limit_last() {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};
    let (release, gate_of_origin) = mpsc::channel::<()>();
    let waiting = Arc::new(Mutex::new(gate_of_origin));
    let origin = Origin::answering(move |seen, line| {
        if seen.target == "/slow" {
            _ = waiting.lock().expect("one at a time").recv();
        }
        line.reply(200, &[], b"done");
    });
    let gate = Setup::administered(config(&origin).section("overload", "max_calls = 3\nopen_below = 70")).start();
    let session = gate.open();
    std::thread::scope(|scope| {
        let slow = || scope.spawn(|| gate.send(&session.get("/slow")).status);
        let running = |count: usize| {
            crate::harness::eventually("they run", || {
                gate.metrics().contains(&format!("sessiongate_calls_running {count}\n"))
            });
        };
        let mut all = vec![slow(), slow()];
        running(2);
        // Two of three run: no session is opened any more, but those that are go on.
        let refused = gate.send(&Session::opening(&token(), CLIENT));
        refused.assert_refused("overloaded");
        assert_eq!(refused.field("retry-after"), Some("1"));
        gate.send(&session.get("/a")).assert_status(200);
        all.push(slow());
        running(3);
        gate.send(&session.get("/a")).assert_refused("overloaded");
        gate.send(&session.get("/session")).assert_status(200);
        gate.send(&session.call("DELETE", "/session")).assert_status(204);
        for _ in 0..3 {
            release.send(()).expect("the origin is there");
        }
        assert!(all.into_iter().all(|call| call.join().expect("a status") == 200));
    });
    crate::harness::eventually("all places are free", || gate.metrics().contains("sessiongate_calls_running 0\n"));
    gate.open();
}
