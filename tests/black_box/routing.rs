//! From host, method and path to a route; targets that are never rewritten.

use crate::harness::{Call, Config, Gate, Origin};

fn routed(origin: &Origin) -> Gate {
    Gate::configured(
        &Config::new(&origin.url())
            .route("name = \"order\"\npath = \"/orders/{id}\"\nmethods = [\"GET\", \"PUT\"]\nupstream = \"shop\"")
            .route("name = \"search\"\npath = \"/orders/search\"\nmethods = [\"GET\"]\nupstream = \"shop\"")
            .route("name = \"files\"\npath = \"/files/{*rest}\"\nmethods = [\"GET\"]\nupstream = \"shop\""),
    )
}

#[test]
fn a_path_without_a_route_is_404() {
    let origin = Origin::start();
    let gate = routed(&origin);
    let session = gate.open();

    for target in ["/", "/orders", "/orders/", "/orders/7/items", "/ORDERS/7", "//orders/7", "/unknown?orders/7"] {
        gate.send(&session.get(target)).assert_refused("route-unknown");
    }
    // The route comes before the proof.
    gate.send(&Call::new("GET", "/unknown")).assert_refused("route-unknown");
    origin.assert_untouched();

    for target in ["/orders/7", "/orders/search", "/files/", "/files/a/b", "/files//"] {
        gate.send(&session.get(target)).assert_status(200);
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn a_wrong_method_is_405_and_told_the_right_ones() {
    let origin = Origin::start();
    let gate = routed(&origin);
    let session = gate.open();

    for (method, target, expected) in [
        ("POST", "/orders/7", "GET, HEAD, PUT"),
        ("DELETE", "/orders/7", "GET, HEAD, PUT"),
        ("OPTIONS", "/files/a", "GET, HEAD"),
        ("PUT", "/files/a", "GET, HEAD"),
    ] {
        let reply = gate.send(&session.call(method, target));
        reply.assert_refused("method-not-allowed");
        let mut allowed: Vec<_> = reply.field("allow").unwrap_or_default().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(", "), expected, "{method} {target}");
    }
    origin.assert_untouched();
    gate.send(&session.call("HEAD", "/orders/7")).assert_status(200);
    assert_eq!(origin.last().method, "HEAD");
}

#[test]
fn trace_and_connect_are_405_and_unknown_methods_501() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    gate.send(&session.call("TRACE", "/orders")).assert_refused("method-not-allowed");
    let reply = gate.send_raw("CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n");
    reply.assert_refused("method-not-allowed");
    for method in ["PURGE", "PROPFIND", "get", "G", "FOO!", &"M".repeat(40), &"M".repeat(10_000)] {
        let mut raw = gate.connect();
        raw.exchange(&session.call(method, "/orders")).assert_refused("method-not-implemented");
        raw.assert_in_step_or_closed();
    }
    origin.assert_untouched();
}

#[test]
fn raw_targets_go_on_byte_for_byte() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for target in [
        "/c%20d;v=1/%2520x/e%3ff/%7Eu?q=%2B+%252F&e=&k&m=a%26b&s=%2f",
        "/a//b///c",
        "/UPPER/lower",
        "/%E2%82%AC/%e2%82%ac",
        "/.well-known/x",
        "/a..b/...",
        "/x?",
        "/x??a=?",
        "/x?a=/../b",
        "/x?a=%00%5C%2e%2e/",
        "/x?[]{}|^'\\",
        "/:@!$&'()*+,;=-._~",
        "/x%3Fy%23z",
        "/[v]{w}|^'",
    ] {
        let reply = gate.send(&session.get(target));
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn raw_utf8_in_a_target_goes_on_as_it_is_or_is_refused_readably() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for (target, encoded) in [("/caf\u{e9}", "/caf%C3%A9"), ("/q?name=Zo\u{eb}", "/q?name=Zo%C3%AB")] {
        let before = origin.calls();
        let reply = gate.send(&session.get(target));
        if reply.status == 400 {
            reply.assert_refused("request-malformed");
            assert_eq!(origin.calls(), before);
        } else {
            reply.assert_status(200);
            let seen = origin.last().target;
            assert!(seen == target || seen.eq_ignore_ascii_case(encoded), "{seen}");
        }
    }
}

#[test]
fn ambiguous_targets_are_400_and_reach_nobody() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for target in [
        "/a/../b",
        "/a/..",
        "/../a",
        "/a/./b",
        "/.",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a/.%2e/b",
        "/a/%2e/b",
        "/a%2Fb/c",
        "/a%2fb",
        "/a%5Cb",
        "/a%5cb",
        "/a\\b",
        "/a/..\\b",
        "/a%00",
        "/%00/a",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%%41",
        "/a%u0041",
    ] {
        gate.send(&session.get(target)).assert_refused("request-malformed");
    }
    origin.assert_untouched();
}

