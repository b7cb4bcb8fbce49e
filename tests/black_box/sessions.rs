//! The life of a session after it was opened.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{CLIENT, Config, Gate, OTHER_CLIENT, Origin, Session, eventually, now, token, token_with};

/// An id that no gate gave out.
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

#[test]
fn the_owner_reads_the_state_of_a_session() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&session.get("/orders/7")).assert_status(200);

    let reply = gate.send(&session.get("/session"));

    reply.assert_status(200);
    assert_eq!(reply.field("session-id"), Some(session.id.as_str()));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    assert!(reply.field("session-expires-in").is_some());
    let state = reply.json();
    assert_eq!(
        (&state["session_id"], &state["client_id"], &state["subject"], &state["scope"], &state["state"]),
        (&json!(session.id), &json!(CLIENT), &json!("buyer-1"), &json!("listerine.all"), &json!("live"))
    );
    assert!(state["calls"].as_u64().is_some_and(|calls| calls >= 1), "{state}");
    assert!(state.get("access_token").is_none(), "a token is given once: {state}");
    assert_eq!(origin.calls(), 1, "the session endpoint is ours");
}

#[test]
fn head_tells_what_get_tells_without_the_body() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let mut raw = gate.connect();

    let reply = raw.exchange(&session.call("HEAD", "/session"));

    reply.assert_status(200);
    assert_eq!(reply.field("session-id"), Some(session.id.as_str()));
    raw.assert_in_step();
    origin.assert_untouched();
}

#[test]
fn a_deleted_session_is_gone_and_can_be_deleted_again() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for _ in 0..2 {
        let reply = gate.send(&session.call("DELETE", "/session"));
        reply.assert_status(204);
        assert!(reply.body.is_empty());
    }
    let refused = gate.send(&session.get("/session"));
    let problem = refused.assert_refused("session-closed");
    assert!(problem["session"]["expires_in"].as_u64().unwrap_or(0) == 0, "no time is left: {problem}");
    assert!(refused.field("session-expires-in").is_none_or(|left| left == "0"), "no time is left: {refused:?}");
    gate.send(&session.get("/orders")).assert_refused("session-closed");
    gate.send(&session.post("/orders", "{}")).assert_refused("session-closed");
    origin.assert_untouched();
}

#[test]
fn only_the_owner_learns_that_a_session_ended() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    gate.send(&session.call("DELETE", "/session")).assert_status(204);

    let stranger = session.with_token(&token_with(json!({"sub": "buyer-2"})));
    gate.send(&stranger.get("/session")).assert_refused("session-not-found");
    gate.send(&stranger.call("DELETE", "/session")).assert_refused("session-not-found");
    gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    origin.assert_untouched();
}

#[test]
fn other_methods_on_the_session_endpoint_are_405_with_allow() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for method in ["PUT", "PATCH", "OPTIONS"] {
        let reply = gate.send(&session.call(method, "/session"));
        reply.assert_refused("method-not-allowed");
        let allow = reply.field("allow").expect("Allow").to_owned();
        let mut allowed: Vec<_> = allow.split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["DELETE", "GET", "HEAD", "POST"], "{method}");
    }
    origin.assert_untouched();
}

#[test]
fn an_unknown_and_a_foreign_session_get_the_same_answer_byte_for_byte() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let (own, foreign) = (gate.open(), gate.open_as(&token_with(json!({"client_id": OTHER_CLIENT})), OTHER_CLIENT));

    for (method, target) in [("GET", "/orders"), ("POST", "/orders"), ("GET", "/session"), ("DELETE", "/session")] {
        let answers: Vec<_> = [foreign.id.as_str(), UNKNOWN]
            .into_iter()
            .map(|id| {
                let reply = gate.send(&Session { id: id.to_owned(), ..own.clone() }.call(method, target));
                reply.assert_refused("session-not-found");
                let request = reply.field("x-request-id").expect("a request id").to_owned();
                let fields: Vec<_> = reply
                    .fields
                    .iter()
                    .filter(|(name, _)| name != "date")
                    .map(|(name, value)| (name.clone(), value.replace(&request, "R")))
                    .collect();
                (reply.status, fields, reply.text().replace(&request, "R"))
            })
            .collect();
        assert_eq!(answers[0], answers[1], "{method} {target}");
    }
    gate.send(&foreign.get("/session")).assert_status(200);
    origin.assert_untouched();
}

