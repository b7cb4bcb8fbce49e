//! Tokens that only their issuer can read: it is asked about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{CLIENT, Config, Gate, Origin, Provider, Session, Setup, SigningKey, eventually, now, token};

fn table(url: &str, more: &str) -> String {
    format!(
        "[issuers.introspection]\nurl = \"{url}\"\nclient_id = \"{CLIENT}\"\n\
         client_secret = {{ file = \"{{dir}}/client-secret\" }}\n{more}\n"
    )
}

/// A gate that asks about opaque tokens, and has a secret for JWTs.
fn gate(origin: &Origin, url: &str, more: &str) -> Gate {
    let issuer =
        format!("name = \"main\"\nkeys = [{{ secret = {{ file = \"{{dir}}/secret\" }} }}]\n{}", table(url, more));
    let config = Gate::with_operator(Config::new(&origin.url()).lenient().issuer(&issuer));
    let setup = Setup::configured(&config);
    setup.write("client-secret", Provider::secret());
    setup.write("admin-token", "unused-unused-unused-unused-unused-unused");
    let gate = setup.start();
    gate.keep_secret(Provider::secret());
    gate
}

#[test]
fn a_real_provider_is_asked_about_its_opaque_tokens() {
    let (origin, key) = (Origin::start(), SigningKey::new("one"));
    let provider = Provider::start(&[&key]);
    let url = format!("{}/token/introspection", provider.issuer());
    let gate = gate(&origin, &url, "positive_ttl = \"1s\"\nnegative_ttl = \"1s\"");

    let opaque = provider.opaque_token();
    let session = gate.open_as(&opaque, CLIENT);
    gate.send(&session.get("/orders")).assert_status(200);
    gate.send(&Session::opening("no-such-token", CLIENT)).assert_refused("token-invalid");
    gate.send(&session.get("/orders").set("client-id", "another")).assert_refused("client-mismatch");
    // JWTs are read here.
    gate.open_as(&token(), CLIENT);

    provider.revoke(&opaque);
    eventually("the revoked token is refused", || gate.send(&session.get("/orders")).status == 401);

    let fresh = provider.opaque_token();
    gate.send(&session.with_token(&fresh).get("/orders")).assert_status(200);
    provider.kill();
    eventually("it cannot be asked any more", || gate.send(&session.with_token(&fresh).get("/orders")).status == 503);
    gate.send(&session.with_token(&fresh).get("/orders")).assert_refused("issuer-unavailable");
    eventually("it is left alone", || {
        gate.send(&Session::opening("another-token", CLIENT)).assert_refused("issuer-unavailable");
        gate.metrics().contains("sessiongate_introspection_available{issuer=\"main\"} 0")
    });
    gate.open_as(&token(), CLIENT);

    provider.restart(&[&key]);
    eventually("it is asked again", || gate.send(&Session::opening(&provider.opaque_token(), CLIENT)).status == 201);
    assert!(gate.metrics().contains("sessiongate_introspection_available{issuer=\"main\"} 1"));
}

#[test]
fn all_calls_with_one_token_wait_for_one_question() {
    let origin = Origin::start();
    let issuer = Origin::answering(|seen, line| {
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        thread::sleep(std::time::Duration::from_millis(300));
        let active = form.contains("token=good%2Btoken");
        let answer = json!({"active": active, "client_id": CLIENT, "exp": now() + 600, "scope": "listerine.all"});
        line.reply(200, &[("content-type", "application/json")], answer.to_string().as_bytes());
    });
    let gate = gate(&origin, &format!("{}/introspect", issuer.url()), "");

    let session = gate.open_as("good+token", CLIENT);
    assert_eq!(issuer.calls(), 1);
    let asked = issuer.last();
    assert!(asked.field("authorization").is_some_and(|text| text.starts_with("Basic ")));
    assert_eq!(asked.method, "POST");
    thread::scope(|scope| {
        for number in 0..20 {
            let (gate, session) = (&gate, &session);
            // Two tokens, one good and remembered, one bad and new.
            let (token, status) = if number % 2 == 0 { ("good+token", 200) } else { ("bad", 401) };
            scope.spawn(move || {
                gate.send(&session.with_token(token).get("/orders")).assert_status(status);
            });
        }
    });
    assert_eq!(issuer.calls(), 2, "one question for each token");
}