#[test]
fn a_fragment_is_never_cut_off_in_silence() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    for target in ["/orders#x", "/session#x", "/orders?a#b"] {
        gate.send(&session.get(target)).assert_refused("request-malformed");
    }
    origin.assert_untouched();
}

#[test]
fn targets_in_other_forms_are_read_strictly() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    // Absolute form is what a client sends to a proxy; it must agree with Host (RFC 9112 section 3.2.2).
    gate.send(&session.get("http://shop.test/orders?a=1")).assert_status(200);
    assert_eq!(origin.last().target, "/orders?a=1");
    assert_eq!(origin.last().field("host").map(str::to_owned), Some("shop.test".to_owned()));
    let before = origin.calls();
    for target in ["http://other.test/orders", "http://user@shop.test/orders", "orders", "*", "shop.test:80", "?a=1"] {
        let reply = gate.send(&session.get(target));
        assert_eq!(reply.status, 400, "{target}: {}", reply.text());
        reply.assert_refused("request-malformed");
    }
    gate.send(&session.call("OPTIONS", "*")).assert_refused("request-malformed");
    assert_eq!(origin.calls(), before);
}

#[test]
fn the_host_is_one_and_valid() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();

    gate.send(&session.get("/orders").without("host")).assert_refused("request-malformed");
    for host in
        ["user@shop.test", "shop.test:port", "shop test", "shop.test:123456", "[::1", "a/b", "\u{e9}.test", ":80"]
    {
        let reply = gate.send(&session.get("/orders").set("host", host));
        assert_eq!(reply.status, 400, "{host}: {}", reply.text());
        reply.assert_refused("request-malformed");
    }
    origin.assert_untouched();
    for host in ["shop.test:8080", "127.0.0.1", "[::1]:80", "SHOP.test"] {
        gate.send(&session.get("/orders").set("host", host)).assert_status(200);
    }
}

#[test]
fn routes_are_found_by_host() {
    let origin = Origin::start();
    let gate = Gate::configured(
        &Config::new(&origin.url())
            .route("name = \"one\"\nhosts = [\"one.test\"]\npath = \"/only-one\"\nupstream = \"shop\"")
            .route("name = \"tenants\"\nhosts = [\"*.tenants.test\"]\npath = \"/tenant\"\nupstream = \"shop\""),
    );
    let session = gate.open();

    for (host, path, status) in [
        ("one.test", "/only-one", 200),
        ("ONE.test:8443", "/only-one", 200),
        ("two.test", "/only-one", 404),
        ("a.tenants.test", "/tenant", 200),
        ("tenants.test", "/tenant", 404),
    ] {
        assert_eq!(gate.send(&session.get(path).set("host", host)).status, status, "{host}{path}");
    }
}

#[test]
fn an_exempt_route_needs_no_proof_and_passes_no_identity() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .route("name = \"health\"\npath = \"/health\"\nmethods = [\"GET\"]\nexempt = true\nupstream = \"shop\"")
        .catch_all();
    let gate = Gate::configured(&config);

    let forged = Call::new("GET", "/health")
        .field("x-sg-subject", "root")
        .field("x-sg-scopes", "all")
        .field("session_id", "x")
        .field("x-forwarded-for", "203.0.113.9")
        .field("x-user-id", "root");
    gate.send(&forged).assert_status(200);
    let seen = origin.last();
    for name in ["x-sg-subject", "x-sg-scopes", "session_id", "x-user-id", "client-id", "session-id"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    for look_alike in ["/health/", "//health", "/HEALTH", "/health;x", "/health%20"] {
        gate.send(&Call::new("GET", look_alike)).assert_refused("credentials-missing");
    }
    let posted = gate.send(&Call::new("POST", "/health")).status;
    assert!(matches!(posted, 401 | 405), "{posted}");
    assert_eq!(origin.calls(), 1);
}

#[test]
fn a_preflight_without_cors_configured_is_an_ordinary_call() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let preflight = Call::new("OPTIONS", "/orders")
        .field("origin", "https://app.test")
        .field("access-control-request-method", "POST");
    gate.send(&preflight).assert_refused("credentials-missing");
    origin.assert_untouched();
}

#[test]
fn a_target_or_host_that_is_ambiguous_ends_the_connection() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    for call in [
        session.get("/public/..;/orders"),
        session.get("/a/%2e%2e/b"),
        session.get("/orders").set("host", "shop.test/x"),
        session.get("http://other.test/orders"),
    ] {
        let mut raw = gate.connect();
        let refusal = raw.exchange(&call);
        refusal.assert_refused("request-malformed");
        assert_eq!(refusal.field("connection"), Some("close"), "{call:?}");
        raw.assert_closed();
    }
    origin.assert_untouched();
}
