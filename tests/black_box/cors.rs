//! Calls from the pages of other origins, as browsers make them (Fetch standard).

use crate::harness::{CLIENT, Call, Config, Gate, Origin, Session, finish, token};

const SHOP: &str = "https://shop.example";

fn preflight(path: &str, method: &str, origin: &str) -> Call {
    Call::new("OPTIONS", path)
        .field("origin", origin)
        .field("access-control-request-method", method)
        .field("access-control-request-headers", "authorization,client-id,session-id")
}

fn shared(upstream: &str) -> Config {
    Config::new(upstream)
        .lenient()
        .section("cors", "origins = [\"https://shop.example\", \"https://*.shop.example\"]\nheaders = [\"x-cart\"]\nexpose = [\"x-total\"]\ncredentials = true\nmax_age = \"2m\"")
        .route("name = \"orders\"\npath = \"/orders/{*rest}\"\nmethods = [\"GET\", \"PUT\"]\nupstream = \"shop\"")
        .route("name = \"closed\"\npath = \"/closed\"\nupstream = \"shop\"\ncors = { origins = [] }")
        .route("name = \"open\"\npath = \"/open\"\nupstream = \"shop\"\ncors = { origins = [\"*\"] }")
}

#[test]
fn a_page_can_open_a_session_and_call_with_it() {
    let origin = Origin::answering(|_, line| {
        let own =
            [("access-control-allow-origin", "*"), ("access-control-allow-headers", "x-evil"), ("vary", "accept")];
        line.reply(200, &own, b"ok");
    });
    let gate = Gate::configured(&shared(&origin.url()));

    let asked = gate.send(&preflight("/session", "POST", SHOP));
    asked.assert_status(204);
    assert_eq!(asked.field("access-control-allow-origin"), Some(SHOP));
    assert_eq!(asked.field("access-control-allow-credentials"), Some("true"));
    assert_eq!(asked.field("access-control-max-age"), Some("120"));
    assert_eq!(asked.field("vary"), Some("origin"));
    assert!(asked.field("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    let allowed = asked.field("access-control-allow-headers").unwrap_or_default().to_owned();
    for name in ["authorization", "client-id", "session-id", "x-correlation-id", "idempotency-key", "x-cart"] {
        assert!(allowed.split(',').any(|one| one.trim() == name), "{name} in {allowed}");
    }

    let opened = gate.send(&Session::opening(&token(), CLIENT).field("origin", SHOP));
    opened.assert_status(201);
    assert_eq!(opened.all("access-control-allow-origin"), [SHOP]);
    let exposed = opened.field("access-control-expose-headers").unwrap_or_default();
    for name in ["session-id", "session-expires-in", "x-request-id", "x-correlation-id", "x-total"] {
        assert!(exposed.split(',').any(|one| one.trim() == name), "{name} in {exposed}");
    }
    let id = opened.field("session-id").expect("an id").to_owned();
    let session = Session { token: token(), client: CLIENT.into(), id };

    gate.send(&preflight("/orders/7", "PUT", "https://eu.shop.example")).assert_status(204);
    origin.assert_untouched();
    let reply = gate.send(&session.get("/orders/7").field("origin", SHOP));
    reply.assert_status(200);
    assert_eq!(reply.all("access-control-allow-origin"), [SHOP]);
    assert_eq!(reply.field("access-control-allow-headers"), None, "what the upstream says is replaced");
    assert_eq!(reply.all("vary"), ["accept", "origin"]);
}

#[test]
fn a_page_can_read_why_it_was_refused() {
    let origin = Origin::start();
    let gate = Gate::configured(&shared(&origin.url()));
    for (path, code) in [("/orders/7", "credentials-missing"), ("/nowhere", "route-unknown")] {
        let reply = gate.send(&Call::new("GET", path).field("origin", SHOP));
        reply.assert_refused(code);
        assert_eq!(reply.field("access-control-allow-origin"), Some(SHOP), "{path}");
    }
    let reply = gate.send(&Call::new("GET", "/orders/7"));
    assert_eq!((reply.field("access-control-allow-origin"), reply.field("vary")), (None, Some("origin")));
}

#[test]
fn other_origins_get_no_permission() {
    let origin = Origin::start();
    let gate = Gate::configured(&shared(&origin.url()));
    for foreign in ["https://evil.test", "http://shop.example", "https://shop.example.evil.test", "null"] {
        let asked = gate.send(&preflight("/orders/7", "GET", foreign));
        asked.assert_status(204);
        assert_eq!(asked.field("access-control-allow-origin"), None, "{foreign}");
    }
    let asked = gate.send(&preflight("/open", "GET", "https://evil.test"));
    assert_eq!(asked.field("access-control-allow-origin"), Some("*"));
    origin.assert_untouched();
}

#[test]
fn options_without_a_question_is_a_call() {
    let origin = Origin::start();
    let gate = Gate::configured(&shared(&origin.url()));
    gate.send(&Call::new("OPTIONS", "/open").field("origin", SHOP)).assert_refused("credentials-missing");
    let session = gate.open();
    gate.send(&session.call("OPTIONS", "/open")).assert_status(200);
    assert_eq!(origin.last().method, "OPTIONS");
}

#[test]
fn a_preflight_where_nothing_is_shared_is_refused_at_once() {
    let origin = Origin::start();
    let gate = Gate::configured(&shared(&origin.url()));
    let reply = gate.send(&preflight("/closed", "POST", SHOP));
    reply.assert_refused("credentials-missing");
    assert_eq!(reply.field("access-control-allow-origin"), None);
    let plain = Gate::file_less(&origin.url());
    plain.send(&preflight("/orders", "POST", SHOP)).assert_refused("credentials-missing");
    plain.send(&preflight("/session", "POST", SHOP)).assert_refused("method-not-allowed");
    plain.http2().exchange(&preflight("/orders", "POST", SHOP)).assert_refused("credentials-missing");
    origin.assert_untouched();
}

#[test]
fn credentials_for_every_origin_and_origins_that_are_none_are_mistakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().display().to_string();
    std::fs::write(folder.path().join("secret"), crate::harness::SECRET).expect("written");
    let config = Config::new("http://127.0.0.1:9")
        .section("cors", "origins = [\"*\"]\ncredentials = true")
        .route("name = \"a\"\npath = \"/a\"\nupstream = \"shop\"\ncors = { origins = [\"https://shop.example/\", \"shop.example\"] }");
    let file = folder.path().join("gate.toml");
    std::fs::write(&file, config.text(&dir)).expect("written");
    let checked = finish(crate::harness::binary().arg("check").arg(&file));
    assert_eq!(checked.code, Some(2), "{}", checked.stderr);
    for part in
        ["every origin may call", "\"https://shop.example/\" is not an origin", "\"shop.example\" is not an origin"]
    {
        assert!(checked.stderr.contains(part), "{part:?} in {}", checked.stderr);
    }
}