#[test]
fn a_new_client_secret_is_used_after_a_reload_and_a_broken_one_changes_nothing() {
    use base64::Engine;
    let origin = Origin::start();
    let issuer = Origin::answering(|_, line| {
        let answer = json!({"active": true, "client_id": CLIENT, "exp": now() + 600, "scope": "listerine.all"});
        line.reply(200, &[("content-type", "application/json")], answer.to_string().as_bytes());
    });
    let gate = gate(&origin, &format!("{}/introspect", issuer.url()), "");
    let credentials = |secret: &str| {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{CLIENT}:{secret}"));
        format!("Basic {text}")
    };
    gate.open_as("opaque-one", CLIENT);
    assert_eq!(issuer.last().field("authorization"), Some(&*credentials(Provider::secret())));

    gate.write("client-secret", "another-secret\n");
    gate.keep_secret("another-secret");
    gate.signal(Signal::HUP);
    gate.await_stderr("\"generation\":2");
    let session = gate.open_as("opaque-two", CLIENT);
    assert_eq!(issuer.last().field("authorization"), Some(&*credentials("another-secret")));

    gate.write("client-secret", "");
    gate.signal(Signal::HUP);
    gate.await_stderr("there is nothing in it");
    gate.send(&session.with_token("opaque-three").get("/orders")).assert_status(200);
    assert_eq!(issuer.last().field("authorization"), Some(&*credentials("another-secret")));
}

#[test]
fn nonsense_is_no_answer_and_claims_are_judged_as_those_of_any_token() {
    let origin = Origin::start();
    let answers = [
        (json!({"active": true, "client_id": CLIENT}).to_string(), 201),
        (json!({"active": true, "client_id": CLIENT, "exp": now() - 3600}).to_string(), 401),
        (json!({"active": true, "client_id": CLIENT, "nbf": now() + 3600}).to_string(), 401),
        (json!({"active": true}).to_string(), 401),
        (json!({"active": false, "client_id": CLIENT}).to_string(), 401),
        (format!(r#"{{"active":false,"active":true,"client_id":"{CLIENT}"}}"#), 503),
        (json!({"active": "true", "client_id": CLIENT}).to_string(), 503),
        (json!([true]).to_string(), 503),
        ("<html>".to_owned(), 503),
        (String::new(), 503),
        (format!("{{\"active\":true,\"x\":\"{}\"}}", "x".repeat(300 * 1024)), 503),
    ];
    let turn = Arc::new(AtomicUsize::new(0));
    let (texts, next): (Vec<_>, _) = (answers.iter().map(|(text, _)| text.clone()).collect(), Arc::clone(&turn));
    let issuer = Origin::answering(move |_, line| line.reply(200, &[], texts[next.load(Ordering::SeqCst)].as_bytes()));
    let gate = gate(&origin, &format!("{}/introspect", issuer.url()), "");
    for (number, (text, status)) in answers.iter().enumerate() {
        turn.store(number, Ordering::SeqCst);
        let mut reply = gate.send(&Session::opening(&format!("token-{number}"), CLIENT));
        // The issuer may be left alone for a while after five failures.
        if reply.status == 503 && *status != 503 {
            eventually("it is asked again", || {
                reply = gate.send(&Session::opening(&format!("token-{number}"), CLIENT));
                reply.status != 503
            });
        }
        assert_eq!(reply.status, *status, "{}: {}", &text[..text.len().min(200)], reply.text());
    }
    let shown = gate.metrics();
    let failed = shown.lines().find(|line| line.contains("introspections_total") && line.contains("failed"));
    let failed: f64 = failed.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a count");
    assert!(failed >= 5.0, "{failed}");
}
