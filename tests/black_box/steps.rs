//! The order of steps.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Seen, Session, eventually, token, token_with};

/// The ordering flow: eligibility → offer ⇄ configure → order → installation.
const ORDERING: &str = r#"name = "ordering"
[[flows.steps]]
name = "eligibility"
routes = ["eligibility"]
repeat = true
[[flows.steps]]
name = "offer"
routes = ["offers"]
after = ["eligibility"]
repeat = true
[[flows.steps]]
name = "configure"
routes = ["configure"]
after = ["offer"]
repeat = true
[[flows.steps]]
name = "order"
routes = ["order"]
after = ["configure"]
exclusive = true
[[flows.steps]]
name = "installation"
routes = ["installation"]
after = ["order"]
terminal = true
"#;

/// An upstream that answers with the status it is told to, and otherwise as it should.
fn shop() -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let origin = Origin::answering(move |_, line| match told.load(Ordering::SeqCst) {
        0 => line.reset(),
        1 => line.hang(),
        status => line.reply(status, &[("content-type", "application/json")], br#"{"ok":true}"#),
    });
    (origin, status)
}

fn routed(origin: &Origin) -> Config {
    let route = |config: Config, name: &str, method: &str, path: &str| {
        config.route(&format!("name = {name:?}\npath = {path:?}\nmethods = [{method:?}]\nupstream = \"shop\""))
    };
    [
        ("eligibility", "POST", "/eligibility"),
        ("offers", "GET", "/offers"),
        ("configure", "PUT", "/configurations/{id}"),
        ("order", "POST", "/orders"),
        ("installation", "POST", "/installations"),
        ("help", "GET", "/help"),
    ]
    .into_iter()
    .fold(Config::new(&origin.url()).lenient(), |config, (name, method, path)| route(config, name, method, path))
    .upstream_setting("response_timeout = \"500ms\"")
    .section("admin", "address = \"127.0.0.1:0\"")
}

fn ordering(origin: &Origin) -> Gate {
    Gate::configured(&routed(origin).flow(ORDERING))
}

/// The calls of the flow, in order.
fn calls(session: &Session) -> [Call; 5] {
    [
        session.post("/eligibility", "{}"),
        session.get("/offers"),
        session.call("PUT", "/configurations/fiber").field("content-type", "application/json").body("{}"),
        session.post("/orders", "{}"),
        session.post("/installations", "{}"),
    ]
}

