use super::*;
use crate::policy::violation::Fault;
use http::Request;

fn parse(request: &Request<()>) -> Result<Head<'_>, Rejection> {
    let raw = RawHead::from(request);
    Head::parse(raw, &FieldNames::default(), "gate")
}

fn request(fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri("/orders?x=%zz").header("host", "shop.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn forwarded(fields: &[(&str, &str)]) -> Vec<String> {
    parse(&request(fields)).unwrap().forwarded().map(|(name, _)| name.to_string()).collect()
}

#[test]
fn hop_identity_and_forwarding_fields_stay_here() {
    let fields = [
        ("connection", "X-My-Hop, keep-alive"),
        ("x-my-hop", "1"),
        ("keep-alive", "timeout=9"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-sg-subject", "root"),
        ("session_id", "x"),
        ("x-end", "kept"),
    ];
    assert_eq!(forwarded(&fields), ["x-end"]);
}

#[test]
fn connection_may_not_name_the_proof() {
    let request = request(&[("connection", "close, Session-Id")]);
    assert!(parse(&request).unwrap().named_by_connection().contains(Field::SessionId, Fault::Repeated));
}

#[test]
fn the_name_beats_its_aliases() {
    let request = request(&[("x-trace-id", "t"), ("correlation-id", "a"), ("x-correlation-id", "c")]);
    let head = parse(&request).unwrap();
    let seen = head.seen(Field::Correlation);
    assert_eq!((seen.value.unwrap(), seen.lines), (&HeaderValue::from_static("c"), 1));
    let kept: Vec<_> = head.forwarded().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["x-trace-id", "correlation-id"]);
}

#[test]
fn an_upgrade_is_asked_for_in_full_or_not_at_all() {
    let asks = |fields: &[(&str, &str)]| parse(&request(fields)).unwrap().upgrade().is_some();
    assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]));
    assert!(asks(&[("connection", "upgrade"), ("upgrade", "a/1, b")]));
    for fields in [
        &[("upgrade", "websocket")][..],
        &[("connection", "upgrade")],
        &[("connection", "x-upgrade"), ("upgrade", "websocket")],
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "websocket")],
        &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AA")],
        &[("connection", "upgrade"), ("upgrade", "websocket, H2C")],
        &[("connection", "upgrade"), ("upgrade", "HTTP/2.0")],
        &[("connection", "upgrade"), ("upgrade", "TLS/1.2")],
        &[("connection", "upgrade"), ("upgrade", "")],
        &[("connection", "upgrade"), ("upgrade", "a b")],
        &[("connection", "upgrade"), ("upgrade", "a/b/c")],
    ] {
        assert!(!asks(fields), "{fields:?}");
    }
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    for (method, version) in [
        (Method::POST, Version::HTTP_11),
        (Method::HEAD, Version::HTTP_11),
        (Method::GET, Version::HTTP_10),
        (Method::GET, Version::HTTP_2),
    ] {
        let mut request = request(&fields);
        (*request.method_mut(), *request.version_mut()) = (method, version);
        assert!(parse(&request).unwrap().upgrade().is_none(), "{request:?}");
    }
}

#[test]
fn over_http2_a_value_has_no_padding() {
    for value in [" a", "a ", "\ta", "a\t"] {
        for name in ["x-other", "x-sg-subject", "cookie", "te"] {
            let mut request = request(&[(name, value)]);
            assert!(parse(&request).is_ok(), "HTTP/1 has taken it off");
            *request.version_mut() = Version::HTTP_2;
            assert_eq!(parse(&request).unwrap_err(), Rejection::RequestMalformed, "{name}: {value:?}");
        }
    }
}

#[test]
fn hosts_must_be_one_and_valid() {
    let two = Request::builder().uri("/").header("host", "a").header("host", "a").body(()).unwrap();
    assert!(matches!(parse(&two), Err(Rejection::HeaderRepeated(_))));
    let joined = Request::builder().uri("/").header("host", "a,b").body(()).unwrap();
    assert!(matches!(parse(&joined), Err(Rejection::HeaderRepeated(_))));
    let none = Request::builder().uri("/").body(()).unwrap();
    assert_eq!(parse(&none).unwrap_err(), Rejection::HostMalformed);
    let other = Request::builder().uri("http://a/x").header("host", "b").body(()).unwrap();
    assert_eq!(parse(&other).unwrap_err(), Rejection::HostMalformed);
    let same = Request::builder().uri("http://a/x").header("host", "A").body(()).unwrap();
    assert_eq!(parse(&same).unwrap().host(), "a");
}

#[test]
fn loops_and_foreign_methods_are_refused() {
    assert_eq!(parse(&request(&[("via", "1.1 other, 1.1 gate")])).unwrap_err(), Rejection::LoopDetected);
    assert!(parse(&request(&[("via", "1.1 gateway")])).is_ok());
    let brew = Request::builder().method("BREW").uri("/").body(()).unwrap();
    assert_eq!(parse(&brew).unwrap_err(), Rejection::MethodNotImplemented);
    let trace = Request::builder().method("TRACE").uri("/").body(()).unwrap();
    assert!(matches!(parse(&trace), Err(Rejection::MethodNotAllowed(_))));
}
