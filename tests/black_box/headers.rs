//! The six required header fields.

use serde_json::json;

use crate::harness::{CLIENT, Call, Config, Gate, Origin, Session, token_with, violations};

fn expect(gate: &Gate, call: &Call, code: &str, expected: &[(&str, &str)]) {
    let problem = gate.send(call).assert_refused(code);
    let expected: Vec<_> = expected.iter().map(|(name, fault)| ((*name).to_owned(), (*fault).to_owned())).collect();
    assert_eq!(violations(&problem), expected, "{call:?}");
}

#[test]
fn strict_mode_demands_all_six() {
    let origin = Origin::start();
    let gate = Gate::strict(&origin.url());
    let session = gate.open();
    let (get, post) = (session.get("/orders"), session.post("/orders", "{}"));

    for (call, code, fields) in [
        (get.clone().without("authorization"), "credentials-missing", &[("authorization", "missing")][..]),
        (get.clone().without("client-id"), "header-missing", &[("client-id", "missing")]),
        (get.clone().without("session-id"), "header-missing", &[("session-id", "missing")]),
        (get.clone().without("x-correlation-id"), "header-missing", &[("x-correlation-id", "missing")]),
        (get.clone().without("accept"), "not-acceptable", &[("accept", "missing")]),
        (post.clone().without("content-type"), "media-type-unsupported", &[("content-type", "missing")]),
        (post.clone().set("content-type", "text/plain"), "media-type-unsupported", &[("content-type", "unsupported")]),
        (get.clone().set("accept", "text/html"), "not-acceptable", &[("accept", "unsupported")]),
        (get.clone().set("accept", "application/json;q=0"), "not-acceptable", &[("accept", "unsupported")]),
        (get.clone().set("x-correlation-id", "no spaces"), "header-invalid", &[("x-correlation-id", "invalid")]),
        (get.clone().set("x-correlation-id", &"c".repeat(129)), "header-invalid", &[("x-correlation-id", "invalid")]),
    ] {
        expect(&gate, &call, code, fields);
    }
    origin.assert_untouched();

    gate.send(&get).assert_status(200);
    gate.send(&post).assert_status(200);
    assert_eq!(origin.calls(), 2);
}

#[test]
fn the_json_family_is_taken_and_made() {
    let origin = Origin::start();
    let gate = Gate::strict(&origin.url());
    let session = gate.open();

    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"] {
        gate.send(&session.post("/orders", "{}").set("content-type", content_type)).assert_status(200);
    }
    for accept in ["*/*", "application/*", "text/html, application/json;q=0.1", "application/problem+json, */*;q=0.5"] {
        gate.send(&session.get("/orders").set("accept", accept)).assert_status(200);
    }
    assert_eq!(origin.calls(), 7);
}

#[test]
fn all_violations_come_in_one_answer_and_in_order() {
    let origin = Origin::start();
    let gate = Gate::strict(&origin.url());
    let session = gate.open();
    let bare = Call::new("POST", "/orders").body("{}");

    let all = [
        ("authorization", "missing"),
        ("client-id", "missing"),
        ("session-id", "missing"),
        ("x-correlation-id", "missing"),
        ("content-type", "missing"),
        ("accept", "missing"),
    ];
    expect(&gate, &bare, "credentials-missing", &all);
    expect(
        &gate,
        &bare.clone().field("authorization", &format!("Bearer {}", session.token)),
        "header-missing",
        &all[1..],
    );
    let without_media = session.post("/orders", "{}").without("content-type").without("accept");
    expect(&gate, &without_media, "media-type-unsupported", &all[4..]);
    let mixed =
        session.post("/orders", "{}").set("client-id", "b ad").set("session-id", "x").set("accept", "text/html");
    expect(
        &gate,
        &mixed,
        "header-invalid",
        &[("client-id", "invalid"), ("session-id", "invalid"), ("accept", "unsupported")],
    );
    origin.assert_untouched();
}

#[test]
fn lenient_mode_enforces_the_proof_and_makes_the_correlation_id() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let bare = session.call("POST", "/orders").without("x-correlation-id").without("accept").body("not json");

    let reply = gate.send(&bare);
    reply.assert_status(200);
    let made = reply.field("x-correlation-id").expect("a correlation id").to_owned();
    assert_eq!(origin.last().all("x-correlation-id"), [made.as_str()]);
    gate.send(&bare.clone().field("content-type", "text/plain").field("accept", "text/html")).assert_status(200);
    assert_eq!(origin.last().field("content-type"), Some("text/plain"));
    assert_eq!(origin.last().field("accept"), Some("text/html"));

    let before = origin.calls();
    expect(&gate, &bare.clone().without("authorization"), "credentials-missing", &[("authorization", "missing")]);
    expect(&gate, &bare.clone().without("client-id"), "header-missing", &[("client-id", "missing")]);
    expect(&gate, &bare.clone().without("session-id"), "header-missing", &[("session-id", "missing")]);
    assert_eq!(origin.calls(), before);
}

#[test]
fn a_correlation_id_is_echoed_under_whichever_name_it_came() {
    let origin = Origin::start();
    let gate = Gate::strict(&origin.url());
    let session = gate.open();

    for name in ["x-correlation-id", "correlation-id", "x-transaction-id", "x-trace-id", "x-correlator"] {
        let call = session.get("/orders").without("x-correlation-id").field(name, "op-42");
        let reply = gate.send(&call);
        reply.assert_status(200);
        assert_eq!(reply.all("x-correlation-id"), ["op-42"], "{name}");
        assert_eq!(origin.last().all("x-correlation-id"), ["op-42"], "{name}");
    }
    let refused = gate.send(&session.get("/orders").without("session-id"));
    assert_eq!(refused.assert_refused("header-missing")["correlation_id"], "corr-7");
    let opened = gate.send(&Session::opening(&session.token, CLIENT).field("x-correlation-id", "op-43"));
    assert_eq!(opened.field("x-correlation-id"), Some("op-43"));
}

