//! Which endpoint gets a call, and which gets none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Call, Config, Gate, Origin, Raw, Server, Setup, dead_address, eventually};

const ADMIN_TOKEN: &str = "the-admin-token-of-the-tests-0123456789";

/// One worker, and an admin listener with a token.
fn config(endpoints: &[String], settings: &str) -> Config {
    Config::default()
        .upstream(&format!("name = \"shop\"\nendpoints = [{}]\n{settings}\n", endpoints.join(", ")))
        .section("server", "workers = 1")
        .section("admin", "address = \"127.0.0.1:0\"\ntoken = { file = \"{dir}/admin-token\" }")
}

fn start(config: &Config) -> Gate {
    let setup = Setup::configured(config);
    setup.write("admin-token", ADMIN_TOKEN);
    setup.start()
}

fn quoted(origin: &Origin) -> String {
    format!("\"{}\"", origin.url())
}

/// The endpoints of the pool as `/pools` shows them.
fn endpoints(gate: &Gate) -> Vec<Value> {
    let call = Call::new("GET", "/pools").field("authorization", &format!("Bearer {ADMIN_TOKEN}"));
    let reply = gate.admin(&call);
    reply.assert_status(200);
    reply.json()["pools"][0]["endpoints"].as_array().expect("endpoints").clone()
}

fn states(gate: &Gate) -> Vec<String> {
    endpoints(gate).iter().map(|endpoint| endpoint["state"].as_str().expect("a state").to_owned()).collect()
}

/// An upstream that can be switched off: then it resets what it is sent, or answers probes with 503.
fn switched(down: &Arc<AtomicBool>) -> Origin {
    let down = Arc::clone(down);
    Origin::answering(move |_, line| {
        if down.load(Ordering::SeqCst) {
            line.reset();
        } else {
            line.reply(200, &[], b"ok");
        }
    })
}

#[test]
fn turns_follow_the_weights() {
    let (first, second) = (Origin::start(), Origin::start());
    let weighted = format!("{{ url = \"{}\", weight = 3 }}", first.url());
    let gate = start(&config(&[weighted, quoted(&second)], ""));
    let session = gate.open();
    for _ in 0..40 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!((first.calls(), second.calls()), (30, 10));
}

#[test]
fn least_requests_leaves_a_slow_endpoint_alone() {
    let (slow, quick) = (Origin::answering(|_, line| line.hang()), Origin::start());
    let config = config(&[quoted(&slow), quoted(&quick)], "balance = \"least-requests\"");
    let gate = start(&config);
    let session = gate.open();
    let mut waiting = Vec::new();
    eventually("a call hangs at the slow one", || {
        let mut raw = gate.connect();
        raw.send(session.post("/orders", "{}").bytes());
        waiting.push(raw);
        thread::sleep(Duration::from_millis(5));
        slow.calls() > 0
    });
    eventually("the others are answered", || endpoints(&gate)[1]["calls"] == 0);
    let before = slow.calls();
    // The other is idle when each of these is sent, so both draws end there.
    for _ in 0..20 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!(slow.calls(), before);
    assert!(quick.calls() >= 20);
}

#[test]
fn a_session_stays_with_its_endpoint_and_only_moves_when_that_is_gone() {
    let down = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    let origins = down.each_ref().map(switched);
    let all: Vec<_> = origins.iter().map(quoted).collect();
    let settings = "balance = \"ring-hash\"\nejection = { failures = 1, base = \"60s\", max = \"60s\" }";
    let gate = start(&config(&all, settings));
    let sessions: Vec<_> = (0..30).map(|_| gate.open()).collect();
    let home = |session: &crate::harness::Session| {
        let before = origins.each_ref().map(Origin::calls);
        for _ in 0..3 {
            gate.send(&session.get("/orders")).assert_status(200);
        }
        let came: Vec<_> = origins.iter().zip(before).map(|(origin, before)| origin.calls() - before).collect();
        came.iter().position(|calls| *calls == 3).unwrap_or_else(|| panic!("one transaction went to {came:?}"))
    };
    let homes: Vec<_> = sessions.iter().map(home).collect();
    assert!((0..3).all(|place| homes.contains(&place)), "all are used: {homes:?}");

    down[0].store(true, Ordering::SeqCst);
    let lost = homes.iter().position(|home| *home == 0).expect("a session there");
    // A kept connection that was closed says nothing of its endpoint, a new one does.
    eventually("it is ejected", || {
        gate.send(&sessions[lost].post("/orders", "{}"));
        states(&gate)[0] == "ejected"
    });
    for (session, home_before) in sessions.iter().zip(&homes) {
        let now = home(session);
        assert!(now != 0 && (*home_before == 0 || now == *home_before), "{home_before} became {now}");
    }
}

