//! Issuers that publish their keys: rotation, outages, and a real OpenID provider.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::{
    Authority, CLIENT, Call, Config, Gate, Line, Origin, Provider, SecureOrigin, Seen, Session, Setup, SigningKey,
    claims, eventually,
};

/// An issuer that discovers its keys at a provider.
fn discovered(provider: &Provider, more: &str) -> String {
    format!(
        "name = \"provider\"\nissuer = \"{}\"\naudiences = [\"urn:orders\"]\ntyp = \"at+jwt\"\n\
         [issuers.key_set]\nmin_refresh = \"1s\"\nmax_refresh = \"2s\"\ncooldown = \"1s\"\n{more}\n",
        provider.issuer()
    )
}

fn gate_for(origin: &Origin, issuer: &str) -> Gate {
    Gate::operated(Config::new(&origin.url()).lenient().issuer(issuer))
}

#[test]
fn tokens_of_a_real_provider_open_sessions_and_pass() {
    let (origin, key) = (Origin::start(), SigningKey::new("one"));
    let provider = Provider::start(&[&key]);
    let gate = gate_for(&origin, &discovered(&provider, ""));

    let session = gate.open_as(&provider.token(), CLIENT);
    gate.send(&session.get("/orders")).assert_status(200);
    let shown: Value = serde_json::from_slice(&gate.operate(&Call::new("GET", "/issuers")).body).expect("JSON");
    let issuer = &shown["issuers"][0];
    assert_eq!((&issuer["name"], &issuer["keys"][0]["kid"]), (&json!("provider"), &json!("one")), "{shown}");
    assert!(gate.metrics().contains("sessiongate_issuer_keys{issuer=\"provider\"} 1"));
    assert!(gate.metrics().contains("sessiongate_issuer_keys_age_seconds{issuer=\"provider\"}"));
    // It has another audience, and is opaque.
    gate.send(&Session::opening(&provider.opaque_token(), CLIENT)).assert_refused("token-invalid");
}

#[test]
fn a_rotation_under_load_refuses_no_good_token() {
    let (origin, old, new) = (Origin::start(), SigningKey::new("old"), SigningKey::new("new"));
    let provider = Provider::start(&[&old]);
    let gate = gate_for(&origin, &discovered(&provider, ""));
    let session = gate.open_as(&provider.token(), CLIENT);

    let (done, calls, with_new) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let token = provider.token();
                    // Within the time that both are published.
                    gate.send(&session.with_token(&token).get("/orders")).assert_status(200);
                    calls.fetch_add(1, Ordering::SeqCst);
                    with_new.fetch_add(usize::from(kid(&token) == "new"), Ordering::SeqCst);
                }
            });
        }
        eventually("calls with the old key", || calls.load(Ordering::SeqCst) > 30);
        provider.rotate(&[&new, &old]);
        eventually("calls with the new key", || with_new.load(Ordering::SeqCst) > 30);
        done.store(true, Ordering::SeqCst);
    });

    let by_old = session.with_token(&session.token);
    gate.send(&by_old.get("/orders")).assert_status(200);
    provider.rotate(&[&new]);
    eventually("tokens of the key that is gone are refused", || gate.send(&by_old.get("/orders")).status == 401);
    gate.send(&by_old.get("/orders")).assert_refused("token-invalid");
    gate.send(&session.with_token(&provider.token()).get("/orders")).assert_status(200);
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).expect("a header").kid.expect("a kid")
}

