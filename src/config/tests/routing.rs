//! What calls find in a compiled file.

use http::HeaderName;

use super::*;
use crate::policy::head::{Head, RawHead};
use crate::policy::headers::Observed;

const FULL: &[(&str, &str)] = &[
    ("authorization", "Bearer t"),
    ("client-id", "EnterpriseAPIM-x"),
    ("session-id", "758fc320-af96-4faf-8af7-536e7cac5775"),
    ("x-correlation-id", "c-1"),
    ("content-type", "application/json"),
    ("accept", "application/json"),
];

/// The route of a call, and what the header rules of the route say.
fn call(
    live: &Snapshot,
    method: &str,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> (String, Result<Observed, Rejection>) {
    let mut request = http::Request::builder().method(method).uri(path).header("host", host).body(()).unwrap();
    for (name, value) in fields {
        request.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let raw = RawHead { has_body: method == "PUT", ..RawHead::from(&request) };
    let head = Head::parse(raw, &live.names, &live.via).unwrap();
    match live.routes.find(&head) {
        Ok((_, route)) => (route.name.to_string(), route.headers.check(&head, false).map(|(_, observed)| observed)),
        Err(rejection) => (rejection.code().to_owned(), Err(rejection)),
    }
}

#[test]
fn the_session_endpoint_is_there_on_every_host() {
    let text = LEAST.to_owned()
        + r#"
        [[routes]]
        name = "shop"
        hosts = ["shop.example", "*.shop.example"]
        path = "/{*rest}"
        upstream = "orders"
        [[routes]]
        name = "one"
        hosts = ["one.example"]
        path = "/{name}"
        upstream = "orders"
        "#;
    let live = Folder::new().parse(&text).unwrap();
    for host in ["other", "shop.example", "a.shop.example:8080", "ONE.example"] {
        assert_eq!(call(&live, "GET", host, "/session", FULL).0, "session", "{host}");
        assert_eq!(call(&live, "PUT", host, "/session", FULL).0, "method-not-allowed", "{host}");
    }
    assert_eq!(call(&live, "GET", "shop.example", "/sessions", FULL).0, "shop");
    assert_eq!(call(&live, "GET", "one.example", "/session/", FULL).0, "all");
}

#[test]
fn routes_change_the_rules_of_the_file() {
    let text = LEAST.replace(
        "[[issuers]]",
        "[headers]\naccept = { severity = \"warn\" }\nclient-id = { pattern = 'EnterpriseAPIM-\\w+' }\n[[issuers]]",
    ) + r#"
        [[routes]]
        name = "upload"
        path = "/upload"
        upstream = "orders"
        headers = { content-type = { allow = ["image/*"] }, accept = { severity = "enforce" } }
        [[routes]]
        name = "easy"
        path = "/easy"
        upstream = "orders"
        headers = { mode = "lenient" }
        "#;
    let live = Folder::new().parse(&text).unwrap();
    let without = |name: &str| -> Vec<_> { FULL.iter().copied().filter(|(field, _)| *field != name).collect() };
    let code = |path: &str, fields: &[(&str, &str)]| match call(&live, "PUT", "h", path, fields).1 {
        Ok(observed) if observed.warned.is_empty() => "ok",
        Ok(_) => "warned",
        Err(rejection) => rejection.code(),
    };
    assert_eq!(code("/x", FULL), "ok");
    assert_eq!(code("/x", &without("accept")), "warned");
    assert_eq!(code("/x", &without("x-correlation-id")), "header-missing");
    assert_eq!(code("/upload", FULL), "media-type-unsupported");
    assert_eq!(code("/upload", &[&without("content-type")[..], &[("content-type", "image/png")]].concat()), "ok");
    assert_eq!(code("/easy", &without("x-correlation-id")), "ok");
    assert_eq!(code("/easy", &[&without("content-type")[..], &[("content-type", "image/png")]].concat()), "ok");
    let other = [&without("client-id")[..], &[("client-id", "xEnterpriseAPIM-x")]].concat();
    assert_eq!(code("/easy", &other), "header-invalid", "patterns hold for the whole value");
}