#[test]
fn a_refreshed_token_of_the_same_tuple_continues_the_session() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    let refreshed = session.with_token(&token_with(json!({"jti": "2", "exp": now() + 7200, "scope": "other"})));
    gate.send(&refreshed.get("/orders")).assert_status(200);

    for (name, change) in [
        ("another subject", json!({"sub": "buyer-2"})),
        ("no subject", json!({"sub": null})),
        ("another issuer", json!({"iss": "OTHER"})),
        ("no issuer", json!({"iss": null})),
    ] {
        let reply = gate.send(&session.with_token(&token_with(change)).get("/orders"));
        assert_eq!(reply.status, 404, "{name}");
        reply.assert_refused("session-not-found");
    }
    let other =
        Session { client: OTHER_CLIENT.into(), token: token_with(json!({"client_id": OTHER_CLIENT})), ..session };
    gate.send(&other.get("/orders")).assert_refused("session-not-found");
    assert_eq!(origin.calls(), 1);
}

#[test]
fn an_expired_token_leaves_the_session_untouched() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let before = gate.send(&session.get("/session")).json()["calls"].as_u64().expect("calls");

    let expired = session.with_token(&token_with(json!({"exp": now() - 3600})));
    gate.send(&expired.get("/orders")).assert_refused("token-invalid");
    gate.send(&expired.call("DELETE", "/session")).assert_refused("token-invalid");

    let state = gate.send(&session.get("/session")).json();
    assert_eq!(state["state"], "live");
    assert_eq!(state["calls"].as_u64(), Some(before + 1), "only the accepted call counts: {state}");
    origin.assert_untouched();
}

#[test]
fn a_session_id_in_capitals_is_the_same_id_and_goes_on_in_its_canonical_form() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    let shouted = Session { id: session.id.to_uppercase(), ..session.clone() };
    gate.send(&shouted.get("/orders")).assert_status(200);
    assert_eq!(origin.last().all("session-id"), [session.id.as_str()]);
}

#[test]
fn an_idle_session_expires_and_its_owner_is_told() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("sessions", "idle = \"2s\""));
    // On a busy machine the call itself may come too late.
    let session = loop {
        let (opening, calls) = (Instant::now(), origin.calls());
        let session = gate.open();
        let reply = gate.send(&session.get("/orders"));
        if opening.elapsed() < Duration::from_secs(2) {
            reply.assert_status(200);
            assert_eq!(origin.calls(), calls + 1);
            break session;
        }
    };
    let before = origin.calls();

    // Time is what this test is about: two seconds of idling, and the twentieth it may take longer.
    thread::sleep(Duration::from_millis(2300));
    gate.send(&session.get("/orders")).assert_refused("session-expired");
    gate.send(&session.get("/session")).assert_refused("session-expired");
    gate.send(&session.with_token(&token_with(json!({"sub": "x"}))).get("/orders")).assert_refused("session-not-found");
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    assert_eq!(origin.calls(), before);
}