#[test]
fn a_dead_endpoint_costs_no_call_and_is_ejected() {
    let origin = Origin::start();
    let dead = format!("\"http://{}\"", dead_address());
    let gate = start(&config(&[dead, quoted(&origin)], ""));
    let session = gate.open();
    for _ in 0..30 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    let [dead, alive] = &endpoints(&gate)[..] else { panic!("two endpoints") };
    assert_eq!(
        (&dead["state"], &dead["reason"]),
        (&Value::from("ejected"), &Value::from("it refused a connection or could not be reached"))
    );
    assert!(dead["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{dead}");
    assert_eq!(alive["state"], "healthy");
    gate.await_stderr("upstream endpoint is ejected");
    let metrics = gate.metrics();
    assert!(
        metrics.contains(&format!(
            "sessiongate_upstream_ejections_total{{upstream=\"shop\",endpoint={}}} 1",
            dead["endpoint"]
        )),
        "{metrics}"
    );
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_comes_back_by_one_call() {
    let down = Arc::new(AtomicBool::new(true));
    let (weak, strong) = (switched(&down), Origin::start());
    let settings = "ejection = { failures = 3, base = \"500ms\", max = \"500ms\" }";
    let gate = start(&config(&[quoted(&weak), quoted(&strong)], settings));
    let session = gate.open();
    let failed = (0..40).filter(|_| gate.send(&session.post("/orders", "{}")).status != 200).count();
    // Three until it is ejected; then one per half second, if that has passed.
    assert!(failed >= 3, "{failed}");
    assert_eq!(failed, weak.calls());
    assert_eq!(states(&gate), ["ejected", "healthy"]);

    down.store(false, Ordering::SeqCst);
    eventually("it is back", || {
        gate.send(&session.get("/orders"));
        states(&gate) == ["healthy", "healthy"]
    });
    let before = weak.calls();
    for _ in 0..20 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    assert!(weak.calls() >= before + 5, "it has its share");
}

#[test]
fn where_all_are_ejected_all_get_calls() {
    let down = Arc::new(AtomicBool::new(true));
    let (first, second) = (switched(&down), switched(&down));
    let settings = "ejection = { failures = 1, base = \"60s\", max = \"60s\", max_percent = 100 }";
    let gate = start(&config(&[quoted(&first), quoted(&second)], settings));
    let session = gate.open();
    for _ in 0..4 {
        gate.send(&session.post("/orders", "{}")).assert_refused("upstream-failed");
    }
    assert_eq!(states(&gate), ["ejected", "ejected"]);
    down.store(false, Ordering::SeqCst);
    for _ in 0..10 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
}

/// An upstream whose health page can be switched.
fn probed(sick: &Arc<AtomicBool>) -> Origin {
    let sick = Arc::clone(sick);
    Origin::answering(move |seen, line| match (seen.target.as_str(), sick.load(Ordering::SeqCst)) {
        ("/healthz?deep=1", true) => line.reply(503, &[], b"sick"),
        _ => line.reply(200, &[], b"ok"),
    })
}

const PROBES: &str = "health = { path = \"/healthz?deep=1\", host = \"probe.example\", interval = \"400ms\", timeout = \"400ms\", rise = 2, fall = 2 }";

/// Calls but probes.
fn served(origin: &Origin) -> usize {
    origin.seen().iter().filter(|seen| seen.target == "/orders").count()
}

#[test]
fn probes_decide_who_gets_calls() {
    let sick = Arc::new(AtomicBool::new(true));
    let (first, second) = (probed(&sick), probed(&Arc::default()));
    let gate = start(&config(&[quoted(&first), quoted(&second)], PROBES));
    let session = gate.open();
    eventually("the sick one is found", || states(&gate) == ["unhealthy", "healthy"]);
    assert_eq!(endpoints(&gate)[0]["reason"], "a probe was answered with another status");
    let probe = first.last();
    assert_eq!((probe.method.as_str(), probe.all("host")), ("GET", vec!["probe.example"]));
    for _ in 0..10 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    assert_eq!((served(&first), served(&second)), (0, 10));
    let label = format!("upstream=\"shop\",endpoint=\"{}\"", first.address());
    assert!(gate.metrics().contains(&format!("sessiongate_upstream_endpoint_healthy{{{label}}} 0")));
    assert!(gate.metrics().contains(&format!("sessiongate_upstream_probes_total{{{label},result=\"failure\"}}")));

    sick.store(false, Ordering::SeqCst);
    eventually("it is back", || states(&gate) == ["healthy", "healthy"]);
    for _ in 0..10 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    assert!((3..=7).contains(&served(&first)), "{}", served(&first));
}

#[test]
fn a_real_nginx_is_probed_and_missed_when_it_ends() {
    let nginx = Server::nginx("location = /healthz { return 204; }\nlocation / { return 200 nginx; }");
    let origin =
        Origin::answering(|seen, line| line.reply(if seen.target == "/healthz" { 204 } else { 200 }, &[], b""));
    let health = "health = { interval = \"400ms\", timeout = \"400ms\", expect = [204], fall = 2 }";
    let gate = start(&config(&[format!("\"{}\"", nginx.url()), quoted(&origin)], health));
    let session = gate.open();
    eventually("both are healthy", || endpoints(&gate).iter().all(|endpoint| endpoint["probes"]["success"] != 0));
    let by_nginx = (0..10).filter(|_| gate.send(&session.get("/orders")).text() == "nginx").count();
    // Each worker takes turns of its own.
    assert!((3..=7).contains(&by_nginx), "{by_nginx}");
    drop(nginx);
    eventually("its end is seen", || states(&gate) == ["unhealthy", "healthy"]);
    for _ in 0..10 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
}

#[test]
fn without_a_healthy_endpoint_calls_are_refused_at_once() {
    let sick = Arc::new(AtomicBool::new(true));
    let origin = probed(&sick);
    let gate = start(&config(&[quoted(&origin)], PROBES));
    let session = gate.open();
    eventually("it is found", || states(&gate) == ["unhealthy"]);
    let reply = gate.send(&session.post("/orders", "{}"));
    reply.assert_refused("upstream-unavailable");
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert!(reply.field("proxy-status").is_some_and(|status| status.contains("destination_unavailable")), "{reply:?}");
    assert_eq!(served(&origin), 0);
    assert!(gate.metrics().contains("sessiongate_upstream_refused_total{upstream=\"shop\",reason=\"unhealthy\"} 1"));
}

#[test]
fn a_reload_keeps_what_is_known_of_endpoints() {
    let (sick, other) = (Arc::new(AtomicBool::new(true)), Origin::start());
    let origin = probed(&sick);
    let gate = start(&config(&[quoted(&origin)], PROBES));
    let session = gate.open();
    eventually("it is found", || states(&gate) == ["unhealthy"]);
    // With an interval so long that nothing new is learned after it.
    let slow = PROBES.replace("interval = \"400ms\"", "interval = \"1h\"");
    gate.write_config(&config(&[quoted(&origin), quoted(&other)], &slow));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration reloaded");
    assert_eq!(states(&gate), ["unhealthy", "healthy"]);
    for _ in 0..6 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    assert_eq!((served(&origin), served(&other)), (0, 6));

    gate.write_config(&config(&[quoted(&origin)], ""));
    gate.signal(Signal::HUP);
    eventually("without probes it counts as healthy", || states(&gate) == ["healthy"]);
}

#[test]
fn an_endpoint_that_came_back_is_not_run_over() {
    let sick = Arc::new(AtomicBool::new(true));
    let (first, second) = (probed(&sick), probed(&Arc::default()));
    let gate = start(&config(&[quoted(&first), quoted(&second)], &format!("{PROBES}\nslow_start = \"1h\"")));
    let session = gate.open();
    eventually("it is found", || states(&gate)[0] == "unhealthy");
    sick.store(false, Ordering::SeqCst);
    eventually("it is back", || states(&gate)[0] == "slow-start");
    for _ in 0..68 {
        gate.send(&session.post("/orders", "{}")).assert_status(200);
    }
    // A sixteenth of the share of the other.
    assert!((3..=5).contains(&served(&first)), "{} and {}", served(&first), served(&second));
}

#[test]
fn the_pools_are_for_the_operator_only() {
    let origin = Origin::start();
    let gate = start(&config(&[quoted(&origin)], ""));
    gate.admin(&Call::new("GET", "/pools")).assert_status(401);
    let held = Origin::answering(|_, line| line.hang());
    let busy = start(&config(&[quoted(&held)], ""));
    let session = busy.open();
    let mut raw = Raw::connect(busy.address());
    raw.send(session.get("/orders").bytes());
    eventually("the call is shown", || endpoints(&busy)[0]["calls"] == 1);
    let begun = Instant::now();
    drop(raw);
    eventually("and is gone with its client", || endpoints(&busy)[0]["calls"] == 0 && begun.elapsed() > Duration::ZERO);
    assert_eq!(endpoints(&busy)[0]["addresses"][0], held.address().to_string());
}
