//! What is written, read back by another parser.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::policy::call::Routed;
use crate::policy::claims::{Caller, ClaimRules, Claims};
use crate::policy::clients::Registered;
use crate::policy::head::RawHead;
use crate::policy::headers::{HeaderRules, Mode};
use crate::policy::ids::SessionId;
use crate::policy::method::MethodSet;
use crate::policy::route::{Action, PoolId, Route, RouteTable};
use crate::policy::scopes::{ScopeNames, ScopeRule};
use crate::policy::session::{Lifetimes, Session};
use crate::policy::time::{Now, Timestamp};

/// How a call is forwarded.
#[derive(Clone, Copy)]
struct Setting {
    exempt: bool,
    authorization: ForwardAuthorization,
    host: HostField,
    trusted: bool,
    /// Asked for with an extended CONNECT.
    websocket: bool,
}

const PLAIN: Setting = Setting {
    exempt: false,
    authorization: ForwardAuthorization::Keep,
    host: HostField::Preserve,
    trusted: false,
    websocket: false,
};

fn caller() -> Arc<Caller> {
    let claims = r#"{"client_id":"shop","sub":"grüße","scope":"orders:read x","exp":4000000000}"#;
    let claims = Claims::read(claims).unwrap();
    Arc::new(claims.caller(&ClaimRules::default(), &ScopeNames::default(), |text| Arc::from(text)).unwrap())
}

fn passage<'s>(routes: &'s RouteTable, head: &Head<'_>) -> Passage<'s> {
    let routed = Routed::find(routes, head).unwrap();
    if let Some(exempt) = routed.exempt() {
        return Passage::Exempt(exempt);
    }
    let (presented, _) = routed.credentials(head, false).unwrap();
    let now = Now { wall: Timestamp::EPOCH, steady: Timestamp::EPOCH };
    let (caller, id) = (caller(), presented.session().unwrap());
    let lifetimes = Lifetimes { idle: Duration::from_secs(9), absolute: Duration::from_secs(9) };
    let session = Session::open(id.key(), Arc::clone(caller.owner()), "".into(), lifetimes, now.steady);
    let identified =
        crate::policy::call::Identified::new(routed, &presented, Registered::unlisted(caller), Default::default(), now)
            .unwrap();
    let owned = identified.own(id, Some(Arc::new(session))).unwrap();
    let call = owned.enter(now.steady).unwrap();
    let crate::policy::call::InFlow::Beside(grant) = call.in_flow(&Default::default(), head.verb(), false) else {
        panic!()
    };
    Passage::Validated(call.admit(grant, now.steady))
}

/// The head as it is written.
fn written(request: &Request<()>, setting: Setting) -> Vec<u8> {
    let mut routes = RouteTable::default();
    routes
        .add(Route {
            name: "all".into(),
            hosts: vec![],
            path: "/{*path}".into(),
            methods: MethodSet::ALL,
            action: Action::Forward(PoolId(0)),
            exempt: setting.exempt,
            sender: None,
            scopes: ScopeRule::default(),
            headers: Arc::new(HeaderRules::of(Mode::Lenient)),
            max_body: None,
            response_timeout: None,
            total_timeout: None,
            stall_timeout: None,
            retry_idempotent: false,
            authorization: setting.authorization,
        })
        .unwrap();
    let names = FieldNames::default();
    let protocol = HeaderValue::from_static("websocket");
    let raw = RawHead {
        protocol: setting.websocket.then_some(&protocol),
        trusted_peer: setting.trusted,
        ..RawHead::from(request)
    };
    let head = Head::parse(raw, &names, "gate").unwrap();
    let session = head.seen(Field::SessionId).value.map(|_| HeaderValue::from_static("canonical"));
    let key = HeaderValue::from_static("ours");
    let outgoing = Outgoing {
        replacement: None,
        websocket_key: setting.websocket.then_some(&key),
        head: &head,
        passage: &passage(&routes, &head),
        names: &names,
        edge: &Edge {
            peer: HeaderValue::from_static("192.0.2.1"),
            proto: HeaderValue::from_static("https"),
            forwarded: HeaderValue::from_static("for=192.0.2.1;proto=https"),
            certificate: None,
        },
        ids: &CallIds {
            request: HeaderValue::from_static("request"),
            correlation: HeaderValue::from_static("correlation"),
            session,
        },
        via: &HeaderValue::from_static("1.1 gate"),
        step: None,
        sent: None,
        interim: None,
        host: setting.host,
    };
    let endpoint = Endpoint { host: "o".into(), port: 1, authority: HeaderValue::from_static("o:1"), tls: false };
    let mut out = Vec::new();
    outgoing.write_head(&endpoint, &mut out);
    out
}

