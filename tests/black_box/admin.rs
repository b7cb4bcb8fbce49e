//! The operator's listener.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Reply, Session, Setup, eventually, quickest, token_with,
};

const ADMIN_TOKEN: &str = "the-admin-token-of-the-tests-0123456789";

/// A gate whose admin listener has a token.
fn administered(origin: &Origin) -> Gate {
    let config = Config::new(&origin.url())
        .lenient()
        .section("admin", "address = \"127.0.0.1:0\"\ntoken = { file = \"{dir}/admin-token\" }");
    let setup = Setup::configured(&config);
    setup.write("admin-token", format!("{ADMIN_TOKEN}\n"));
    let gate = setup.start();
    gate.keep_secret(ADMIN_TOKEN);
    gate
}

fn act(gate: &Gate, call: &Call) -> Reply {
    gate.admin(&call.clone().field("authorization", &format!("Bearer {ADMIN_TOKEN}")))
}

fn revoke(gate: &Gate, what: &Value) -> Reply {
    act(gate, &Call::new("POST", "/sessions/revoke").field("content-type", "application/json").body(what.to_string()))
}

/// The session key as docs/operations.md defines it.
fn key(session: &Session) -> String {
    let id = uuid::Uuid::parse_str(&session.id).expect("a session-id");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn health_and_metrics_are_open() {
    let origin = Origin::start();
    let gate = Setup::file_less(&origin.url()).with_admin().start();
    gate.admin(&Call::new("GET", "/livez")).assert_status(200);
    gate.admin(&Call::new("GET", "/readyz")).assert_status(200);
    let metrics = gate.admin(&Call::new("GET", "/metrics"));
    metrics.assert_status(200);
    assert!(metrics.field("content-type").is_some_and(|text| text.starts_with("text/plain")), "{metrics:?}");
    assert!(gate.admin(&Call::new("POST", "/metrics")).status == 405);
    // None of it is on the data listener.
    gate.send(&Call::new("GET", "/metrics")).assert_refused("credentials-missing");
    gate.send(&Call::new("GET", "/livez")).assert_refused("credentials-missing");
}

#[test]
fn without_a_token_nothing_more_is_open() {
    let origin = Origin::start();
    let gate = Setup::file_less(&origin.url()).with_admin().start();
    let session = gate.open();
    for call in [
        Call::new("GET", "/sessions"),
        Call::new("GET", "/sessions").field("authorization", "Bearer "),
        Call::new("GET", "/sessions").field("authorization", "Bearer x"),
        Call::new("DELETE", &format!("/sessions/{}", session.id)),
        Call::new("POST", "/sessions/revoke").body("{}"),
        Call::new("GET", "/config"),
        Call::new("GET", "/"),
    ] {
        let reply = gate.admin(&call);
        assert!(matches!(reply.status, 403 | 404), "{call:?}: {reply:?}");
    }
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn with_a_token_only_its_bearer_gets_in() {
    let origin = Origin::start();
    let gate = administered(&origin);
    for value in [
        "",
        "Bearer x",
        &format!("Bearer {ADMIN_TOKEN}x"),
        &format!("Bearer {}", &ADMIN_TOKEN[1..]),
        &format!("Basic {ADMIN_TOKEN}"),
    ] {
        let mut call = Call::new("GET", "/sessions");
        if !value.is_empty() {
            call = call.field("authorization", value);
        }
        let reply = gate.admin(&call);
        assert_eq!(reply.status, 401, "{value}: {reply:?}");
        assert!(reply.field("www-authenticate").is_some());
    }
    act(&gate, &Call::new("GET", "/sessions")).assert_status(200);
    act(&gate, &Call::new("GET", "/nothing-here")).assert_status(404);
}

#[test]
fn a_session_id_in_a_refused_request_is_not_logged() {
    let origin = Origin::start();
    let gate = administered(&origin);
    let session = gate.open();
    gate.admin(&Call::new("DELETE", &format!("/sessions/{}", session.id))).assert_status(401);
    eventually("a line about it", || gate.stderr().contains("without a valid token"));
    assert!(!gate.stderr().contains(&session.id), "{}", gate.stderr());
}

#[test]
fn sessions_are_listed_by_key_and_never_by_id() {
    let origin = Origin::start();
    let gate = administered(&origin);
    let (first, second) = (gate.open(), gate.open_as(&token_with(json!({"client_id": OTHER_CLIENT})), OTHER_CLIENT));

    let listed = act(&gate, &Call::new("GET", "/sessions"));
    listed.assert_status(200);
    for session in [&first, &second] {
        assert!(listed.text().contains(&key(session)) && !listed.text().contains(&session.id), "{}", listed.text());
        assert!(!listed.text().contains(&session.token));
    }
    let of_one = act(&gate, &Call::new("GET", &format!("/sessions?client_id={OTHER_CLIENT}"))).text();
    assert!(of_one.contains(&key(&second)) && !of_one.contains(&key(&first)), "{of_one}");
    for name in [key(&first), first.id.clone()] {
        let one = act(&gate, &Call::new("GET", &format!("/sessions/{name}")));
        assert_eq!(one.json()["client_id"], CLIENT, "{one:?}");
    }
    let walked: Vec<_> = std::iter::successors(Some(String::new()), |after| {
        let page = act(&gate, &Call::new("GET", &format!("/sessions?limit=1{after}"))).json();
        page["next"].as_str().map(|next| format!("&after={next}"))
    })
    .collect();
    assert!((2..=3).contains(&walked.len()), "two pages and perhaps an empty one: {walked:?}");
}

#[test]
fn a_revoked_session_is_gone_for_its_owner_at_once() {
    let origin = Origin::start();
    let gate = administered(&origin);
    let (by_id, by_key, kept) = (gate.open(), gate.open(), gate.open());
    act(&gate, &Call::new("DELETE", &format!("/sessions/{}", by_id.id))).assert_status(200);
    act(&gate, &Call::new("DELETE", &format!("/sessions/{}", key(&by_key)))).assert_status(200);

    for session in [&by_id, &by_key] {
        gate.send(&session.get("/orders")).assert_refused("session-revoked");
        gate.send(&session.get("/session")).assert_refused("session-revoked");
        let stranger = session.with_token(&token_with(json!({"sub": "x"})));
        gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    }
    gate.send(&kept.get("/orders")).assert_status(200);
    assert_eq!(origin.calls(), 1);
    act(&gate, &Call::new("DELETE", "/sessions/00000000-0000-4000-8000-000000000000")).assert_status(404);
    act(&gate, &Call::new("DELETE", "/sessions/nonsense")).assert_status(400);
}

#[test]
fn sessions_are_revoked_by_client_by_subject_and_by_age() {
    let origin = Origin::start();
    let gate = administered(&origin);
    let other = token_with(json!({"client_id": OTHER_CLIENT}));
    let subject = token_with(json!({"sub": "buyer-2"}));

    let (mine, theirs) = (gate.open(), gate.open_as(&other, OTHER_CLIENT));
    assert_eq!(revoke(&gate, &json!({"client_id": OTHER_CLIENT})).json()["revoked"], 1);
    gate.send(&theirs.get("/orders")).assert_refused("session-revoked");
    gate.send(&mine.get("/orders")).assert_status(200);

    let second = gate.open_as(&subject, CLIENT);
    assert_eq!(revoke(&gate, &json!({"client_id": CLIENT, "subject": "buyer-2"})).json()["revoked"], 1);
    gate.send(&second.get("/orders")).assert_refused("session-revoked");
    gate.send(&mine.get("/orders")).assert_status(200);

    assert_eq!(revoke(&gate, &json!({"issued_before": "2001-01-01T00:00:00Z"})).json()["revoked"], 0);
    let soon = jiff::Timestamp::now() + Duration::from_secs(60);
    assert_eq!(revoke(&gate, &json!({"issued_before": soon.to_string()})).json()["revoked"], 1);
    gate.send(&mine.get("/orders")).assert_refused("session-revoked");

    let last = gate.open();
    assert_eq!(revoke(&gate, &json!({"session": last.id})).json()["revoked"], 1);
    gate.send(&last.get("/orders")).assert_refused("session-revoked");
    for wrong in [json!({}), json!({"clint_id": "x"}), json!({"issued_before": "yesterday"}), json!([])] {
        assert_eq!(revoke(&gate, &wrong).status, 400, "{wrong}");
    }
}

#[test]
fn a_suspended_session_is_403_until_it_is_resumed() {
    let origin = Origin::start();
    let gate = administered(&origin);
    let session = gate.open();
    act(&gate, &Call::new("POST", &format!("/sessions/{}/suspend", key(&session)))).assert_status(200);

    gate.send(&session.get("/orders")).assert_refused("session-suspended");
    let stranger = session.with_token(&token_with(json!({"sub": "x"})));
    gate.send(&stranger.get("/orders")).assert_refused("session-not-found");
    origin.assert_untouched();

    act(&gate, &Call::new("POST", &format!("/sessions/{}/resume", key(&session)))).assert_status(200);
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn admin_actions_are_logged_with_the_key_and_without_secrets() {
    let origin = Origin::start();
    let gate = administered(&origin);
    let session = gate.open();
    act(&gate, &Call::new("DELETE", &format!("/sessions/{}", session.id))).assert_status(200);
    gate.await_stderr(&key(&session));
    gate.admin(&Call::new("GET", "/sessions").field("authorization", "Bearer wrong"));
    eventually("the refused try is logged", || gate.stderr().contains("without a valid token"));
}

/// Series by name and labels, without their values.
fn series(metrics: &str) -> BTreeSet<String> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.rsplit_once(' ').expect("a sample has a value").0.to_owned()).collect()
}

#[test]
fn metrics_are_valid_prometheus_text() {
    let origin = Origin::start();
    let gate = Setup::file_less(&origin.url()).with_admin().start();
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    gate.send(&Call::new("GET", "/orders")).assert_refused("credentials-missing");
    let metrics = gate.metrics();

    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut promtool = promtool.expect("promtool (tests/run installs it: apt-get install prometheus)");
    std::io::Write::write_all(&mut promtool.stdin.take().expect("stdin is piped"), metrics.as_bytes())
        .expect("it reads");
    let done = promtool.wait_with_output().expect("it ends");
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    for name in ["process_resident_memory_bytes", "sessiongate_sessions_live 1", "sessiongate_calls_total{"] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert!(
        metrics.lines().any(|line| line.contains("code=\"credentials-missing\"") && line.ends_with(" 1")),
        "{metrics}"
    );
}

#[test]
fn no_series_ever_carries_what_a_request_brought() {
    let origin = Origin::start();
    let gate = Setup::file_less(&origin.url()).with_admin().start();
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    let before = series(&gate.metrics());

    for number in 0..40 {
        gate.send(&session.get(&format!("/secret-path-{number}")));
        gate.send(&Call::new("GET", &format!("/secret-path-{number}")));
        gate.send(&session.get("/a%2Fb"));
    }
    for number in 0..20 {
        gate.send(&session.call(&format!("SECRETMETHOD{number}"), "/orders"));
        gate.send(&session.get("/orders").set("client-id", &format!("secret-client-{number}")));
        gate.send(&session.get("/orders").set("session-id", &format!("758fc320-af96-4faf-8af7-5{number:011}")));
    }
    let scrape = quickest(|| _ = gate.metrics());
    assert!(scrape < Duration::from_secs(1), "{scrape:?}");
    let metrics = gate.metrics();
    let after = series(&metrics);
    assert!(after.difference(&before).count() < 60, "{:?}", after.difference(&before).collect::<Vec<_>>());
    let lower = metrics.to_lowercase();
    for word in [
        "secret-path",
        "secretmethod",
        "secret-client",
        "758fc320",
        &session.id,
        &session.token,
        &CLIENT.to_lowercase(),
    ] {
        assert!(!lower.contains(word), "{word} in {metrics}");
    }
}

#[test]
fn failures_of_an_upstream_are_told_apart() {
    let origin = Origin::answering(|seen, line| if seen.target == "/silent" { line.hang() } else { line.close() });
    let config = Config::new(&origin.url())
        .section("admin", "address = \"127.0.0.1:0\"")
        .upstream_setting("response_timeout = \"1s\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    gate.send(&session.post("/broken", "{}")).assert_refused("upstream-failed");
    gate.send(&session.post("/silent", "{}")).assert_refused("upstream-timeout");
    let metrics = gate.metrics();
    for code in ["upstream-failed", "upstream-timeout"] {
        let counted = metrics.lines().any(|line| {
            line.starts_with("sessiongate_calls_total")
                && line.contains(&format!("code=\"{code}\""))
                && line.ends_with(" 1")
        });
        assert!(counted, "{code} in {metrics}");
    }
}