fn next(state: &Value) -> Vec<&str> {
    state["allowed_next"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

fn state(gate: &Gate, session: &Session) -> Value {
    let reply = gate.send(&session.get("/session"));
    reply.assert_status(200);
    reply.json()
}

fn metric(gate: &Gate, series: &str) -> f64 {
    let metrics = gate.metrics();
    let line = metrics.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

#[test]
fn a_session_is_taken_through_its_flow_and_shows_where_it_stands() {
    let (origin, _) = shop();
    let gate = ordering(&origin);

    let opened = gate.send(&Session::opening(&token(), CLIENT)).json();
    assert_eq!((&opened["flow"], &opened["step"]), (&json!("ordering"), &Value::Null));
    assert_eq!(next(&opened), ["eligibility"]);

    let session = gate.open();
    let after = [
        ("eligibility", &["eligibility", "offer"][..]),
        ("offer", &["eligibility", "offer", "configure"]),
        ("configure", &["eligibility", "offer", "configure", "order"]),
        ("order", &["eligibility", "offer", "configure", "installation"]),
        ("installation", &[]),
    ];
    for (call, (step, allowed)) in calls(&session).iter().zip(after) {
        gate.send(call).assert_status(200);
        let state = state(&gate, &session);
        assert_eq!((state["step"].as_str(), next(&state)), (Some(step), allowed.to_vec()));
    }
    let told = |seen: &Seen| seen.field("x-sg-session-step").map(str::to_owned);
    let told: Vec<_> = origin.seen().iter().map(told).collect();
    let expected = [None, Some("eligibility"), Some("offer"), Some("configure"), Some("order")];
    assert_eq!(told, expected.map(|step| step.map(str::to_owned)), "upstreams are told the step before");
    assert_eq!(metric(&gate, "sessiongate_steps_total{flow=\"ordering\",step=\"order\",outcome=\"committed\"}"), 1.0);
    assert_eq!(metric(&gate, "sessiongate_step_gap_seconds_count{flow=\"ordering\",step=\"order\"}"), 1.0);
}

#[test]
fn a_step_out_of_order_is_refused_and_told_what_may_come() {
    let (origin, _) = shop();
    let gate = ordering(&origin);
    let session = gate.open();

    let problem = gate.send(&session.post("/orders", "{}")).assert_refused("step-not-allowed");
    assert_eq!(problem["session"]["step"], Value::Null);
    assert_eq!(next(&problem["session"]), ["eligibility"]);
    origin.assert_untouched();

    let [eligibility, offers, configure, order, installation] = calls(&session);
    gate.send(&eligibility).assert_status(200);
    let problem = gate.send(&configure).assert_refused("step-not-allowed");
    assert_eq!(problem["session"]["step"], "eligibility");
    assert_eq!(next(&problem["session"]), ["eligibility", "offer"]);
    for call in [&offers, &configure, &offers, &configure, &order] {
        gate.send(call).assert_status(200);
    }
    gate.send(&order).assert_refused("step-not-allowed");
    gate.send(&installation).assert_status(200);
    gate.send(&eligibility).assert_refused("step-not-allowed");
    gate.send(&offers).assert_status(200);
    gate.send(&session.get("/help")).assert_status(200);
    assert_eq!(origin.calls(), 9);
    assert_eq!(metric(&gate, "sessiongate_steps_total{flow=\"ordering\",step=\"order\",outcome=\"refused\"}"), 2.0);
}

#[test]
fn a_refused_step_does_not_extend_the_session() {
    let (origin, _) = shop();
    let gate = ordering(&origin);
    let session = gate.open();
    gate.send(&session.post("/orders", "{}")).assert_refused("step-not-allowed");
    assert_eq!(state(&gate, &session)["calls"], 1, "only the look itself");
}

#[test]
fn calls_beside_the_flow_come_in_any_order() {
    let (origin, _) = shop();
    let gate = ordering(&origin);
    gate.send(&gate.open().get("/help")).assert_status(200);
    let reply = gate.send(&gate.open().post("/offers", "{}"));
    reply.assert_status(405);
}

#[test]
fn only_a_success_is_a_step_forward() {
    let (origin, status) = shop();
    let gate = ordering(&origin);
    for (answer, step) in [
        (200, json!("eligibility")),
        (204, json!("eligibility")),
        (303, json!("eligibility")),
        (302, Value::Null),
        (404, Value::Null),
        (422, Value::Null),
        (500, Value::Null),
        (503, Value::Null),
    ] {
        let session = gate.open();
        status.store(answer, Ordering::SeqCst);
        gate.send(&session.post("/eligibility", "{}")).assert_status(answer);
        assert_eq!(state(&gate, &session)["step"], step, "{answer}");
    }
}

/// A session that may order now.
fn configured(gate: &Gate) -> Session {
    let session = gate.open();
    calls(&session)[..3].iter().for_each(|call| _ = gate.send(call).assert_status(200));
    session
}

#[test]
fn an_order_that_failed_may_be_tried_again() {
    let (origin, status) = shop();
    let gate = ordering(&origin);
    let session = configured(&gate);
    for answer in [400, 409, 500] {
        status.store(answer, Ordering::SeqCst);
        gate.send(&session.post("/orders", "{}")).assert_status(answer);
    }
    status.store(201, Ordering::SeqCst);
    gate.send(&session.post("/orders", "{}")).assert_status(201);
    assert_eq!(state(&gate, &session)["step"], "order");
}

#[test]
fn the_outcome_of_an_order_that_was_cut_off_is_unknown() {
    let (origin, status) = shop();
    let gate = ordering(&origin);
    for (mood, answer, code) in [(0, 502, "upstream-failed"), (1, 504, "upstream-timeout"), (504, 504, "")] {
        status.store(200, Ordering::SeqCst);
        let session = configured(&gate);
        status.store(mood, Ordering::SeqCst);
        let reply = gate.send(&session.post("/orders", "{}"));
        if code.is_empty() {
            reply.assert_status(answer);
        } else {
            reply.assert_refused(code);
        }

        status.store(200, Ordering::SeqCst);
        let before = origin.calls();
        let problem = gate.send(&session.post("/orders", "{}")).assert_refused("step-indeterminate");
        assert_eq!(problem["session"]["step"], "configure");
        gate.send(&calls(&session)[2]).assert_refused("step-indeterminate");
        gate.send(&session.post("/installations", "{}")).assert_refused("step-not-allowed");
        assert_eq!(origin.calls(), before);
        gate.send(&session.get("/offers")).assert_status(200);
    }
    let series = "sessiongate_steps_total{flow=\"ordering\",step=\"order\",outcome=\"indeterminate\"}";
    assert_eq!(metric(&gate, series), 3.0);
}

#[test]
fn an_order_that_was_never_sent_was_not_tried() {
    let (origin, _) = shop();
    let orders = crate::harness::dead_address();
    let config = Config::new(&origin.url())
        .lenient()
        .upstream(&format!("name = \"dead\"\nendpoints = [\"http://{orders}\"]"))
        .route("name = \"order\"\npath = \"/orders\"\nmethods = [\"POST\"]\nupstream = \"dead\"")
        .flow(
            "name = \"f\"\n[[flows.steps]]\nname = \"order\"\nroutes = [\"order\"]\nexclusive = true\nmax_attempts = 1",
        );
    let gate = Gate::configured(&config);
    let session = gate.open();
    for _ in 0..3 {
        gate.send(&session.post("/orders", "{}")).assert_refused("upstream-failed");
    }
    assert_eq!(next(&state(&gate, &session)), ["order"]);
}

#[test]
fn a_client_that_leaves_does_not_block_its_session() {
    let (origin, status) = shop();
    let gate = ordering(&origin);
    let session = configured(&gate);
    status.store(1, Ordering::SeqCst);
    let before = origin.calls();
    let mut raw = gate.connect();
    raw.send(session.post("/orders", "{}").bytes());
    origin.await_calls(before + 1);
    gate.send(&session.post("/orders", "{}")).assert_refused("step-in-progress");
    drop(raw);
    eventually("the step to be settled", || {
        let reply = gate.send(&session.post("/orders", "{}"));
        reply.assert_refused_with_status(
            if reply.text().contains("step-indeterminate") { "step-indeterminate" } else { "step-in-progress" },
            Some(409),
        )["code"]
            == "step-indeterminate"
    });
}

#[test]
fn of_64_callers_that_race_for_an_exclusive_step_one_reaches_the_upstream() {
    const CALLERS: usize = 64;
    let orders = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&orders);
    let origin = Origin::answering(move |seen, line| {
        if seen.target == "/orders" {
            *counted.lock().expect("the count") += 1;
            thread::sleep(Duration::from_millis(50));
        }
        line.reply(200, &[("content-type", "application/json")], b"{}");
    });
    let gate = ordering(&origin);
    for round in 1..=3 {
        let session = configured(&gate);
        let barrier = Barrier::new(CALLERS);
        let answers: Vec<_> = thread::scope(|scope| {
            let race = |_| {
                scope.spawn(|| {
                    let mut raw = gate.connect();
                    let call = session.post("/orders", "{}");
                    barrier.wait();
                    raw.exchange(&call)
                })
            };
            let racing: Vec<_> = (0..CALLERS).map(race).collect();
            racing.into_iter().map(|caller| caller.join().expect("a caller")).collect()
        });
        assert_eq!(*orders.lock().expect("the count"), round, "exactly one reached the upstream");
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
            assert!(code == "step-in-progress" || code == "step-not-allowed", "{answer:?}");
            answer.assert_refused(&code);
        }
        assert_eq!(state(&gate, &session)["step"], "order");
    }
}

#[test]
fn each_severity_does_what_it_says() {
    for (severity, admitted) in [("off", true), ("observe", true), ("warn", true), ("enforce", false)] {
        let (origin, _) = shop();
        let flow = ORDERING.replace("exclusive = true\n", &format!("exclusive = true\nseverity = \"{severity}\"\n"));
        let gate = Gate::configured(&routed(&origin).flow(&flow));
        let session = gate.open();
        let reply = gate.send(&session.post("/orders", "{}"));
        if admitted {
            reply.assert_status(200);
        } else {
            reply.assert_refused("step-not-allowed");
        }
        assert_eq!(reply.field("x-sg-warning"), (severity == "warn").then_some("step after"), "{severity}");
        let would = |severity| {
            format!(
                "sessiongate_steps_would_refuse_total{{flow=\"ordering\",step=\"order\",rule=\"after\",severity=\"{severity}\"}}"
            )
        };
        for counted in ["observe", "warn"] {
            assert_eq!(
                metric(&gate, &would(counted)),
                f64::from(u8::from(counted == severity)),
                "{severity} {counted}"
            );
        }
        let step = if admitted { json!("order") } else { Value::Null };
        assert_eq!(state(&gate, &session)["step"], step, "{severity}");
        let line = gate.access_log(2).into_iter().find(|line| line["route"] == "order").expect("a line");
        let rule = if severity == "off" { Value::Null } else { json!("after") };
        assert_eq!((&line["step"], &line["step_rule"]), (&json!("order"), &rule), "{line}");
    }
}

#[test]
fn attempts_and_gaps_are_limited() {
    let (origin, status) = shop();
    let flow = r#"name = "limited"
[[flows.steps]]
name = "eligibility"
routes = ["eligibility"]
max_attempts = 2
[[flows.steps]]
name = "offer"
routes = ["offers"]
min_gap = "1h"
[[flows.steps]]
name = "order"
routes = ["order"]
max_gap = "1ms"
"#;
    let gate = Gate::configured(&routed(&origin).flow(flow));
    let session = gate.open();
    let reply = gate.send(&session.get("/offers"));
    let problem = reply.assert_refused("step-not-allowed");
    let wait = problem["retry_after"].as_u64().expect("a time to wait");
    assert!((3500..=3600).contains(&wait), "{problem}");
    assert_eq!(reply.field("retry-after"), Some(wait.to_string().as_str()));
    thread::sleep(Duration::from_millis(5));
    gate.send(&session.post("/orders", "{}")).assert_refused("step-not-allowed");
    status.store(422, Ordering::SeqCst);
    for _ in 0..2 {
        gate.send(&session.post("/eligibility", "{}")).assert_status(422);
    }
    gate.send(&session.post("/eligibility", "{}")).assert_refused("step-not-allowed");
}

#[test]
fn a_step_that_demands_an_idempotency_key_is_refused_without_one() {
    let (origin, _) = shop();
    let flow = ORDERING.replace("exclusive = true\n", "exclusive = true\nidempotency = \"required\"\n");
    let gate = Gate::configured(&routed(&origin).flow(&flow));
    let session = configured(&gate);
    gate.send(&session.post("/orders", "{}")).assert_refused("idempotency-key-missing");
    gate.send(&session.post("/orders", "{}").field("idempotency-key", "k1")).assert_status(200);
}

#[test]
fn a_running_session_keeps_its_rules_over_reloads() {
    let (origin, _) = shop();
    let gate = ordering(&origin);
    let old = configured(&gate);
    // The order may come first now, and its route has another name.
    let flow = ORDERING.replace("routes = [\"order\"]\nafter = [\"configure\"]", "routes = [\"orders\"]");
    let other = routed(&origin).text("").contains("name = \"order\"");
    assert!(other, "the route that is renamed");
    let config = routed(&origin).renamed("\"order\"", "\"orders\"").flow(&flow);
    gate.write_config(&config);
    gate.signal(Signal::HUP);
    eventually("the reload", || next(&gate.send(&Session::opening(&token(), CLIENT)).json()).contains(&"order"));

    let new = gate.open();
    gate.send(&new.post("/orders", "{}")).assert_status(200);
    let early = gate.send(&old.post("/installations", "{}")).assert_refused("step-not-allowed");
    assert_eq!(early["session"]["step"], "configure");
    gate.send(&old.post("/orders", "{}")).assert_status(200);
    gate.send(&old.post("/orders", "{}")).assert_refused("step-not-allowed");

    // Without any flow, new sessions have none, and running ones keep theirs.
    gate.write_config(&routed(&origin));
    gate.signal(Signal::HUP);
    eventually("the reload", || gate.send(&Session::opening(&token(), CLIENT)).json()["flow"].is_null());
    gate.send(&old.post("/installations", "{}")).assert_status(200);
    gate.send(&old.post("/installations", "{}")).assert_refused("step-not-allowed");
}

#[test]
fn a_flow_may_be_for_some_clients_only() {
    let (origin, _) = shop();
    let gate = Gate::configured(&routed(&origin).flow(&format!("clients = [{OTHER_CLIENT:?}]\n{ORDERING}")));
    let other = gate.open_as(&token_with(json!({ "client_id": OTHER_CLIENT })), OTHER_CLIENT);
    gate.send(&other.post("/orders", "{}")).assert_refused("step-not-allowed");
    gate.send(&gate.open().post("/orders", "{}")).assert_status(200);
}

/// A flow of one step, which takes a key.
fn keyed(origin: &Origin) -> Gate {
    let flow = "name = \"f\"\n[[flows.steps]]\nname = \"order\"\nroutes = [\"order\"]\nexclusive = true";
    Gate::configured(&routed(origin).flow(flow))
}

fn order(session: &Session, key: &str, body: &str) -> Call {
    session.post("/orders", body).field("idempotency-key", key)
}

#[test]
fn a_repeated_order_gets_the_answer_of_the_first() {
    let origin = Origin::answering(|_, line| {
        let fields = [("content-type", "application/json"), ("location", "/orders/7"), ("set-cookie", "a=1")];
        line.reply(201, &fields, br#"{"order":7}"#);
    });
    let gate = keyed(&origin);
    let session = gate.open();
    let first = gate.send(&order(&session, "k1", "{\"a\":1}"));
    first.assert_status(201);
    assert_eq!(first.field("idempotency-replayed"), None);

    for _ in 0..3 {
        let again = gate.send(&order(&session, "k1", "{\"a\":1}"));
        again.assert_status(201);
        assert_eq!(again.field("idempotency-replayed"), Some("true"));
        for name in ["content-type", "location"] {
            assert_eq!(again.field(name), first.field(name));
        }
        assert_eq!((again.text(), again.field("set-cookie")), (first.text(), None));
        assert_ne!(again.field("x-request-id"), first.field("x-request-id"));
    }
    gate.send(&order(&session, "k1", "{\"a\":2}")).assert_refused("idempotency-key-reused");
    gate.send(&order(&session, "k1", "{\"a\":1}").to("POST", "/orders?x")).assert_refused("idempotency-key-reused");
    gate.send(&order(&session, "k2", "{\"a\":1}")).assert_refused("step-not-allowed");
    assert_eq!(origin.calls(), 1);
    assert_eq!(origin.last().field("idempotency-key"), Some("k1"), "upstreams see the key");
    // Keys are a session's own.
    gate.send(&order(&gate.open(), "k1", "{\"a\":2}")).assert_status(201);
}

#[test]
fn a_repeated_order_is_told_that_the_first_one_runs() {
    let (origin, status) = shop();
    let gate = keyed(&origin);
    let session = gate.open();
    status.store(1, Ordering::SeqCst);
    let mut raw = gate.connect();
    raw.send(order(&session, "k", "{}").bytes());
    origin.await_calls(1);
    gate.send(&order(&session, "k", "{}")).assert_refused("idempotency-in-flight");
    gate.send(&order(&session, "other", "{}")).assert_refused("step-in-progress");
}

#[test]
fn an_order_with_an_unknown_outcome_is_repeated_with_its_key_only() {
    for mood in [0, 1, 502] {
        let (origin, status) = shop();
        let gate = keyed(&origin);
        let session = gate.open();
        status.store(mood, Ordering::SeqCst);
        assert!(gate.send(&order(&session, "k", "{\"a\":1}")).status >= 502);
        status.store(201, Ordering::SeqCst);
        gate.send(&order(&session, "other", "{\"a\":1}")).assert_refused("step-indeterminate");
        gate.send(&session.post("/orders", "{\"a\":1}")).assert_refused("step-indeterminate");
        gate.send(&order(&session, "k", "{\"a\":2}")).assert_refused("idempotency-key-reused");
        assert_eq!(origin.calls(), 1);
        gate.send(&order(&session, "k", "{\"a\":1}")).assert_status(201);
        assert_eq!((origin.calls(), origin.last().body), (2, b"{\"a\":1}".to_vec()));
        assert_eq!(state(&gate, &session)["step"], "order");
        let again = gate.send(&order(&session, "k", "{\"a\":1}"));
        assert_eq!((again.status, again.field("idempotency-replayed"), origin.calls()), (201, Some("true"), 2));
    }
}

#[test]
fn a_key_is_free_again_after_a_failure() {
    let (origin, status) = shop();
    let gate = keyed(&origin);
    let session = gate.open();
    status.store(422, Ordering::SeqCst);
    gate.send(&order(&session, "k", "{\"a\":1}")).assert_status(422);
    status.store(200, Ordering::SeqCst);
    let reply = gate.send(&order(&session, "k", "{\"a\":2}"));
    assert_eq!((reply.status, reply.field("idempotency-replayed")), (200, None));
}

#[test]
fn answers_are_kept_up_to_a_bound_and_pass_whole_beyond_it() {
    for (length, is_kept) in [(0, true), (64 * 1024, true), (64 * 1024 + 1, false), (1 << 20, false)] {
        let body = vec![b'x'; length];
        let sent = body.clone();
        let origin = Origin::answering(move |_, line| line.reply(200, &[("content-type", "text/plain")], &sent));
        let gate = keyed(&origin);
        let session = gate.open();
        let reply = gate.send(&order(&session, "k", "{}"));
        reply.assert_status(200);
        assert!(reply.text().into_bytes() == body, "{length}");
        let again = gate.send(&order(&session, "k", "{}"));
        if is_kept {
            again.assert_status(200);
            assert!(again.text().into_bytes() == body, "{length}");
        } else {
            again.assert_refused("step-not-allowed");
            assert_eq!(state(&gate, &session)["step"], "order");
        }
        assert_eq!(origin.calls(), 1);
    }
}

#[test]
fn a_chunked_upload_has_a_fingerprint_too_and_a_repeated_one_is_bounded() {
    let (origin, _) = shop();
    let gate = keyed(&origin);
    let session = gate.open();
    let chunked = |body: &str| {
        let call = order(&session, "k", "").without("content-length").field("transfer-encoding", "chunked");
        let mut bytes = call.head();
        for piece in body.as_bytes().chunks(7) {
            bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
            bytes.extend(piece);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        gate.send_raw(bytes)
    };
    chunked("{\"first\":\"of its kind\"}").assert_status(200);
    chunked("{\"first\":\"of its kinds\"}").assert_refused("idempotency-key-reused");
    let again = gate.send(&order(&session, "k", "{\"first\":\"of its kind\"}"));
    assert_eq!((again.status, again.field("idempotency-replayed")), (200, Some("true")), "framing is no part of it");
    gate.send(&order(&session, "k", &"x".repeat((1 << 20) + 1))).assert_refused("request-too-large");
    assert_eq!(origin.calls(), 1);
}

#[test]
fn keys_are_the_upstreams_business_where_the_step_says_so() {
    let (origin, _) = shop();
    let flow =
        "name = \"f\"\n[[flows.steps]]\nname = \"order\"\nroutes = [\"order\"]\nrepeat = true\nidempotency = \"off\"";
    let gate = Gate::configured(&routed(&origin).flow(flow));
    let session = gate.open();
    for body in ["{\"a\":1}", "{\"a\":1}", "{\"a\":2}"] {
        let reply = gate.send(&order(&session, "k", body));
        assert_eq!((reply.status, reply.field("idempotency-replayed")), (200, None));
    }
    assert_eq!(origin.calls(), 3);
}