/// Request line and fields, as httparse reads them; the span of the trace is random and shown as `*`.
fn read(head: &[u8]) -> (String, Vec<(String, Vec<u8>)>) {
    let whole = [head, b"\r\n"].concat();
    let mut slots = [httparse::EMPTY_HEADER; 150];
    let mut request = httparse::Request::new(&mut slots);
    assert_eq!(request.parse(&whole), Ok(httparse::Status::Complete(whole.len())), "{}", whole.escape_ascii());
    let line = format!("{} {} 1.{}", request.method.unwrap(), request.path.unwrap(), request.version.unwrap());
    let fields = request.headers.iter().map(|field| {
        let mut value = field.value.to_vec();
        if field.name == "traceparent" {
            assert_eq!(value.len(), 55);
            value = b"*".to_vec();
        }
        (field.name.to_owned(), value)
    });
    (line, fields.collect())
}

fn shown(request: &Request<()>, setting: Setting) -> Vec<String> {
    let (line, fields) = read(&written(request, setting));
    let fields = fields.into_iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii()));
    std::iter::once(line).chain(fields).collect()
}

fn call(fields: &[(&str, &str)]) -> Request<()> {
    let id = SessionId::from_random([7; 16]).reveal();
    let mut request = Request::builder().uri("/a%20b/..x;/?q=%2B&&x").header("host", "shop.example");
    for (name, value) in [("authorization", "Bearer abc"), ("client-id", "shop"), ("session-id", &id)] {
        request = request.header(name, value);
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

#[test]
fn the_state_of_a_trace_goes_with_the_trace() {
    let states = |fields: &[(&str, &str)]| {
        let lines = shown(&call(fields), PLAIN);
        lines.into_iter().filter(|line| line.starts_with("tracestate")).collect::<Vec<_>>()
    };
    const PARENT: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let (one, two) = (("tracestate", "a=1,b=2"), ("tracestate", "c=3"));
    assert_eq!(states(&[one, PARENT, two]), ["tracestate: a=1,b=2", "tracestate: c=3"]);
    for lost in [&[one][..], &[("traceparent", "00-0-0-00"), one], &[PARENT, one, PARENT]] {
        assert_eq!(states(lost), Vec::<String>::new(), "{lost:?}");
    }
}

#[test]
fn the_key_of_a_handshake_is_ours_where_the_client_has_none() {
    let mut request = call(&[("sec-websocket-key", "theirs"), ("sec-websocket-version", "13")]);
    *request.version_mut() = http::Version::HTTP_2;
    let setting = Setting { websocket: true, ..PLAIN };
    let lines = shown(&request, setting);
    assert_eq!(lines[0], "GET /a%20b/..x;/?q=%2B&&x 1.1");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: ours", "sec-websocket-version: 13"] {
        let name = line.split(':').next().unwrap();
        let same: Vec<_> = lines.iter().filter(|known| known.split(':').next() == Some(name)).collect();
        assert_eq!(same, [line]);
    }
}

#[test]
fn a_validated_call_is_written_with_its_proof() {
    let fields = [
        ("x-end", "kept"),
        ("cookie", "a=1"),
        ("x-forwarded-for", "203.0.113.9"),
        ("cookie", "b=2"),
        ("x-sg-subject", "root"),
        ("connection", "x-hop, close"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("content-length", "7"),
        ("transfer-encoding", "chunked"),
        ("via", "1.1 other"),
    ];
    assert_eq!(
        shown(&call(&fields), PLAIN),
        [
            "GET /a%20b/..x;/?q=%2B&&x 1.1",
            "host: shop.example",
            "x-end: kept",
            "via: 1.1 other",
            "cookie: a=1; b=2",
            "authorization: Bearer abc",
            "client-id: shop",
            "session-id: canonical",
            "x-sg-subject: gr%C3%BC%C3%9Fe",
            "x-sg-scopes: orders:read x",
            "x-correlation-id: correlation",
            "x-request-id: request",
            "traceparent: *",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: shop.example",
            "forwarded: for=192.0.2.1;proto=https",
            "via: 1.1 gate",
            "te: trailers",
        ]
    );
}

#[test]
fn settings_decide_on_host_authorization_and_trust() {
    let fields = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "front")];
    let setting =
        Setting { authorization: ForwardAuthorization::Strip, host: HostField::Endpoint, trusted: true, ..PLAIN };
    let lines = shown(&call(&fields), setting);
    for line in
        ["host: o:1", "x-forwarded-for: 203.0.113.9, 192.0.2.1", "x-forwarded-proto: http", "x-forwarded-host: front"]
    {
        assert!(lines.iter().any(|seen| seen == line), "{line} in {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("authorization")));
    // On an exempt route nothing vouches for a client-id or session-id.
    let lines = shown(&call(&[]), Setting { exempt: true, ..PLAIN });
    assert!(lines.iter().any(|line| line == "authorization: Bearer abc"));
    assert!(!lines.iter().any(|line| line.starts_with("client-id") || line.starts_with("session-id")));
}

#[test]
fn all_that_a_trusted_proxy_says_of_the_client_goes_on() {
    let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7")];
    let trusted = shown(&call(&lines), Setting { trusted: true, ..PLAIN });
    let expected = "x-forwarded-for: 203.0.113.9, 198.51.100.7, 192.0.2.1";
    assert!(trusted.iter().any(|line| line == expected), "{trusted:?}");
    let stranger = shown(&call(&lines), PLAIN);
    assert!(stranger.iter().any(|line| line == "x-forwarded-for: 192.0.2.1"), "{stranger:?}");
}

#[test]
fn an_absolute_form_becomes_an_origin_form() {
    for (uri, target) in [("http://shop/a?b", "/a?b"), ("http://shop", "/"), ("http://shop/?b", "/?b")] {
        let request = Request::builder().uri(uri).header("host", "shop").body(()).unwrap();
        let (line, _) = read(&written(&request, Setting { exempt: true, ..PLAIN }));
        assert_eq!(line, format!("GET {target} 1.1"));
    }
}

proptest! {
    /// Fields of any name and value come out as they went in, and a value never becomes a field of its own.
    #[test]
    fn what_is_written_is_read_back_equal(
        fields in proptest::collection::vec(("x-[a-z0-9!#$%&'*+.^`|~-]{1,20}", proptest::collection::vec(any::<u8>(), 0..40)), 0..40),
        query in "[a-zA-Z0-9%&=+/?;:@!$'()*,._~-]{0,40}",
    ) {
        let mut request = Request::builder().uri(format!("/x?{query}")).header("host", "shop");
        let mut given = Vec::new();
        let names = FieldNames::default();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
            if names.role(&name) == crate::policy::fields::Role::Other {
                given.push((name.as_str().to_owned(), value.as_bytes().trim_ascii().to_vec()));
                request = request.header(name, value);
            }
        }
        let request = request.body(()).unwrap();
        let (line, mut fields) = read(&written(&request, Setting { exempt: true, ..PLAIN }));
        prop_assert_eq!(line, format!("GET /x?{query} 1.1"));
        // A header map keeps the order of values of one name only.
        fields.retain(|(name, _)| given.iter().any(|(known, _)| known == name));
        fields.sort();
        given.sort();
        prop_assert_eq!(fields, given);
    }
}
