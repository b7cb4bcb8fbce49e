//! `POST /session`.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use serde_json::json;

use crate::harness::{CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Session, sign, token, token_with, violations};

#[test]
fn opening_a_session_answers_201_with_the_documented_fields_and_body() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let token = token();

    let reply = gate.send(&Session::opening(&token, CLIENT));

    reply.assert_status(201);
    let id = reply.field("session-id").expect("a session-id");
    assert_eq!(uuid::Uuid::parse_str(id).map(|id| id.get_version_num()), Ok(4), "{id}");
    assert_eq!(id.len(), 36);
    assert_eq!(reply.field("location"), Some("/session"));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    assert_eq!(reply.field("session-expires-in"), Some("1800"));
    assert!(reply.field("x-request-id").is_some() && reply.field("x-correlation-id").is_some(), "{reply:?}");
    assert!(reply.field("content-type").is_some_and(|text| text.starts_with("application/json")));
    let state = reply.json();
    for (name, value) in [
        ("session_id", json!(id)),
        ("client_id", json!(CLIENT)),
        ("subject", json!("buyer-1")),
        ("scope", json!("listerine.all")),
        ("state", json!("live")),
        ("calls", json!(0)),
        ("access_token", json!(token)),
        ("token_type", json!("Bearer")),
    ] {
        assert_eq!(state[name], value, "{name} in {state}");
    }
    for name in ["flow", "step", "allowed_next"] {
        assert!(state.get(name).is_some(), "{name} in {state}");
    }
    let time = |name: &str| state[name].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let seconds = |name: &str| time(name).unwrap_or_else(|| panic!("{name} in {state}")).as_second();
    assert_eq!(seconds("last_seen_at"), seconds("created_at"));
    assert_eq!(seconds("idle_expires_at") - seconds("created_at"), 1800);
    assert_eq!(seconds("expires_at") - seconds("created_at"), 4 * 3600);
    assert!((3590..=3600).contains(&state["expires_in"].as_u64().unwrap_or(0)), "{state}");
    origin.assert_untouched();
}

#[test]
fn opening_needs_the_token_and_the_client_id_and_nothing_else() {
    let origin = Origin::start();
    let gate = Gate::strict(&origin.url());

    gate.send(&Session::opening(&token(), CLIENT)).assert_status(201);
    gate.send(&Session::opening(&token(), CLIENT).to("POST", "/session?source=web")).assert_status(201);
    let with_body = Session::opening(&token(), CLIENT).field("content-type", "application/json").body("{}");
    gate.send(&with_body).assert_status(201);

    origin.assert_untouched();
}

#[test]
fn an_opening_without_proof_is_refused() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let good = Session::opening(&token(), CLIENT);

    for (call, code, fields) in [
        (good.clone().without("authorization"), "credentials-missing", &[("authorization", "missing")][..]),
        (good.clone().set("authorization", "Basic dTpw"), "credentials-missing", &[("authorization", "missing")]),
        (good.clone().without("client-id"), "header-missing", &[("client-id", "missing")]),
        (good.clone().set("client-id", "no spaces"), "header-invalid", &[("client-id", "invalid")]),
        (
            good.clone().without("authorization").without("client-id"),
            "credentials-missing",
            &[("authorization", "missing"), ("client-id", "missing")],
        ),
    ] {
        let problem = gate.send(&call).assert_refused(code);
        let expected: Vec<_> = fields.iter().map(|(name, fault)| ((*name).to_owned(), (*fault).to_owned())).collect();
        assert_eq!(violations(&problem), expected, "{call:?}");
    }
    gate.send(&good.clone().set("authorization", "Bearer junk")).assert_refused("token-invalid");
    gate.send(&good.clone().set("authorization", "Bearer a b")).assert_refused("credentials-malformed");
    gate.send(&good.clone().set("client-id", OTHER_CLIENT)).assert_refused("client-mismatch");
    origin.assert_untouched();
}

#[test]
fn a_session_id_that_came_in_is_ignored_and_never_adopted() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let own = gate.open();

    for incoming in [own.id.as_str(), "758fc320-af96-4faf-8af7-536e7cac5775", "not-a-session"] {
        let reply = gate.send(&Session::opening(&own.token, CLIENT).field("session-id", incoming));
        reply.assert_status(201);
        assert_ne!(reply.field("session-id"), Some(incoming));
    }
    let adopted = Session { id: "758fc320-af96-4faf-8af7-536e7cac5775".into(), ..own };
    gate.send(&adopted.get("/orders")).assert_refused("session-not-found");
    origin.assert_untouched();
}