#[test]
fn accepted_calls_extend_the_idle_time_and_refused_calls_do_not() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("sessions", "idle = \"4s\"")
        .route("name = \"admin\"\npath = \"/admin\"\nscopes = [\"admin\"]\nupstream = \"shop\"")
        .catch_all();
    let gate = Gate::configured(&config);
    let (kept, lost) = (gate.open(), gate.open());
    let opened = Instant::now();

    while opened.elapsed() < Duration::from_millis(4400) {
        gate.send(&kept.get("/orders")).assert_status(200);
        gate.send(&lost.get("/orders").without("accept")).assert_refused("not-acceptable");
        gate.send(&lost.get("/orders").without("x-correlation-id")).assert_refused("header-missing");
        gate.send(&lost.get("/admin")).assert_refused("scope-insufficient");
        gate.send(&lost.get("/orders").set("client-id", OTHER_CLIENT)).assert_refused("client-mismatch");
        gate.send(&lost.with_token(&token_with(json!({"exp": 1}))).get("/orders")).assert_refused("token-invalid");
        thread::sleep(Duration::from_millis(200));
    }
    gate.send(&lost.get("/orders")).assert_refused("session-expired");
    gate.send(&kept.get("/orders")).assert_status(200);
}

#[test]
fn a_session_ends_at_its_absolute_age_however_busy_it_is() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("sessions", "idle = \"2s\"\nabsolute = \"2s\""));
    let opening = Instant::now();
    let session = gate.open();

    eventually("the absolute end", || gate.send(&session.get("/orders")).status == 404);
    assert!(opening.elapsed() >= Duration::from_secs(2), "a session never ends early");
    gate.send(&session.get("/orders")).assert_refused("session-expired");
}

#[test]
fn the_time_that_is_left_is_told_with_every_answer_to_the_owner() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("sessions", "idle = \"5m\"\nabsolute = \"5m\""));
    let reply = gate.send(&Session::opening(&token(), CLIENT));
    assert_eq!(reply.field("session-expires-in"), Some("300"));
    let session = gate.open();
    let left = gate.send(&session.get("/orders")).field("session-expires-in").map(str::parse::<u32>);
    assert!(left.clone().is_some_and(|left| left.is_ok_and(|left| (290..=300).contains(&left))), "{left:?}");
}

#[test]
fn a_forgotten_tombstone_reads_as_unknown() {
    let origin = Origin::start();
    let gate = Gate::configured(
        &Config::new(&origin.url()).section("sessions", "").section("sessions.tombstone", "ttl = \"1s\""),
    );
    let session = gate.open();
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    gate.send(&session.get("/orders")).assert_refused("session-closed");
    eventually("the tombstone goes", || {
        let problem = gate.send(&session.get("/orders")).json();
        problem["code"] == "session-not-found"
    });
    origin.assert_untouched();
}

/// Calls for an answer that never ends, has `end` happen, and fails unless the gate then ends the answer too. With a pause
/// there is a part now and then; without one there is always more than the client takes.
#[track_caller]
fn ends_with(pause: Option<Duration>, prepare: impl Fn(Session) -> Session, end: impl Fn(&Gate, &Session)) {
    let origin = Origin::answering(move |_, line| {
        line.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        let part = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while line.try_send(part.as_bytes()).is_ok() {
            pause.into_iter().for_each(thread::sleep);
        }
        line.close();
    });
    let gate = Gate::file_less(&origin.url());
    let session = prepare(gate.open());
    let mut stream = gate.connect();
    stream.send(session.get("/events").bytes());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1200) {
        stream.read_at_least(0x10000);
        thread::sleep(Duration::from_millis(5));
    }
    end(&gate, &session);
    let ended = Instant::now();
    while origin.open_connections() > 0 {
        assert!(ended.elapsed() < Duration::from_secs(8), "the stream goes on, pause {pause:?}");
        stream.read_at_least(0x10000);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stream_ends_with_its_session_and_with_its_token() {
    for pause in [Some(Duration::from_millis(100)), None] {
        ends_with(
            pause,
            |session| session,
            |gate, session| {
                gate.send(&session.call("DELETE", "/session")).assert_status(204);
            },
        );
        // The leeway is 30 s: 3 s are left.
        ends_with(pause, |session| session.with_token(&token_with(json!({"exp": now() - 27}))), |_, _| {});
    }
}
