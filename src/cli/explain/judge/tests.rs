use std::path::Path;

use http::header::{HeaderName, HeaderValue};
use sessiongate::config;
use sessiongate::policy::time::Timestamp;

use super::*;
use crate::cli::token;

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
    let token = token::mint(SECRET, claims.as_object().unwrap().clone()).unwrap();
    format!("Bearer {token}")
}

fn ask(method: &str, path: &str, fields: &[(&str, &str)]) -> Explanation {
    ask_of(&snapshot(), method, path, fields)
}

fn ask_of(live: &Snapshot, method: &str, path: &str, fields: &[(&str, &str)]) -> Explanation {
    let mut headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    headers.insert("host", HeaderValue::from_static("localhost"));
    let (method, uri) = (Method::from_bytes(method.as_bytes()).unwrap(), path.parse().unwrap());
    let asked = Asked { method: &method, uri: &uri, headers: &headers, has_body: false };
    let now = Timestamp::from_secs(NOW);
    explain(live, &asked, Now { wall: now, steady: now })
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
    let text = super::super::text::render(&explanation, Path::new("f"));
    let json = serde_json::to_string(&explanation).unwrap();
    for shown in [text, json] {
        let secrets = [token.as_str(), SESSION, "hidden"];
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
        assert!(shown.contains("x-user"), "{shown}");
    }
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
