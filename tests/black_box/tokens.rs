//! Access tokens: which are believed, which are not, and what the caller is told.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::{
    CLIENT, Call, Config, Gate, Origin, SECRET, Session, Setup, claims, now, sign, sign_with, token, token_with,
    violations,
};

/// Field case S17: the scheme.
#[test]
fn the_scheme_has_any_case_and_one_or_more_spaces() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for scheme in ["bearer ", "BEARER ", "Bearer  ", "bEaReR    "] {
        let value = format!("{scheme}{}", session.token);
        gate.send(&Session::opening(&session.token, CLIENT).set("authorization", &value)).assert_status(201);
        gate.send(&session.get("/orders").set("authorization", &value)).assert_status(200);
        assert_eq!(origin.last().field("authorization").map(|text| text.ends_with(&session.token)), Some(true));
    }
}

#[test]
fn credentials_of_another_form_are_told_apart_from_bad_tokens() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let with = |value: &str| session.get("/orders").set("authorization", value);

    for value in ["", "Basic dTpw", "Digest abc", "Bearerx abc", &session.token] {
        let reply = gate.send(&with(value));
        reply.assert_refused("credentials-missing");
        let challenge = reply.field("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Bearer") && !challenge.contains("error="), "bare: {challenge}");
    }
    for value in ["Bearer", "Bearer a b", "Bearer a\"b", "Bearer a\u{e9}", "Bearer ==", "Bearer {}", "Bearer \ta"] {
        let reply = gate.send(&with(value));
        reply.assert_refused("credentials-malformed");
        assert!(reply.field("www-authenticate").is_none_or(|text| text.contains("invalid_request")), "{value}");
    }
    let oversize = format!("Bearer {}", "a".repeat(8 * 1024 + 1));
    gate.send(&with(&oversize)).assert_refused("credentials-malformed");
    gate.send(&with(&format!("Bearer {}", "a".repeat(8 * 1024)))).assert_refused("token-invalid");
    origin.assert_untouched();
}

/// Field case S21: a 401 says how.
#[test]
fn every_401_says_how() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());

    for call in [
        Call::new("GET", "/orders"),
        Call::new("POST", "/session"),
        Call::new("POST", "/session").field("client-id", CLIENT),
        Session::opening("junk", CLIENT),
    ] {
        let reply = gate.send(&call);
        assert_eq!(reply.status, 401, "{reply:?}");
        assert!(reply.field("www-authenticate").is_some_and(|text| text.starts_with("Bearer")), "{reply:?}");
    }
    let invalid = gate.send(&Session::opening("junk", CLIENT));
    assert!(
        invalid.field("www-authenticate").is_some_and(|text| text.contains("error=\"invalid_token\"")),
        "{invalid:?}"
    );
    origin.assert_untouched();
}

#[test]
fn a_token_in_the_query_is_refused_whatever_else_is_right() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    let target = format!("/orders?a=1&access_token={}", session.token);
    let problem = gate.send(&session.get(&target)).assert_refused("credentials-malformed");
    assert_eq!(violations(&problem), [("authorization".to_owned(), "invalid".to_owned())]);
    assert!(!problem.to_string().contains(&session.token));
    gate.send(&session.get("/orders?access_token=").without("authorization")).assert_refused("credentials-malformed");
    gate.send(&Session::opening(&session.token, CLIENT).to("POST", "/session?access_token=x"))
        .assert_refused("credentials-malformed");
    origin.assert_untouched();
}

