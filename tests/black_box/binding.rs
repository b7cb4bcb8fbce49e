//! Sessions are bound to issuer, client and subject: what happens when others use them, and what a suspension does.

use serde_json::{Value, json};

use crate::harness::{CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Session, eventually, now, token_with};

/// The session in the hands of others, with good tokens of their own.
fn strangers(session: &Session) -> [Session; 3] {
    let other = token_with(json!({"client_id": OTHER_CLIENT}));
    [
        session.with_token(&token_with(json!({"sub": "somebody-else"}))),
        session.with_token(&token_with(json!({"iss": "ELSEWHERE"}))),
        Session { client: OTHER_CLIENT.into(), ..session.with_token(&other) },
    ]
}

fn key(session: &Session) -> String {
    let id = uuid::Uuid::parse_str(&session.id).expect("a session-id");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn counted(gate: &Gate, metric: &str, total: u64) {
    let line = format!("{metric} {total}");
    let metrics = gate.metrics();
    assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
}

fn state(gate: &Gate, session: &Session) -> Value {
    gate.operate(&Call::new("GET", &format!("/sessions/{}", session.id))).json()["state"].clone()
}

fn suspending(origin: &Origin, rule: &str) -> Gate {
    Gate::administered_with(Config::new(&origin.url()).section("sessions", &format!("on_foreign_use = {rule}")))
}

#[test]
fn a_foreign_use_is_told_as_unknown_counted_and_logged_with_the_key() {
    let origin = Origin::start();
    let gate = Gate::administered(&origin.url());
    let session = gate.open();

    for stranger in strangers(&session) {
        gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    }
    counted(&gate, "sessiongate_session_foreign_use_total", 3);
    let unknown = Session { id: "00000000-0000-4000-8000-000000000000".into(), ..session.clone() };
    gate.send(&unknown.get("/orders")).assert_refused("session-not-found");
    let refreshed = session.with_token(&token_with(json!({"exp": now() + 7200, "jti": "2"})));
    gate.send(&refreshed.get("/orders")).assert_status(200);
    counted(&gate, "sessiongate_session_foreign_use_total", 3);

    // That the id itself is on neither output is checked when the gate ends.
    let stderr = gate.stderr();
    let lines: Vec<_> = stderr.lines().filter(|line| line.contains("does not own it")).collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    assert!(lines.iter().all(|line| line.contains(&key(&session))), "{stderr}");
    assert!(lines[0].contains(CLIENT) && lines[2].contains(OTHER_CLIENT), "the client that tried: {stderr}");
    assert_eq!(state(&gate, &session), "live", "nothing more unless configured");
}

#[test]
fn foreign_uses_suspend_a_session_where_that_is_configured() {
    let origin = Origin::start();
    let gate = suspending(&origin, "{ suspend_after = 3, within = \"1h\" }");
    let (session, other) = (gate.open(), gate.open());
    let [by_subject, by_issuer, by_client] = strangers(&session);

    for stranger in [&by_subject, &by_issuer] {
        gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
        gate.send(&session.get("/orders")).assert_status(200);
    }
    let last = gate.send(&by_client.get("/orders"));
    last.assert_refused("session-not-found");

    let problem = gate.send(&session.get("/orders")).assert_refused("session-suspended");
    assert_eq!(problem["session"]["state"], "suspended");
    gate.send(&session.get("/session")).assert_refused("session-suspended");
    gate.send(&by_client.get("/orders")).assert_refused("session-not-found");
    gate.send(&other.get("/orders")).assert_status(200);
    assert!(gate.stderr().contains("session suspended after foreign uses"), "{}", gate.stderr());
    counted(&gate, "sessiongate_session_foreign_use_suspensions_total", 1);

    // The operator lets it go on, and uses count anew.
    gate.operate(&Call::new("POST", &format!("/sessions/{}/resume", key(&session)))).assert_status(200);
    for stranger in [&by_subject, &by_issuer] {
        gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    }
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn foreign_uses_that_lie_far_apart_do_not_add_up() {
    let origin = Origin::start();
    let gate = suspending(&origin, "{ suspend_after = 2, within = \"1s\" }");
    let session = gate.open();
    let [stranger, ..] = strangers(&session);
    gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    // Time is what this test is about.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn a_suspension_ends_streams_and_is_shown() {
    let origin = Origin::answering(|_, line| {
        line.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        line.hang();
    });
    let gate = suspending(&origin, "{ suspend_after = 1, within = \"1m\" }");
    let by_operator: fn(&Gate, &Session) = |gate, session| {
        gate.operate(&Call::new("POST", &format!("/sessions/{}/suspend", session.id))).assert_status(200);
    };
    let by_foreign_use: fn(&Gate, &Session) = |gate, session| {
        let [stranger, ..] = strangers(session);
        gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    };
    for suspend in [by_operator, by_foreign_use] {
        let session = gate.open();
        let calls = origin.calls();
        let mut stream = gate.connect();
        stream.send(session.get("/events").bytes());
        eventually("the stream has begun", || origin.calls() > calls);

        suspend(&gate, &session);
        eventually("the stream ends", || origin.open_connections() == 0);
        assert_eq!(state(&gate, &session), "suspended");
        let listed = gate.operate(&Call::new("GET", "/sessions?state=suspended")).text();
        assert!(listed.contains(&key(&session)), "{listed}");
        let live = gate.operate(&Call::new("GET", "/sessions?state=live")).text();
        assert!(!live.contains(&key(&session)), "{live}");
    }
    gate.operate(&Call::new("GET", "/sessions?state=asleep")).assert_status(400);
    let again = gate.open();
    for (act, status) in [("suspend", 200), ("suspend", 200), ("resume", 200), ("resume", 200)] {
        gate.operate(&Call::new("POST", &format!("/sessions/{}/{act}", again.id))).assert_status(status);
    }
    gate.revoke(&again);
    for act in ["suspend", "resume"] {
        gate.operate(&Call::new("POST", &format!("/sessions/{}/{act}", again.id))).assert_status(409);
        let unknown = format!("/sessions/00000000-0000-4000-8000-000000000000/{act}");
        gate.operate(&Call::new("POST", &unknown)).assert_status(404);
    }
}

#[test]
fn a_suspended_session_still_expires_and_can_be_closed() {
    let origin = Origin::start();
    let gate = Gate::administered_with(Config::new(&origin.url()).section("sessions", "idle = \"2s\""));
    let (expiring, closing) = (gate.open(), gate.open());
    for session in [&expiring, &closing] {
        gate.operate(&Call::new("POST", &format!("/sessions/{}/suspend", session.id))).assert_status(200);
    }
    gate.send(&closing.call("DELETE", "/session")).assert_status(204);
    gate.send(&closing.get("/orders")).assert_refused("session-closed");
    eventually("it expires", || gate.send(&expiring.get("/orders")).status == 404);
    gate.send(&expiring.get("/orders")).assert_refused("session-expired");
    gate.operate(&Call::new("POST", &format!("/sessions/{}/resume", expiring.id)));
    gate.send(&expiring.get("/orders")).assert_refused("session-expired");
    origin.assert_untouched();
}

#[test]
fn grpc_clients_are_told_of_a_suspension_in_their_way() {
    let origin = Origin::start();
    let gate = suspending(&origin, "{ suspend_after = 1 }");
    let session = gate.open();
    let unary = |session: &Session| {
        let call = session.post("/shop.Orders/Get", "\0\0\0\0\x02\x08\x07");
        call.set("content-type", "application/grpc").field("te", "trailers")
    };
    let [stranger, ..] = strangers(&session);
    let mut http2 = gate.http2();
    for (call, status, code) in
        [(unary(&stranger), "5", "session-not-found"), (unary(&session), "7", "session-suspended")]
    {
        let reply = http2.exchange(&call);
        assert_eq!((reply.field("grpc-status"), reply.field("x-sg-problem")), (Some(status), Some(code)), "{reply:?}");
    }
    origin.assert_untouched();
}