#[test]
fn session_ids_are_never_given_twice() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let (token, mut raw) = (token(), gate.connect());

    let mut ids: Vec<_> = (0..200)
        .map(|_| raw.exchange(&Session::opening(&token, CLIENT)).field("session-id").expect("an id").to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

#[test]
fn the_same_idempotency_key_and_payload_open_one_session() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let keyed = |token: &str| Session::opening(token, CLIENT).field("idempotency-key", "order-4711");
    let id = |call: &Call| {
        let reply = gate.send(call);
        reply.assert_status(201);
        let replayed = reply.field("idempotency-replayed") == Some("true");
        (reply.field("session-id").expect("an id").to_owned(), replayed)
    };

    let (first, replayed) = id(&keyed(&token()));
    assert!(!replayed);
    assert_eq!(id(&keyed(&token())), (first.clone(), true));
    let refreshed = token_with(json!({"jti": "2"}));
    assert_eq!(id(&keyed(&refreshed)), (first.clone(), true), "a refreshed token of the same tuple is the same caller");

    let other_key = Session::opening(&token(), CLIENT).field("idempotency-key", "order-4712");
    assert_ne!(id(&other_key).0, first);
    let (other_subject, replayed) = id(&keyed(&token_with(json!({"sub": "buyer-2"}))));
    assert!(other_subject != first && !replayed, "another subject's key is another key");

    let other_payload = keyed(&token()).field("content-type", "application/json").body(r#"{"channel":"phone"}"#);
    gate.send(&other_payload).assert_refused("idempotency-key-reused");
    let repeated = keyed(&token()).field("idempotency-key", "order-4711");
    gate.send(&repeated).assert_refused("header-repeated");
    origin.assert_untouched();
}

#[test]
fn a_session_does_not_age_while_its_payload_comes() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).lenient().section("sessions", "idle = \"3s\""));
    let opening = Session::opening(&token_with(json!({})), CLIENT).field("idempotency-key", "slow").body("{}");
    let whole = opening.bytes();
    let mut raw = gate.connect();
    raw.send(&whole[..whole.len() - 1]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    raw.send(&whole[whole.len() - 1..]);
    let opened = raw.reply();
    opened.assert_status(201);
    assert_eq!(opened.field("session-expires-in"), Some("3"));
    let id = opened.field("session-id").expect("the id").to_owned();
    let session = Session { token: token_with(json!({})), client: CLIENT.into(), id };
    std::thread::sleep(std::time::Duration::from_millis(1500));
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn a_client_at_its_cap_gets_no_new_session_and_loses_no_old_one() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("sessions", "max_live_per_client = 2"));
    let (first, second) = (gate.open(), gate.open());

    gate.send(&Session::opening(&token(), CLIENT)).assert_refused("session-limit");
    gate.open_as(&token_with(json!({"client_id": OTHER_CLIENT})), OTHER_CLIENT);
    gate.send(&first.get("/orders")).assert_status(200);
    gate.send(&second.get("/orders")).assert_status(200);

    gate.send(&first.call("DELETE", "/session")).assert_status(204);
    gate.open();
    gate.send(&Session::opening(&token(), CLIENT)).assert_refused("session-limit");
}

#[test]
fn the_status_of_an_opening_can_be_200() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("sessions", "create_status = 200"));
    let reply = gate.send(&Session::opening(&token(), CLIENT));
    reply.assert_status(200);
    assert!(reply.field("session-id").is_some());
}

#[test]
fn only_the_exact_path_opens_sessions() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());

    for target in
        ["/session/", "//session", "/SESSION", "/Session", "/session;a=1", "/sessions", "/session/x", "/session%20"]
    {
        let problem =
            gate.send(&Session::opening(&token(), CLIENT).to("POST", target)).assert_refused("header-missing");
        assert_eq!(violations(&problem), [("session-id".to_owned(), "missing".to_owned())], "{target}");
    }
    for target in [
        "/session%2F",
        "/%73ession",
        "/sessio%6E",
        "/x/../session",
        "/./session",
        "/session/.",
        "/session/..",
        "/session%00",
        "/session%5C",
        "/session\\",
        "/%2e/session",
        "/x/%2E%2e/session",
        "/session%",
    ] {
        gate.send(&Session::opening(&token(), CLIENT).to("POST", target)).assert_refused("request-malformed");
    }
    origin.assert_untouched();
}

#[test]
fn a_look_alike_with_the_whole_proof_is_an_ordinary_call() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for target in ["/session/", "//session", "/SESSION", "/session;a=1"] {
        let reply = gate.send(&session.post(target, "{}"));
        reply.assert_status(200);
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn a_subject_may_be_absent_and_its_absence_binds() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let nobody = token_with(json!({"sub": null}));
    let session = gate.open_as(&nobody, CLIENT);

    gate.send(&session.get("/orders")).assert_status(200);
    gate.send(&session.with_token(&token()).get("/orders")).assert_refused("session-not-found");
    assert_eq!(origin.calls(), 1);
}

#[test]
fn the_documented_example_token_works() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let claims = format!(
        r#"{{"sub":"5f0c","scope":"listerine.all","iss":"ENTAPI","grant_type":"client_credentials","exp":{},"iat":{},"client_id":"{CLIENT}"}}"#,
        crate::harness::now() + 1799,
        crate::harness::now()
    );
    let session = gate.open_as(&sign(r#"{"alg":"HS256"}"#, &claims), CLIENT);
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn the_same_key_at_the_same_time_opens_one_session_too() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let call = Session::opening(&token(), CLIENT).field("idempotency-key", "at-once");
    let ids: BTreeSet<_> = at_once(16, || {
        let reply = gate.send(&call);
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.field("session-id").expect("an id").to_owned()
    })
    .into_iter()
    .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn no_race_gets_a_client_past_its_cap() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("sessions", "max_live_per_client = 5"));
    let call = Session::opening(&token(), CLIENT);
    let statuses = at_once(20, || gate.send(&call).status);
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 5, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 429)), "{statuses:?}");
}

/// Does the same on many threads that start together.
fn at_once<T: Send>(threads: usize, act: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    act()
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}
