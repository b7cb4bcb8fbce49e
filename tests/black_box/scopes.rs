//! Scopes per route.

use serde_json::json;

use crate::harness::{CLIENT, Config, Gate, Origin, token_with};

#[test]
fn a_route_demands_its_scopes() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .route("name = \"both\"\npath = \"/both\"\nscopes = { all = [\"orders.read\", \"orders.write\"] }\nupstream = \"shop\"")
        .route("name = \"either\"\npath = \"/either\"\nscopes = { any = [\"orders.read\", \"orders.write\"] }\nupstream = \"shop\"")
        .route("name = \"list\"\npath = \"/list\"\nscopes = [\"orders.read\"]\nupstream = \"shop\"")
        .catch_all();
    let gate = Gate::configured(&config);

    for (scope, path, admitted) in [
        ("orders.read orders.write", "/both", true),
        ("orders.write  other orders.read", "/both", true),
        ("orders.read", "/both", false),
        ("orders.readorders.write", "/both", false),
        ("orders.read", "/either", true),
        ("orders.write", "/either", true),
        ("other", "/either", false),
        ("ORDERS.READ", "/either", false),
        ("", "/either", false),
        ("orders.read", "/list", true),
        ("orders", "/list", false),
        ("", "/open", true),
    ] {
        let session = gate.open_as(&token_with(json!({"scope": scope})), CLIENT);
        let before = origin.calls();
        let reply = gate.send(&session.get(path));
        if admitted {
            reply.assert_status(200);
            let told = origin.last().field("x-sg-scopes").unwrap_or_default().to_owned();
            assert!(told.split_whitespace().eq(scope.split_whitespace()), "{told:?} for {scope:?}");
        } else {
            reply.assert_refused("scope-insufficient");
            let challenge = reply.field("www-authenticate").expect("the scopes that are needed");
            assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
            assert!(challenge.contains("scope=\"") && challenge.contains("orders.read"), "{challenge}");
            assert_eq!(origin.calls(), before, "{scope:?} {path}");
        }
    }
}

#[test]
fn scopes_may_come_as_a_list() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .route("name = \"list\"\npath = \"/list\"\nscopes = [\"orders.read\"]\nupstream = \"shop\"");
    let gate = Gate::configured(&config);
    let session = gate.open_as(&token_with(json!({"scope": null, "scp": ["orders.read", "x"]})), CLIENT);
    gate.send(&session.get("/list")).assert_status(200);
}

#[test]
fn the_token_of_the_call_decides_not_the_one_that_opened_the_session() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .route("name = \"list\"\npath = \"/list\"\nscopes = [\"orders.read\"]\nupstream = \"shop\"");
    let gate = Gate::configured(&config);
    let session = gate.open_as(&token_with(json!({"scope": "orders.read"})), CLIENT);

    gate.send(&session.get("/list")).assert_status(200);
    gate.send(&session.with_token(&token_with(json!({"scope": "x"}))).get("/list"))
        .assert_refused("scope-insufficient");
    assert_eq!(origin.calls(), 1);
}
