//! Tokens that the gate issues to its sessions.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Reply, Session, Setup, now, token, token_with};

const TOKENS: &str = "issuer = \"https://gate.test\"\naudiences = [\"orders\"]\nkeys = [{ pem = { file = \"{dir}/first.pem\" } }, { pem = { file = \"{dir}/second.pem\" } }]";

fn config(origin: &Origin, tokens: &str) -> Config {
    let replaced = "name = \"replaced\"\npath = \"/replaced\"\nupstream = \"shop\"\nauthorization = \"replace\"";
    Config::new(&origin.url()).lenient().section("tokens", tokens).route(replaced).catch_all()
}

fn gate(origin: &Origin) -> Gate {
    let setup = Setup::configured(&config(origin, TOKENS));
    setup.write("first.pem", rcgen::KeyPair::generate().expect("a key").serialize_pem());
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    setup.write("second.pem", ed25519.serialize_pem());
    setup.start()
}

/// A session, and the token of the gate for it.
struct Opened {
    /// With the token of the authorization server.
    original: Session,
    /// With the gate's.
    issued: Session,
    state: Value,
}

fn open(gate: &Gate, token: &str, client: &str) -> Opened {
    opened(gate, token, client, &gate.send(&Session::opening(token, client)))
}

fn opened(gate: &Gate, token: &str, client: &str, reply: &Reply) -> Opened {
    reply.assert_status(201);
    let id = reply.field("session-id").expect("an id").to_owned();
    let state = reply.json();
    let original = Session { token: token.into(), client: client.into(), id };
    let issued = original.with_token(access_token(gate, &state));
    Opened { original, issued, state }
}

fn access_token<'s>(gate: &Gate, state: &'s Value) -> &'s str {
    let token = state["access_token"].as_str().expect("a token");
    gate.keep_secret(token.rsplit('.').next().expect("a signature"));
    token
}

/// Header and claims, verified by the published keys as any resource server would.
fn verified(gate: &Gate, token: &str) -> (Value, Value) {
    let published = gate.send(&Call::new("GET", "/.well-known/jwks.json"));
    published.assert_status(200);
    let keys: JwkSet = serde_json::from_slice(&published.body).expect("a key set");
    let header = jsonwebtoken::decode_header(token).expect("a header");
    let key = keys.find(header.kid.as_deref().expect("a kid")).expect("it is published");
    let mut rules = Validation::new(header.alg);
    rules.set_audience(&["orders"]);
    rules.set_issuer(&["https://gate.test"]);
    rules.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    let key = DecodingKey::from_jwk(key).expect("a public key");
    let claims = jsonwebtoken::decode::<Value>(token, &key, &rules).expect("a good token").claims;
    let raw = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header")).expect("base64url");
    (serde_json::from_slice(&raw).expect("JSON"), claims)
}

#[test]
fn a_session_gets_a_token_of_the_gate_that_any_resource_server_can_verify() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let Opened { original, issued, state } = open(&gate, &token(), CLIENT);
    assert_ne!(issued.token, original.token);
    assert_eq!((&state["token_type"], &state["scope"]), (&json!("Bearer"), &json!("listerine.all")));
    assert!((895..=900).contains(&state["expires_in"].as_u64().unwrap_or(0)), "{state}");
    let (header, claims) = verified(&gate, &issued.token);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    for (name, value) in [
        ("sub", json!("buyer-1")),
        ("client_id", json!(CLIENT)),
        ("sid", json!(original.id)),
        ("scope", json!("listerine.all")),
        ("presented", json!({"iss": "ENTAPI", "sub": "buyer-1"})),
    ] {
        assert_eq!(claims[name], value, "{name} in {claims}");
    }
    let time = |name: &str| claims[name].as_u64().expect("a time");
    assert!(time("exp") - time("iat") == 900 && time("iat").abs_diff(now()) < 30, "{claims}");
    origin.assert_untouched();
}