#[test]
fn the_gate_starts_without_its_issuer_and_outlives_it() {
    let (origin, key) = (Origin::start(), SigningKey::new("one"));
    let provider = Provider::absent();
    let other = "name = \"main\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]";
    let config = Config::new(&origin.url()).lenient().issuer(&discovered(&provider, "")).issuer(other);
    let gate = Gate::operated(config);
    let foreign = encode(
        &Header { typ: Some("at+jwt".into()), kid: Some("one".into()), ..Header::new(Algorithm::ES256) },
        &json!({"iss": provider.issuer(), "aud": "urn:orders", "client_id": CLIENT, "exp": 4_000_000_000u64}),
        &es256(),
    )
    .expect("a token");
    gate.send(&Session::opening(&foreign, CLIENT)).assert_refused("issuer-unavailable");
    gate.open();
    assert!(gate.metrics().contains("sessiongate_issuer_keys{issuer=\"provider\"} 0"));

    provider.restart(&[&key]);
    eventually("its tokens are taken", || gate.send(&Session::opening(&provider.token(), CLIENT)).status == 201);
    let session = gate.open_as(&provider.token(), CLIENT);
    let more = provider.token();
    provider.kill();
    gate.send(&session.with_token(&more).get("/orders")).assert_status(200);
    assert_eq!(gate.operate(&Call::new("POST", "/issuers/provider/refresh")).status, 502);
    gate.send(&session.with_token(&more).get("/orders")).assert_status(200);
    provider.restart(&[&key]);
    gate.operate(&Call::new("POST", "/issuers/provider/refresh")).assert_status(200);
    gate.send(&session.with_token(&provider.token()).get("/orders")).assert_status(200);
    assert_eq!(gate.operate(&Call::new("POST", "/issuers/nobody/refresh")).status, 404);
    assert_eq!(gate.operate(&Call::new("POST", "/issuers/main/refresh")).status, 409);
    assert_eq!(gate.operate(&Call::new("GET", "/issuers/main/refresh")).status, 405);
}

fn es256() -> EncodingKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key")
}

/// A key of an issuer that a test writes itself.
struct Published {
    private: EncodingKey,
    entry: Value,
}

impl Published {
    fn new(kid: &str) -> Self {
        let private = es256();
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&private, Algorithm::ES256).expect("a JWK");
        let mut entry = serde_json::to_value(jwk).expect("JSON");
        entry["kid"] = json!(kid);
        Self { private, entry }
    }

    fn sign(&self, kid: &str) -> String {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims(), &self.private).expect("a token")
    }
}

fn set(entries: &[&Value]) -> String {
    json!({ "keys": entries }).to_string()
}

fn with_url(url: &str, more: &str) -> String {
    format!("name = \"scripted\"\n[issuers.key_set]\nurl = \"{url}/jwks\"\n{more}\n")
}

/// Field case S23, second half: what unknown kids cost.
#[test]
fn two_hundred_unknown_kids_cause_one_fetch() {
    let (origin, key) = (Origin::start(), Published::new("one"));
    let body = set(&[&key.entry]);
    let issuer = Origin::answering(move |_, line| line.reply(200, &[], body.as_bytes()));
    let gate = gate_for(&origin, &with_url(&issuer.url(), "cooldown = \"10m\""));
    let session = gate.open_as(&key.sign("one"), CLIENT);
    let before = issuer.calls();

    thread::scope(|scope| {
        for worker in 0..4 {
            let (gate, key, session) = (&gate, &key, &session);
            scope.spawn(move || {
                for number in 0..50 {
                    let token = key.sign(&format!("{worker}-{number}"));
                    gate.send(&session.with_token(&token).get("/orders")).assert_refused("token-invalid");
                }
            });
        }
    });
    assert!(issuer.calls() <= before + 1, "{} fetches", issuer.calls() - before);
    assert_eq!(origin.calls(), 0);
}