#[test]
fn tokens_that_do_not_verify_are_refused() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let payload = claims().to_string();
    let good = token();
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let unsigned = |header: &str| sign(header, &payload).rsplit_once('.').expect("three parts").0.to_owned();

    for (name, token) in [
        ("junk", "junk".to_owned()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.x")),
        ("no signature", format!("{message}.")),
        ("another signature", format!("{message}.{}", signature.chars().rev().collect::<String>())),
        ("a cut signature", format!("{message}.{}", &signature[..20])),
        ("another secret", sign_with(r#"{"alg":"HS256"}"#, &payload, hmac::HMAC_SHA256, &[b'x'; 40])),
        ("alg none", format!("{}.", unsigned(r#"{"alg":"none"}"#))),
        ("alg None", format!("{}.", unsigned(r#"{"alg":"None"}"#))),
        ("alg nOnE, signed", sign(r#"{"alg":"nOnE"}"#, &payload)),
        ("no alg", sign(r#"{"typ":"JWT"}"#, &payload)),
        ("alg of another kind", sign(r#"{"alg":"RS256"}"#, &payload)),
        (
            "alg that the key does not have",
            sign_with(r#"{"alg":"HS512"}"#, &payload, hmac::HMAC_SHA512, SECRET.as_bytes()),
        ),
        ("a lower-case alg", sign(r#"{"alg":"hs256"}"#, &payload)),
        ("a critical extension", sign(r#"{"alg":"HS256","crit":["exp"]}"#, &payload)),
        (
            "an embedded key",
            sign_with(
                r#"{"alg":"HS256","jwk":{"kty":"oct","k":"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"}}"#,
                &payload,
                hmac::HMAC_SHA256,
                &[b'x'; 32],
            ),
        ),
        (
            "a key by address",
            sign_with(
                r#"{"alg":"HS256","jku":"http://127.0.0.1:1/jwks","kid":"../../../../dev/null"}"#,
                &payload,
                hmac::HMAC_SHA256,
                b"",
            ),
        ),
        ("a payload that is no object", sign(r#"{"alg":"HS256"}"#, "[]")),
        ("no JSON", sign(r#"{"alg":"HS256"}"#, "exp")),
        ("a header that is no JSON", sign("alg", &payload)),
        ("no exp", token_with(json!({"exp": null}))),
        ("exp as text", token_with(json!({"exp": (now() + 600).to_string()}))),
        ("nbf as text", token_with(json!({"nbf": now().to_string()}))),
        ("exp below zero", token_with(json!({"exp": -1}))),
        (
            "exp twice",
            sign(r#"{"alg":"HS256"}"#, &format!(r#"{{"client_id":"{CLIENT}","exp":{},"exp":1}}"#, now() + 60)),
        ),
        ("no client", token_with(json!({"client_id": null}))),
        ("a client that is no text", token_with(json!({"client_id": 7}))),
    ] {
        let reply = gate.send(&session.with_token(&token).get("/orders"));
        assert_eq!(reply.status, 401, "{name}: {}", reply.text());
        reply.assert_refused("token-invalid");
        let opening = gate.send(&Session::opening(&token, CLIENT));
        assert_eq!(opening.status, 401, "{name}: {}", opening.text());
    }
    origin.assert_untouched();
}

/// Field cases S18 and S20: fractional times, and the clock.
#[test]
fn the_clock_decides_with_one_leeway() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let send = |changes: Value| gate.send(&session.with_token(&token_with(changes)).get("/orders"));

    for changes in [
        json!({"exp": now() - 3600}),
        json!({"exp": now() - 600}),
        json!({"nbf": now() + 3600}),
        json!({"exp": 0}),
        json!({"exp": 1.5}),
    ] {
        send(changes).assert_refused("token-invalid");
    }
    origin.assert_untouched();
    for changes in [
        json!({"iat": now() + 2}),
        json!({"exp": now() + 30}),
        json!({"nbf": now()}),
        json!({"exp": now() as f64 + 600.25, "iat": now() as f64 - 0.5}),
        json!({"exp": 4e9}),
        json!({"exp": 1e300}),
        json!({"iat": null}),
    ] {
        send(changes).assert_status(200);
    }
}

#[test]
fn the_leeway_is_a_setting() {
    let origin = Origin::start();
    let issuer = "name = \"main\"\nleeway = \"5m\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]";
    let gate = Gate::configured(&Config::new(&origin.url()).issuer(issuer));
    let session = gate.open();

    for (changes, status) in [
        (json!({"exp": now() - 250}), 200),
        (json!({"exp": now() - 350}), 401),
        (json!({"nbf": now() + 250}), 200),
        (json!({"nbf": now() + 350}), 401),
    ] {
        let reply = gate.send(&session.with_token(&token_with(changes.clone())).get("/orders"));
        assert_eq!(reply.status, status, "{changes}: {}", reply.text());
    }
}

#[test]
fn a_remembered_token_still_ends_in_time() {
    let origin = Origin::start();
    let issuer = "name = \"main\"\nleeway = \"0s\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]";
    let gate = Gate::configured(&Config::new(&origin.url()).issuer(issuer));
    let session = gate.open();
    let short = session.with_token(&token_with(json!({"exp": now() + 4})));

    gate.send(&short.get("/orders")).assert_status(200);
    crate::harness::eventually("the token expires", || gate.send(&short.get("/orders")).status == 401);
    gate.send(&short.get("/orders")).assert_refused("token-invalid");
    gate.send(&session.get("/orders")).assert_status(200);
}

/// Field case S19: one audience, two shapes.
#[test]
fn one_audience_has_two_shapes() {
    let origin = Origin::start();
    let gate = Setup::file_less(&origin.url()).args(&["--audience", "orders"]).start();

    for (audience, status) in [
        (json!("orders"), 201),
        (json!(["orders", "other"]), 201),
        (json!(["other", "orders"]), 201),
        (json!("other"), 401),
        (json!(["other"]), 401),
        (json!([]), 401),
        (json!(null), 401),
        (json!("orders "), 401),
        (json!({"orders": true}), 401),
    ] {
        let reply = gate.send(&Session::opening(&token_with(json!({"aud": audience})), CLIENT));
        assert_eq!(reply.status, status, "{audience}: {}", reply.text());
    }
    let without = Gate::file_less(&origin.url());
    without.send(&Session::opening(&token_with(json!({"aud": "anything"})), CLIENT)).assert_status(201);
}

#[test]
fn the_client_id_must_be_the_tokens() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for other in ["another", &CLIENT.to_lowercase(), &CLIENT[1..], &format!("{CLIENT}x")] {
        gate.send(&session.get("/orders").set("client-id", other)).assert_refused("client-mismatch");
        gate.send(&Session::opening(&session.token, other)).assert_refused("client-mismatch");
    }
    origin.assert_untouched();
}

#[test]
fn a_sid_claim_binds_the_token_to_its_session() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let (session, other) = (gate.open(), gate.open());

    let bound = session.with_token(&token_with(json!({"sid": session.id})));
    gate.send(&bound.get("/orders")).assert_status(200);
    let elsewhere = session.with_token(&token_with(json!({"sid": other.id})));
    gate.send(&elsewhere.get("/orders")).assert_refused("session-mismatch");
    gate.send(&session.with_token(&token_with(json!({"sid": "x"}))).get("/orders")).assert_refused("session-mismatch");
    assert_eq!(origin.calls(), 1);
}

/// A key pair as rcgen makes it, and the algorithm it signs with.
fn pairs() -> Vec<(Algorithm, rcgen::KeyPair)> {
    let rsa = || rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    vec![
        (Algorithm::RS256, rsa()),
        (Algorithm::PS256, rsa()),
        (Algorithm::ES256, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key")),
        (Algorithm::ES384, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key")),
        (Algorithm::EdDSA, rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key")),
    ]
}

fn signing(algorithm: Algorithm, pair: &rcgen::KeyPair) -> EncodingKey {
    let pem = pair.serialize_pem();
    match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
    }
    .expect("a signing key")
}

fn signed(algorithm: Algorithm, key: &EncodingKey) -> String {
    let header = Header { kid: Some(format!("{algorithm:?}")), ..Header::new(algorithm) };
    let mut claims = claims();
    claims["iss"] = json!(format!("issuer-{algorithm:?}"));
    encode(&header, &claims, key).expect("a token")
}

#[test]
fn tokens_of_every_algorithm_are_verified_with_keys_from_pem() {
    let origin = Origin::start();
    let mut config = Config::new(&origin.url());
    let pairs = pairs();
    for (algorithm, _) in &pairs {
        let mut issuer = format!(
            "name = \"issuer-{algorithm:?}\"\nissuer = \"issuer-{algorithm:?}\"\nkeys = [{{ pem = {{ file = \"{{dir}}/{algorithm:?}.pem\" }}, kid = \"{algorithm:?}\""
        );
        let _ = write!(issuer, ", algorithms = [\"{algorithm:?}\"] }}]");
        config = config.issuer(&issuer);
    }
    let setup = Setup::configured(&config);
    for (algorithm, pair) in &pairs {
        setup.write(&format!("{algorithm:?}.pem"), pair.public_key_pem());
    }
    let gate = setup.start();

    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    for (algorithm, pair) in &pairs {
        let session = gate.open_as(&signed(*algorithm, &signing(*algorithm, pair)), CLIENT);
        gate.send(&session.get("/orders")).assert_status(200);
        // A public key is no HMAC secret, whatever the token says (RS256 to HS256 confusion).
        let mut claims = claims();
        claims["iss"] = json!(format!("issuer-{algorithm:?}"));
        let header = format!(r#"{{"alg":"HS256","kid":"{algorithm:?}"}}"#);
        let pem = pair.public_key_pem();
        let confused = sign_with(&header, &claims.to_string(), hmac::HMAC_SHA256, pem.as_bytes());
        gate.send(&Session::opening(&confused, CLIENT)).assert_refused("token-invalid");
        let zeros = format!("{}.{}", confused.rsplit_once('.').expect("three parts").0, "A".repeat(86));
        gate.send(&Session::opening(&zeros, CLIENT)).assert_refused("token-invalid");
    }
    let foreign = signed(Algorithm::ES256, &signing(Algorithm::ES256, &other));
    gate.send(&Session::opening(&foreign, CLIENT)).assert_refused("token-invalid");
    assert_eq!(origin.calls(), pairs.len());
}

#[test]
fn tokens_of_every_algorithm_are_verified_with_keys_from_a_key_set() {
    let origin = Origin::start();
    let mut config = Config::new(&origin.url());
    let pairs = pairs();
    for (algorithm, _) in &pairs {
        config = config.issuer(&format!(
            "name = \"issuer-{algorithm:?}\"\nissuer = \"issuer-{algorithm:?}\"\nkeys = [{{ jwks = {{ file = \"{{dir}}/jwks.json\" }} }}]"
        ));
    }
    let setup = Setup::configured(&config);
    let keys: Vec<Value> = pairs
        .iter()
        .map(|(algorithm, pair)| {
            let mut jwk = match algorithm {
                Algorithm::EdDSA => {
                    json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
                }
                _ => {
                    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&signing(*algorithm, pair), *algorithm);
                    serde_json::to_value(jwk.expect("a JWK")).expect("a JWK is JSON")
                }
            };
            jwk["kid"] = json!(format!("{algorithm:?}"));
            jwk
        })
        .chain([json!({"kty": "unknown"})])
        .collect();
    setup.write("jwks.json", json!({ "keys": keys }).to_string());
    let gate = setup.start();

    for (algorithm, pair) in &pairs {
        let session = gate.open_as(&signed(*algorithm, &signing(*algorithm, pair)), CLIENT);
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!(origin.calls(), pairs.len());
}

#[test]
fn longer_hmacs_work_where_the_key_names_them() {
    let origin = Origin::start();
    let issuer =
        "name = \"main\"\nkeys = [{ secret = { file = \"{dir}/secret\" }, algorithms = [\"HS384\", \"HS512\"] }]";
    let gate = Gate::configured(&Config::new(&origin.url()).issuer(issuer));
    let payload = claims().to_string();

    for (alg, algorithm, status) in
        [("HS384", hmac::HMAC_SHA384, 201), ("HS512", hmac::HMAC_SHA512, 201), ("HS256", hmac::HMAC_SHA256, 401)]
    {
        let token = sign_with(&format!(r#"{{"alg":"{alg}"}}"#), &payload, algorithm, SECRET.as_bytes());
        assert_eq!(gate.send(&Session::opening(&token, CLIENT)).status, status, "{alg}");
    }
}

#[test]
fn issuers_are_told_apart_by_iss_and_keys_by_kid() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .issuer("name = \"main\"\nissuer = \"ENTAPI\"\nkeys = [{ secret = { file = \"{dir}/secret\" }, kid = \"k1\" }, { secret = { file = \"{dir}/second\" }, kid = \"k2\" }]")
        .issuer("name = \"other\"\nissuer = \"OTHER\"\nkeys = [{ secret = { file = \"{dir}/second\" } }]");
    let setup = Setup::configured(&config);
    let second = [b's'; 48];
    setup.write("second", second);
    let gate = setup.start();
    let of = |header: &str, iss: Value, secret: &[u8]| {
        let mut claims = claims();
        claims["iss"] = iss;
        let token = sign_with(header, &claims.to_string(), hmac::HMAC_SHA256, secret);
        gate.send(&Session::opening(&token, CLIENT)).status
    };
    let secret = SECRET.as_bytes();

    assert_eq!(of(r#"{"alg":"HS256","kid":"k1"}"#, json!("ENTAPI"), secret), 201);
    assert_eq!(of(r#"{"alg":"HS256","kid":"k2"}"#, json!("ENTAPI"), &second), 201);
    assert_eq!(of(r#"{"alg":"HS256"}"#, json!("ENTAPI"), &second), 201, "without a kid every key is tried");
    assert_eq!(of(r#"{"alg":"HS256","kid":"k2"}"#, json!("ENTAPI"), secret), 401);
    assert_eq!(of(r#"{"alg":"HS256","kid":"k3"}"#, json!("ENTAPI"), secret), 401);
    assert_eq!(of(r#"{"alg":"HS256"}"#, json!("OTHER"), &second), 201);
    assert_eq!(of(r#"{"alg":"HS256"}"#, json!("OTHER"), secret), 401);
    assert_eq!(of(r#"{"alg":"HS256"}"#, json!("NOBODY"), secret), 401);
    assert_eq!(of(r#"{"alg":"HS256"}"#, json!(null), secret), 401);
    assert_eq!(of(r#"{"alg":"HS256"}"#, json!(["ENTAPI"]), secret), 401);
}

#[test]
fn a_newline_at_the_end_of_the_secret_file_is_not_part_of_the_key() {
    let origin = Origin::start();
    let setup = Setup::file_less(&origin.url());
    setup.write("secret", format!("{SECRET}\n"));
    let gate = setup.start();
    gate.open();
}