#[test]
fn both_tokens_continue_the_session_and_upstreams_see_the_same_caller() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let Opened { original, issued, .. } = open(&gate, &token(), CLIENT);
    let refreshed = original.with_token(&token_with(json!({"iat": now() - 5})));
    let mut seen = Vec::new();
    for session in [&original, &issued, &refreshed] {
        gate.send(&session.get("/orders")).assert_status(200);
        let last = origin.last();
        assert_eq!(last.field("authorization"), Some(&*format!("Bearer {}", session.token)));
        seen.push(
            ["client-id", "session-id", "x-sg-subject", "x-sg-scopes"].map(|name| last.field(name).map(str::to_owned)),
        );
    }
    assert!(seen.iter().all(|fields| *fields == seen[0]), "{seen:?}");
    gate.http2().exchange(&issued.get("/orders")).assert_status(200);
    assert_eq!(gate.send(&issued.get("/session")).json()["calls"], 5);
    gate.send(&issued.call("DELETE", "/session")).assert_status(204);
    gate.send(&original.get("/orders")).assert_refused("session-closed");
    gate.send(&issued.get("/orders")).assert_refused("session-closed");
}

#[test]
fn a_token_of_the_gate_is_good_for_its_session_and_nothing_else() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let Opened { original, issued, .. } = open(&gate, &token(), CLIENT);
    let second = open(&gate, &original.token, CLIENT);
    let of_other_client = open(&gate, &token_with(json!({"client_id": OTHER_CLIENT})), OTHER_CLIENT);
    let unknown = Session { id: "758fc320-af96-4faf-8af7-536e7cac5775".into(), ..issued.clone() };
    for id in [&second.original.id, &of_other_client.original.id, &unknown.id] {
        let elsewhere = Session { id: id.clone(), ..issued.clone() };
        gate.send(&elsewhere.get("/orders")).assert_refused("session-mismatch");
        gate.send(&elsewhere.call("DELETE", "/session")).assert_refused("session-mismatch");
    }
    gate.send(&Session::opening(&issued.token, CLIENT)).assert_refused("session-mismatch");
    gate.send(&Session { client: OTHER_CLIENT.into(), ..issued.clone() }.get("/orders"))
        .assert_refused("client-mismatch");
    let (body, signature) = issued.token.rsplit_once('.').expect("a signature");
    let forged = format!("{body}.{}", signature.chars().rev().collect::<String>());
    gate.send(&issued.with_token(&forged).get("/orders")).assert_refused("token-invalid");
    // Whoever can sign for the authorization server cannot sign for the gate.
    let posing = token_with(json!({"iss": "https://gate.test", "sid": original.id}));
    gate.send(&issued.with_token(&posing).get("/orders")).assert_refused("token-invalid");
    origin.assert_untouched();
}

#[test]
fn reading_the_session_renews_the_token_but_not_by_itself() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let Opened { original, issued, .. } = open(&gate, &token(), CLIENT);
    let narrow = original.with_token(&token_with(json!({"scope": "offers.read"})));
    let state = gate.send(&narrow.get("/session")).json();
    let renewed = original.with_token(access_token(&gate, &state));
    assert!(renewed.token != issued.token && state["expires_in"].as_u64() > Some(890), "{state}");
    assert_eq!(
        (&state["scope"], &verified(&gate, &renewed.token).1["scope"]),
        (&json!("offers.read"), &json!("offers.read"))
    );
    gate.send(&renewed.get("/orders")).assert_status(200);
    let state = gate.send(&issued.get("/session")).json();
    assert!(state.get("access_token").is_none() && state["state"] == "live", "{state}");
    assert_eq!(state["scope"], "listerine.all");
}

#[test]
fn a_repeated_opening_gets_a_fresh_token_for_the_same_session() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let token = token();
    let opening = Session::opening(&token, CLIENT).field("idempotency-key", "once");
    let [first, second] = [0, 1].map(|_| opened(&gate, &token, CLIENT, &gate.send(&opening)));
    assert_eq!(first.original.id, second.original.id);
    assert_ne!(first.issued.token, second.issued.token);
    gate.send(&first.issued.get("/orders")).assert_status(200);
    gate.send(&second.issued.get("/orders")).assert_status(200);
}

