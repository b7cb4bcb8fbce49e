//! `www-authenticate` (RFC 6750 section 3): how to come by what is missing, and nothing where no token would help.

use serde_json::json;

use crate::harness::{CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Session, now, token_with};

const REALM: &str = "Bearer realm=\"sessiongate\"";

#[test]
fn each_refusal_has_the_challenge_of_its_kind_and_the_others_have_none() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("sessions", "max_live_per_client = 3")
        .route("name = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"\nmethods = [\"GET\"]")
        .route("name = \"list\"\npath = \"/list\"\nscopes = [\"orders.read\", \"orders.list\"]\nupstream = \"shop\"")
        .route("name = \"any\"\npath = \"/any\"\nscopes = { any = [\"a\", \"b\"] }\nupstream = \"shop\"");
    let gate = Gate::administered_with(config);
    let (session, closed, suspended) = (gate.open(), gate.open(), gate.open());
    gate.operate(&Call::new("POST", &format!("/sessions/{}/suspend", suspended.id))).assert_status(200);
    let at_the_cap = Session::opening(&session.token, CLIENT);
    gate.send(&at_the_cap).assert_refused("session-limit");
    gate.send(&closed.call("DELETE", "/session")).assert_status(204);

    let malformed = Some("error=\"invalid_request\", error_description=\"the credentials are malformed\"");
    let invalid = Some("error=\"invalid_token\", error_description=\"the access token is invalid or has expired\"");
    let get = || session.get("/orders");
    let with = |changes| session.with_token(&token_with(changes)).get("/orders");
    let cases: Vec<(Call, &str, Option<Option<&str>>)> = vec![
        // No credentials: the scheme, and no error code (section 3.1).
        (get().without("authorization"), "credentials-missing", Some(None)),
        (get().set("authorization", "Basic dXNlcjpwYXNz"), "credentials-missing", Some(None)),
        (get().set("authorization", "Bearer a b"), "credentials-malformed", Some(malformed)),
        (get().set("authorization", &format!("Bearer {}", "x".repeat(9000))), "credentials-malformed", Some(malformed)),
        (session.get(&format!("/orders?access_token={}", session.token)), "credentials-malformed", Some(malformed)),
        (get().field("authorization", "Bearer a.b.c"), "header-repeated", Some(malformed)),
        (get().set("authorization", "Bearer a.b.c"), "token-invalid", Some(invalid)),
        (with(json!({"exp": now() - 9})), "token-invalid", Some(invalid)),
        (with(json!({"nbf": now() + 900})), "token-invalid", Some(invalid)),
        (
            session.get("/list"),
            "scope-insufficient",
            Some(Some("error=\"insufficient_scope\", scope=\"orders.read orders.list\"")),
        ),
        (session.get("/any"), "scope-insufficient", Some(Some("error=\"insufficient_scope\", scope=\"a b\""))),
        // No other token would help.
        (get().set("client-id", OTHER_CLIENT), "client-mismatch", None),
        (with(json!({"sid": "758fc320-af96-4faf-8af7-536e7cac5775"})), "session-mismatch", None),
        (get().without("session-id"), "header-missing", None),
        (get().set("session-id", "7"), "header-invalid", None),
        (get().field("client-id", CLIENT), "header-repeated", None),
        (with(json!({"sub": "x"})), "session-not-found", None),
        (closed.get("/orders"), "session-closed", None),
        (suspended.get("/orders"), "session-suspended", None),
        (session.call("PUT", "/orders"), "method-not-allowed", None),
        (session.get("/a%2Fb"), "request-malformed", None),
    ];
    for (call, code, challenge) in cases {
        let reply = gate.send(&call);
        reply.assert_refused(code);
        let expected: Vec<String> = challenge
            .map(|error| error.map_or(REALM.to_owned(), |error| format!("{REALM}, {error}")))
            .into_iter()
            .collect();
        assert_eq!(reply.all("www-authenticate"), expected, "{code}: {call:?}");
    }
    origin.assert_untouched();
}

#[test]
fn the_session_endpoint_names_its_scopes_too() {
    let origin = Origin::start();
    let gate = Gate::configured(&Config::new(&origin.url()).section("sessions", "scopes = [\"sessions.open\"]"));
    let refused = gate.send(&Session::opening(&token_with(json!({})), CLIENT));
    refused.assert_refused("scope-insufficient");
    let challenge = format!("{REALM}, error=\"insufficient_scope\", scope=\"sessions.open\"");
    assert_eq!(refused.all("www-authenticate"), [challenge]);
}

#[test]
fn a_status_of_the_operators_choice_keeps_challenge_and_status_in_step() {
    let origin = Origin::start();
    let status = "status = { \"scope-insufficient\" = 404, \"token-invalid\" = 400, \"session-closed\" = 401 }";
    let config = Config::new(&origin.url())
        .section("errors", status)
        .route("name = \"list\"\npath = \"/list\"\nscopes = [\"orders.read\"]\nupstream = \"shop\"")
        .catch_all();
    let gate = Gate::configured(&config);
    let session = gate.open();
    let hidden = gate.send(&session.get("/list"));
    hidden.assert_refused_with_status("scope-insufficient", Some(404));
    assert_eq!(hidden.field("www-authenticate"), None);
    let invalid = gate.send(&session.get("/orders").set("authorization", "Bearer a.b.c"));
    invalid.assert_refused_with_status("token-invalid", Some(400));
    assert!(invalid.field("www-authenticate").is_some_and(|text| text.contains("invalid_token")), "{invalid:?}");
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    let closed = gate.send(&session.get("/orders"));
    assert_eq!((closed.status, closed.field("www-authenticate")), (401, Some(REALM)), "a 401 says how");
}