#[test]
fn an_unsafe_correlation_id_is_never_echoed() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for wrong in ["<script>", "a b", "a\tb", "\u{e9}", "\"", &"c".repeat(129), ""] {
        let reply = gate.send(&session.get("/orders").set("x-correlation-id", wrong));
        assert_ne!(reply.field("x-correlation-id"), Some(wrong));
        assert!(reply.field("x-correlation-id").is_some_and(|id| !id.is_empty()), "{wrong:?}: {reply:?}");
    }
}

#[test]
fn ids_have_one_form() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for wrong in [
        "",
        "x",
        "758fc320af964faf8af7536e7cac5775",
        "{758fc320-af96-4faf-8af7-536e7cac5775}",
        "urn:uuid:758fc320-af96-4faf-8af7-536e7cac5775",
        "758fc320-af96-4faf-8af7-536e7cac577g",
        "758fc320-af96-4faf-8af7-536e7cac57755",
        "758fc320_af96_4faf_8af7_536e7cac5775",
    ] {
        let call = session.get("/orders").set("session-id", wrong);
        expect(&gate, &call, "header-invalid", &[("session-id", "invalid")]);
    }
    for wrong in ["", "a b", "a/b", "a\u{e9}", "a;b", "a%41", &"a".repeat(129)] {
        let call = session.get("/orders").set("client-id", wrong);
        expect(&gate, &call, "header-invalid", &[("client-id", "invalid")]);
    }
    origin.assert_untouched();

    let longest = "a".repeat(128);
    let other = gate.open_as(&token_with(json!({"client_id": longest})), &longest);
    gate.send(&other.get("/orders")).assert_status(200);
}

#[test]
fn security_fields_come_once() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let other = gate.open();
    let keyed = session.get("/orders").field("idempotency-key", "k1");

    for (name, value) in [
        ("authorization", format!("Bearer {}", session.token)),
        ("client-id", CLIENT.to_owned()),
        ("session-id", session.id.clone()),
        ("session-id", other.id.clone()),
        ("idempotency-key", "k1".to_owned()),
        ("host", "shop.test".to_owned()),
    ] {
        expect(&gate, &keyed.clone().field(name, &value), "header-repeated", &[(name, "repeated")]);
        let first = keyed.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let joined = format!("{}, {value}", first.unwrap_or_default());
        expect(&gate, &keyed.clone().set(name, &joined), "header-repeated", &[(name, "repeated")]);
    }
    origin.assert_untouched();
}

#[test]
fn connection_may_not_name_the_proof() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for (connection, name) in [
        ("session-id", "session-id"),
        ("close, Session-Id", "session-id"),
        ("keep-alive,authorization", "authorization"),
        ("CLIENT-ID", "client-id"),
        ("host", "host"),
        ("idempotency-key", "idempotency-key"),
    ] {
        let call = session.get("/orders").field("idempotency-key", "k1").field("connection", connection);
        expect(&gate, &call, "header-repeated", &[(name, "repeated")]);
    }
    origin.assert_untouched();
}

#[test]
fn fields_can_be_renamed() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("headers.session-id", "name = \"x-session\"")
        .section("headers.client-id", "name = \"x-app\"");
    let gate = Gate::configured(&config);

    let opened =
        gate.send(&Session::opening(&token_with(json!({})), CLIENT).without("client-id").field("x-app", CLIENT));
    opened.assert_status(201);
    let id = opened.field("x-session").expect("the id under its new name").to_owned();
    let call = Session { token: token_with(json!({})), client: CLIENT.into(), id: id.clone() }.get("/orders");
    let renamed =
        call.clone().without("client-id").without("session-id").field("x-app", CLIENT).field("x-session", &id);

    gate.send(&renamed).assert_status(200);
    assert_eq!((origin.last().field("x-session"), origin.last().field("x-app")), (Some(id.as_str()), Some(CLIENT)));
    expect(&gate, &call, "header-missing", &[("x-app", "missing"), ("x-session", "missing")]);
}

#[test]
fn an_observed_rule_refuses_nothing() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("headers.accept", "severity = \"observe\"")
        .section("headers.correlation-id", "if_missing = \"generate\"");
    let gate = Gate::configured(&config);
    let session = gate.open();

    gate.send(&session.get("/orders").without("accept").without("x-correlation-id")).assert_status(200);
    expect(&gate, &session.get("/orders").without("session-id"), "header-missing", &[("session-id", "missing")]);
}

#[test]
fn a_route_can_take_other_media_types() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .route(
            "name = \"documents\"\npath = \"/documents\"\nupstream = \"shop\"\n\
             headers = { content-type = { allow = [\"application/pdf\", \"application/grpc*\"] }, accept = { severity = \"off\" } }",
        )
        .catch_all();
    let gate = Gate::configured(&config);
    let session = gate.open();
    let upload = session.post("/documents", "%PDF").without("accept");
    for content_type in ["application/pdf", "application/grpc+proto", "application/grpc"] {
        gate.send(&upload.clone().set("content-type", content_type)).assert_status(200);
    }
    expect(
        &gate,
        &upload.clone().set("content-type", "image/png"),
        "media-type-unsupported",
        &[("content-type", "unsupported")],
    );
    let elsewhere = session.post("/orders", "%PDF").set("content-type", "application/pdf");
    expect(&gate, &elsewhere, "media-type-unsupported", &[("content-type", "unsupported")]);
    assert_eq!(origin.calls(), 3);
}
