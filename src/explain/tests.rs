use serde_json::json;

use super::*;
use crate::config;
use crate::policy::time::Timestamp;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const SESSION: &str = "758fc320-af96-4faf-8af7-536e7cac5775";
const NOW: u64 = 1_000_000;

fn snapshot() -> Snapshot {
    snapshot_with(None)
}

fn snapshot_with(clients: Option<&str>) -> Snapshot {
    _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), SECRET).unwrap();
    let text = r#"
        version = 1
        listeners = [{ address = "127.0.0.1:8080" }]
        issuers = [{ name = "main", keys = [{ secret = { file = "key" } }] }]
        upstreams = [{ name = "orders", endpoints = ["http://127.0.0.1:9000"] }]
        [[routes]]
        name = "offers"
        path = "/offers"
        methods = ["GET"]
        scopes = ["read"]
        upstream = "orders"
        [[routes]]
        name = "open"
        path = "/open"
        exempt = true
        upstream = "orders"
        [[routes]]
        name = "configure"
        path = "/configuration"
        upstream = "orders"
        [[routes]]
        name = "order"
        path = "/order"
        methods = ["POST"]
        upstream = "orders"
        [[flows]]
        name = "ordering"
        [[flows.steps]]
        name = "offer"
        routes = ["offers"]
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
        max_gap = "30m"
        exclusive = true
        idempotency = "required"
        [[rate_limits]]
        name = "per-client"
        per = "client"
        requests = 2
        window = "1m"
    "#;
    let mut text = text.to_owned();
    if let Some(clients) = clients {
        std::fs::write(folder.path().join("clients.toml"), clients).unwrap();
        text.push_str("[clients]\npath = \"clients.toml\"\n");
    }
    config::parse(&text, &folder.path().join("test.toml"), 1).unwrap_or_else(|errors| panic!("{errors}"))
}

fn bearer(client: &str, scope: &str, exp: u64) -> String {
    let claims = serde_json::json!({ "client_id": client, "scope": scope, "exp": exp, "sub": "user" });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&Default::default(), &claims, &key).unwrap();
    format!("Bearer {token}")
}

fn ask(method: &str, path: &str, fields: &[(&str, &str)]) -> Explanation {
    ask_of(&snapshot(), method, path, fields)
}

fn ask_of(live: &Snapshot, method: &str, path: &str, fields: &[(&str, &str)]) -> Explanation {
    ask_in(live, InSession::Unknown, None, method, path, fields)
}