#[test]
fn a_token_ends_in_time_and_never_after_its_session() {
    let origin = Origin::start();
    let setup = Setup::configured(
        &config(&origin, &TOKENS.replace("audiences", "lifetime = \"24h\"\naudiences"))
            .section("sessions", "absolute = \"2h\""),
    );
    for name in ["first.pem", "second.pem"] {
        setup.write(name, rcgen::KeyPair::generate().expect("a key").serialize_pem());
    }
    let gate = setup.start();
    let Opened { state, .. } = open(&gate, &token(), CLIENT);
    assert!((7190..=7200).contains(&state["expires_in"].as_u64().unwrap_or(0)), "{state}");
}

#[test]
fn the_key_set_is_for_everybody_and_for_nothing_but_reading() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let reply = gate.send(&Call::new("GET", "/.well-known/jwks.json?x=1"));
    reply.assert_status(200);
    assert_eq!(reply.field("cache-control"), Some("public, max-age=300"));
    assert!(reply.field("content-type").is_some_and(|text| text.starts_with("application/json")));
    let keys = reply.json()["keys"].as_array().expect("keys").clone();
    assert_eq!(keys.iter().map(|key| &key["alg"]).collect::<Vec<_>>(), [&json!("ES256"), &json!("EdDSA")]);
    assert!(keys.iter().all(|key| key.get("d").is_none()), "{keys:?}");
    let head = gate.send(&Call::new("HEAD", "/.well-known/jwks.json"));
    head.assert_status(200);
    assert!(head.body.is_empty());
    assert_eq!(head.field("content-length"), Some(&*reply.body.len().to_string()));
    let refused = gate.send(&Call::new("POST", "/.well-known/jwks.json"));
    refused.assert_refused("method-not-allowed");
    assert_eq!(refused.field("allow"), Some("GET, HEAD"));
    // Its look-alikes are calls like others.
    gate.send(&Call::new("GET", "/.well-known/jwks.json/")).assert_refused("credentials-missing");
    origin.assert_untouched();

    let without = Gate::strict(&origin.url());
    without.send(&Call::new("GET", "/.well-known/jwks.json")).assert_refused("credentials-missing");
}

#[test]
fn upstreams_get_a_token_of_the_gate_where_the_route_says_so() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let Opened { original, issued, .. } = open(&gate, &token(), CLIENT);
    let mut seen = Vec::new();
    for session in [&original, &issued, &original] {
        gate.send(&session.get("/replaced")).assert_status(200);
        let last = origin.last();
        let [credentials] = last.all("authorization").try_into().expect("one");
        let token = credentials.strip_prefix("Bearer ").expect("a token").to_owned();
        gate.keep_secret(token.rsplit('.').next().expect("a signature"));
        assert_eq!(verified(&gate, &token).1["sid"], json!(original.id));
        seen.push(token);
    }
    assert!(seen.iter().all(|token| *token == seen[0] && *token != original.token), "signed once");
    let other = open(&gate, &original.token, CLIENT);
    gate.send(&other.original.get("/replaced")).assert_status(200);
    let token = origin.last().field("authorization").expect("a token").to_owned();
    assert_eq!(verified(&gate, token.strip_prefix("Bearer ").expect("a token")).1["sid"], json!(other.original.id));
}

#[test]
fn keys_rotate_without_a_failed_call() {
    let origin = Origin::start();
    let gate = Arc::new(gate(&origin));
    let before = open(&gate, &token(), CLIENT);
    let reload = |keys: &str, count: usize| {
        let (start, _) = TOKENS.split_once("keys").expect("keys");
        gate.write_config(&config(&origin, &format!("{start}keys = [{keys}]")));
        gate.signal(Signal::HUP);
        let reloaded = || gate.stderr().matches("configuration reloaded").count() == count;
        crate::harness::eventually("a reload", reloaded);
    };
    let key = |name: &str| format!("{{ pem = {{ file = \"{{dir}}/{name}.pem\" }} }}");
    reload(&format!("{}, {}", key("second"), key("first")), 1);
    let after = open(&gate, &token(), CLIENT);
    assert_eq!(verified(&gate, &after.issued.token).0["alg"], "EdDSA");
    gate.send(&before.issued.get("/orders")).assert_status(200);
    gate.send(&after.issued.get("/orders")).assert_status(200);
    reload(&key("second"), 2);
    gate.send(&before.issued.get("/orders")).assert_refused("token-invalid");
    gate.send(&before.original.get("/orders")).assert_status(200);
    gate.send(&after.issued.get("/orders")).assert_status(200);
}