/// Field case S23, first half and last sentence.
#[test]
fn the_last_good_set_is_used_while_the_endpoint_is_broken() {
    let (origin, one, two) = (Origin::start(), Published::new("one"), Published::new("two"));
    let mood = std::sync::Arc::new(AtomicUsize::new(0));
    let (good, both) = (set(&[&one.entry]), set(&[&one.entry, &json!({"kty": "EC"}), &json!(7), &two.entry]));
    let state = std::sync::Arc::clone(&mood);
    let answer = move |_: &Seen, line: &mut Line| match state.load(Ordering::SeqCst) {
        0 => line.reply(200, &[], good.as_bytes()),
        1 => line.reply(500, &[], b"{}"),
        2 => line.reply(200, &[], b"<html>"),
        3 => line.reply(200, &[], &[b' '; 300 * 1024]),
        4 => line.reply(302, &[("location", "file:///etc/passwd")], b""),
        // Slower than the gate waits.
        5 => thread::sleep(Duration::from_millis(700)),
        _ => line.reply(200, &[], both.as_bytes()),
    };
    let issuer = Origin::answering(answer);
    let gate = gate_for(&origin, &with_url(&issuer.url(), "timeout = \"300ms\"\ncooldown = \"1s\""));
    let session = gate.open_as(&one.sign("one"), CLIENT);

    for broken in 1..=5 {
        mood.store(broken, Ordering::SeqCst);
        let refreshed = gate.operate(&Call::new("POST", "/issuers/scripted/refresh"));
        assert_eq!(refreshed.status, 502, "{broken}: {}", refreshed.text());
        let shown: Value = serde_json::from_slice(&refreshed.body).expect("JSON");
        assert!(shown["key_set"]["last_error"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{shown}");
        gate.send(&session.get("/orders")).assert_status(200);
        // Never seen before, so it is not only remembered.
        let fresh = encode(
            &Header { kid: Some("one".into()), ..Header::new(Algorithm::ES256) },
            &{
                let mut claims = claims();
                claims["jti"] = json!(broken);
                claims
            },
            &one.private,
        );
        gate.send(&session.with_token(&fresh.expect("a token")).get("/orders")).assert_status(200);
    }
    assert!(gate.metrics().contains("sessiongate_issuer_fetches_total{issuer=\"scripted\",result=\"failed\"}"));
    mood.store(6, Ordering::SeqCst);
    eventually("the new key is known", || {
        gate.send(&session.with_token(&two.sign("two")).get("/orders")).status == 200
    });
}

#[test]
fn a_document_of_another_issuer_is_not_believed() {
    let (origin, key) = (Origin::start(), Published::new("one"));
    let body = set(&[&key.entry]);
    let issuer = Origin::answering(move |seen, line| match seen.target.as_str() {
        "/.well-known/openid-configuration" => {
            let host = seen.field("host").unwrap_or_default();
            let document = json!({"issuer": "https://evil.example", "jwks_uri": format!("http://{host}/jwks")});
            line.reply(200, &[], document.to_string().as_bytes());
        }
        _ => line.reply(200, &[], body.as_bytes()),
    });
    let gate = gate_for(&origin, &format!("name = \"main\"\nissuer = \"{}\"\nkey_set = {{}}", issuer.url()));
    let mut claims = claims();
    claims["iss"] = json!(issuer.url());
    let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::ES256) };
    let token = encode(&header, &claims, &key.private).expect("a token");
    gate.send(&Session::opening(&token, CLIENT)).assert_refused("issuer-unavailable");
    assert!(issuer.seen().iter().all(|seen| seen.target != "/jwks"));
    let refreshed = gate.operate(&Call::new("POST", "/issuers/main/refresh"));
    assert!(refreshed.text().contains("of the issuer"), "{}", refreshed.text());
}

#[test]
fn keys_come_over_tls_from_who_the_authority_vouches_for() {
    let (origin, key, authority) = (Origin::start(), Published::new("one"), Authority::new());
    let body = set(&[&key.entry]);
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let served = authority.server(&authority.issue("localhost"), &[], None);
    let issuer = SecureOrigin::answering(served, move |_, line| {
        use std::io::Write;
        line.write_all(reply.as_bytes()).and_then(|()| line.flush()).is_ok()
    });
    let config = |ca: &str| {
        Config::new(&origin.url()).lenient().issuer(&with_url(&issuer.url(), &format!("ca = \"{{dir}}/{ca}\"")))
    };
    for (ca, status) in [("ca.pem", 201), ("other.pem", 503)] {
        let setup = Setup::configured(&config(ca));
        setup.write("ca.pem", &authority.pem);
        setup.write("other.pem", Authority::new().pem);
        let gate = setup.start();
        assert_eq!(gate.send(&Session::opening(&key.sign("one"), CLIENT)).status, status, "{ca}");
    }
}

#[test]
fn key_sets_outlive_reloads_and_a_bad_file_changes_nothing() {
    let (origin, key) = (Origin::start(), Published::new("one"));
    let body = set(&[&key.entry]);
    let issuer = Origin::answering(move |_, line| line.reply(200, &[], body.as_bytes()));
    let config =
        |more: &str| Gate::with_operator(Config::new(&origin.url()).lenient().issuer(&with_url(&issuer.url(), more)));
    let gate = Gate::operated(Config::new(&origin.url()).lenient().issuer(&with_url(&issuer.url(), "")));
    let session = gate.open_as(&key.sign("one"), CLIENT);
    let before = issuer.calls();

    for (more, said) in [
        ("wait = \"1s\"", "configuration reloaded"),
        ("max_stale = \"1s\"", "given up before it is fetched again"),
        ("cooldown = \"2s\"", "\"generation\":3"),
    ] {
        gate.write_config(&config(more));
        gate.signal(rustix::process::Signal::HUP);
        gate.await_stderr(said);
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!(issuer.calls(), before, "nothing was fetched again");
}