fn ask_in(
    live: &Snapshot,
    session: InSession,
    limiter: Option<&Limiter>,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Explanation {
    let mut headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    headers.insert("host", HeaderValue::from_static("localhost"));
    if matches!(session, InSession::Told(_)) {
        stand_in(live, &mut headers, None);
    }
    let (method, uri) = (Method::from_bytes(method.as_bytes()).unwrap(), path.parse().unwrap());
    let asked = Asked { method: &method, uri: &uri, headers: &headers, has_body: false, address: None };
    explain(live, &asked, Known { session, limiter, now: now() })
}

fn now() -> Now {
    let now = Timestamp::from_secs(NOW);
    Now { wall: now, steady: now }
}

fn told(live: &Snapshot, session: serde_json::Value) -> InSession {
    let session: SessionSnapshot = serde_json::from_value(session).unwrap();
    InSession::Told(Box::new(session.understand(live, now()).unwrap()))
}

/// Stage and code of a refusal.
fn refusal(explanation: &Explanation) -> (&'static str, &'static str) {
    let Verdict::Refused { code, .. } = explanation.verdict else { panic!("{explanation:?}") };
    (explanation.stages.last().unwrap().name, code)
}

#[test]
fn each_refusal_belongs_to_its_stage() {
    let good = bearer("shop", "read", NOW + 60);
    let six = |token: &str, client: &str| {
        let fields = [("authorization", token), ("client-id", client), ("session-id", SESSION), ("accept", "*/*")];
        let fields = fields.into_iter().chain([("x-correlation-id", "c")]);
        ask("GET", "/offers", &fields.collect::<Vec<_>>())
    };
    assert_eq!(refusal(&ask("GET", "/a/../b", &[])), ("target", "request-malformed"));
    assert_eq!(refusal(&ask("GET", "/nowhere", &[])), ("route", "route-unknown"));
    assert_eq!(refusal(&ask("POST", "/offers", &[])), ("route", "method-not-allowed"));
    assert_eq!(refusal(&ask("GET", "/offers", &[])), ("headers", "credentials-missing"));
    assert_eq!(refusal(&ask("GET", "/offers", &[("authorization", &good)])), ("headers", "header-missing"));
    assert_eq!(refusal(&six("Bearer a.b.c", "shop")), ("token", "token-invalid"));
    assert_eq!(refusal(&six(&bearer("shop", "read", NOW - 60), "shop")), ("token", "token-invalid"));
    assert_eq!(refusal(&six(&good, "thief")), ("client", "client-mismatch"));
    assert_eq!(refusal(&six(&bearer("shop", "write", NOW + 60), "shop")), ("scopes", "scope-insufficient"));

    let admitted = six(&good, "shop");
    assert!(matches!(admitted.verdict, Verdict::AdmittedInSession { .. }), "{admitted:?}");
    assert_eq!(admitted.stages.last().unwrap().result, Said::NeedsGate);
}

#[test]
fn what_needs_no_session_is_admitted() {
    assert!(matches!(ask("GET", "/open", &[]).verdict, Verdict::Admitted { .. }));
    let create = ask("POST", "/session", &[("authorization", &bearer("shop", "", NOW + 60)), ("client-id", "shop")]);
    assert!(matches!(create.verdict, Verdict::Admitted { .. }), "{create:?}");
}

#[test]
fn nothing_secret_is_shown() {
    let token = bearer("shop", "read", NOW + 60);
    let explanation = ask(
        "GET",
        "/offers?token=hidden",
        &[
            ("authorization", &token),
            ("client-id", "shop"),
            ("session-id", SESSION),
            ("x-correlation-id", "c"),
            ("accept", "application/json"),
            ("x-user", "admin"),
        ],
    );
    let shown = serde_json::to_string(&explanation).unwrap();
    let secrets = [token.as_str(), SESSION, "hidden"];
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    assert!(shown.contains("x-user"), "{shown}");
}

#[test]
fn the_registry_of_clients_has_its_say() {
    let token = bearer("shop", "read write", NOW + 60);
    let fields = [
        ("authorization", token.as_str()),
        ("client-id", "shop"),
        ("session-id", SESSION),
        ("x-correlation-id", "c"),
        ("accept", "*/*"),
    ];
    for (clients, stage, code, fact) in [
        ("id = \"other\"", "client", "client-not-allowed", "the registry does not know it"),
        ("id = \"shop\"\nenabled = false", "client", "client-not-allowed", "the registry has it disabled"),
        (
            "id = \"shop\"\nscopes = [\"write\"]",
            "scopes",
            "scope-insufficient",
            "its client may use scope \"write\" of them",
        ),
    ] {
        let live = snapshot_with(Some(&format!("[[client]]\n{clients}\n")));
        let explanation = ask_of(&live, "GET", "/offers", &fields);
        assert_eq!(refusal(&explanation), (stage, code), "{clients}");
        let facts = &explanation.stages.last().unwrap().facts;
        assert!(facts.iter().any(|found| found == fact), "{fact}: {facts:?}");
    }
}

/// What is said to `POST /order` in a session that is told.
fn order(session: serde_json::Value) -> Explanation {
    let live = snapshot();
    let session = told(&live, session);
    let token = bearer("shop", "read", NOW + 60);
    let fields = [
        ("authorization", token.as_str()),
        ("client-id", "shop"),
        ("idempotency-key", "k"),
        ("x-correlation-id", "c"),
        ("accept", "*/*"),
    ];
    ask_in(&live, session, None, "POST", "/order", &fields)
}

#[test]
fn a_session_that_is_told_is_judged_with_its_steps() {
    let at = |step: &str, ago: &str| json!({ "client_id": "shop", "created_at": "2h ago", "last_seen_at": "1m ago", "step": step, "step_at": ago });
    assert!(
        matches!(order(at("configure", "10m ago")).verdict, Verdict::Admitted { .. }),
        "{:?}",
        order(at("configure", "10m ago"))
    );
    for (session, stage, code, fact) in [
        (at("offer", "1m ago"), "step", "step-not-allowed", "rule after: not done yet: configure"),
        (
            at("configure", "31m ago"),
            "step",
            "step-not-allowed",
            "rule max_gap: 31 min after the step before, and 30 min at most",
        ),
        (at("order", "1m ago"), "step", "step-not-allowed", "rule repeat: it was done, and may be done once"),
        (
            json!({ "client_id": "shop", "step": "configure", "unknown": ["order"] }),
            "step",
            "step-indeterminate",
            "with an unknown outcome: order",
        ),
        (
            json!({ "client_id": "shop", "step": "configure", "running": ["order"] }),
            "step",
            "step-in-progress",
            "running: order",
        ),
        (json!({ "client_id": "shop", "created_at": "1h ago" }), "session", "session-expired", "it is expired"),
        (json!({ "client_id": "shop", "state": "suspended" }), "session", "session-suspended", "session key"),
        (
            json!({ "client_id": "shop", "subject": null }),
            "session",
            "session-not-found",
            "it belongs to subject none, and not user",
        ),
    ] {
        let explanation = order(session.clone());
        assert_eq!(refusal(&explanation), (stage, code), "{session}");
        let facts = &explanation.stages.last().unwrap().facts;
        assert!(facts.iter().any(|found| found.starts_with(fact)), "{fact}: {facts:?}");
    }
}

#[test]
fn a_session_that_cannot_be_is_refused_with_what_is_wrong() {
    let live = snapshot();
    for (session, part) in [
        (json!({ "client_id": "not a client" }), "client-id"),
        (json!({ "client_id": "shop", "state": "open" }), "state is live"),
        (json!({ "client_id": "shop", "flow": "other" }), "no flow \"other\""),
        (json!({ "client_id": "shop", "step": "pay" }), "its steps: offer, configure, order"),
        (json!({ "client_id": "shop", "flow": null, "step": "offer" }), "no flow"),
    ] {
        let read: SessionSnapshot = serde_json::from_value(session).unwrap();
        let error = read.understand(&live, now()).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    for session in
        [json!({}), json!({ "client_id": "shop", "stat": "live" }), json!({ "client_id": "shop", "step_at": "late" })]
    {
        assert!(serde_json::from_value::<SessionSnapshot>(session).is_err());
    }
}

#[test]
fn what_is_left_of_rates_is_told_and_not_taken() {
    let live = snapshot();
    let limiter = Limiter::default();
    let token = bearer("shop", "read", NOW + 60);
    let fields =
        [("authorization", token.as_str()), ("client-id", "shop"), ("x-correlation-id", "c"), ("accept", "*/*")];
    for _ in 0..3 {
        let session = told(&live, json!({ "client_id": "shop" }));
        let explanation = ask_in(&live, session, Some(&limiter), "GET", "/offers", &fields);
        let limits = explanation.stages.last().unwrap();
        assert_eq!((limits.name, limits.result), ("limits", Said::Passed), "{explanation:?}");
        assert!(limits.facts.iter().any(|fact| fact.ends_with("2 are left")), "{limits:?}");
    }
    assert!(limiter.is_empty());
    assert_eq!(live.auth.remembered(), 0, "the token is not remembered");
}
