//! From a head to its admission, and on to the head an upstream gets.

use std::cell::LazyCell;

use arbitrary::{Arbitrary, Unstructured};
use futures_util::FutureExt;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version};
use jsonwebtoken::{EncodingKey, Header, encode};
use sessiongate::clock::Clock;
use sessiongate::config::{self, Snapshot};
use sessiongate::gate::memo::TokenMemo;
use sessiongate::gate::{Admission, Gate, Known};
use sessiongate::policy::call::Passage;
use sessiongate::policy::fields::Role;
use sessiongate::policy::head::{FIELDS_MAX, Head, RawHead};
use sessiongate::policy::ids::SessionId;
use sessiongate::policy::method::Verb;
use sessiongate::policy::route::ForwardAuthorization;
use sessiongate::policy::violation::Field;
use sessiongate::store::AnyStore;
use sessiongate::store::memory::MemoryStore;
use sessiongate::upstream::forward::{CallIds, Edge, Outgoing};
use sessiongate::upstream::{Endpoint, HostField, Outbound};

use crate::target::is_unambiguous;

const CLIENT: &str = "shop";
/// Holds what must not end a line.
const SUBJECT: &str = "grüße\r\nx-sg-scopes: all";

/// A call.
#[derive(Debug, Arbitrary)]
pub struct Call<'a> {
    form: Form,
    method: Verbs<'a>,
    target: Target<'a>,
    host: Option<&'a str>,
    /// A token, a client-id and a session-id that are right, without which hardly any call would come far.
    proof: [bool; 3],
    fields: Vec<(Name<'a>, Value<'a>)>,
    has_body: bool,
    trusted: bool,
    endpoint_host: bool,
}

/// How the call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Http11,
    Http10,
    Http2,
    /// Over HTTP/2, as an extended CONNECT for this protocol.
    Connect(&'static str),
}

/// One byte, so that a seed can be made by hand.
impl<'a> Arbitrary<'a> for Form {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u8::arbitrary(bytes)? % 8 {
            0..=1 => Self::Http11,
            2 => Self::Http10,
            3..=4 => Self::Http2,
            5 => Self::Connect("websocket"),
            6 => Self::Connect("feed/1"),
            _ => Self::Connect("h2c"),
        })
    }

    fn size_hint(_: usize) -> (usize, Option<usize>) {
        (1, Some(1))
    }
}

#[derive(Debug, Arbitrary)]
enum Verbs<'a> {
    Get,
    Post,
    Delete,
    Options,
    Other(&'a str),
}

#[derive(Debug, Arbitrary)]
enum Target<'a> {
    Any(&'a str),
    Path(&'a str),
    Strict(&'a str),
    Health(&'a str),
    Session(&'a str),
    Absolute(&'a str),
}

macro_rules! known {
    ($type:ident: $($variant:ident = $text:literal,)*) => {
        #[derive(Debug, Arbitrary)]
        enum $type<'a> { $($variant,)* Other(&'a [u8]) }

        impl $type<'_> {
            fn bytes(&self) -> &[u8] {
                match self { $(Self::$variant => $text.as_bytes(),)* Self::Other(bytes) => bytes }
            }
        }
    };
}

known! { Name:
    Authorization = "authorization", ClientId = "client-id", SessionId = "session-id", Disguise = "session_id",
    Correlation = "x-correlation-id", Alias = "x-trace-id", ContentType = "content-type", Accept = "accept",
    Key = "idempotency-key", Host = "host", Connection = "connection", Te = "te", Via = "via", Cookie = "cookie",
    Length = "content-length", Coding = "transfer-encoding", Subject = "x-sg-subject", User = "x-user",
    For = "x-forwarded-for", Proto = "x-forwarded-proto", ForHost = "x-forwarded-host", Forwarded = "forwarded",
    RealIp = "x-real-ip", Trace = "traceparent", RequestId = "x-request-id", Upgrade = "upgrade", Expect = "expect",
    Origin = "origin", Preflight = "access-control-request-method", KeepAlive = "keep-alive",
}

known! { Value:
    Token = "{token}", Id = "{id}", OtherId = "00000000-0000-4000-8000-000000000000", Client = "shop",
    Json = "application/json", Close = "close", Hop = "close, session-id", Cookies = "cookie, x-trace-id, te",
    Trailers = "trailers", Chunked = "chunked", Own = "1.1 sessiongate", Address = "192.0.2.7",
    Parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}

/// A gate with one session, and what opens it.
struct World {
    live: Snapshot,
    gate: Gate,
    memo: TokenMemo,
    id: SessionId,
    token: String,
}

impl World {
    fn new() -> Self {
        _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let text = include_str!("../gate/sessiongate.toml");
        let live = config::parse(text, &crate::config::folder().join("sessiongate.toml"), 1);
        let live = live.unwrap_or_else(|errors| panic!("{errors}"));
        let claims = serde_json::json!({
            "sub": SUBJECT, "client_id": CLIENT, "scope": "orders.read", "exp": 4_000_000_000_u64,
        });
        let secret = EncodingKey::from_secret(crate::config::secret().as_bytes());
        let token = encode(&Header::default(), &claims, &secret).expect("signed");
        let mut world = Self {
            live,
            gate: Gate::new(AnyStore::Memory(MemoryStore::default()), Clock::default()),
            memo: TokenMemo::default(),
            id: SessionId::from_random([0; 16]),
            token,
        };
        world.id = world.open();
        world
    }

    fn open(&self) -> SessionId {
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::try_from(format!("Bearer {}", self.token)).expect("a value");
        headers.insert(http::header::AUTHORIZATION, bearer);
        headers.insert(http::header::HOST, HeaderValue::from_static("shop"));
        headers.insert("client-id", HeaderValue::from_static(CLIENT));
        let uri = Uri::from_static("/session");
        let (version, has_body, trusted_peer) = (Version::HTTP_11, false, false);
        let (method, headers) = (&Method::POST, &headers);
        let raw = RawHead { method, uri: &uri, version, headers, protocol: None, has_body, trusted_peer };
        let head = Head::parse(raw, &self.live.names, &self.live.via).expect("a good head");
        let now = self.gate.clock().now();
        let admission = self.gate.admit(&self.live, &head, now, &self.memo, &mut Known::default()).now_or_never();
        let Some(Ok(Admission::Open(open))) = admission else { panic!("{admission:?}") };
        let opened = self.gate.open(&open, b"", &self.live, now).now_or_never();
        opened.expect("in memory").expect("opened").id
    }

    /// `{token}` and `{id}` filled in.
    fn fill(&self, bytes: &[u8]) -> Option<HeaderValue> {
        let filled = match bytes {
            b"{token}" => format!("Bearer {}", self.token).into_bytes(),
            b"{id}" => self.id.reveal().into_bytes(),
            other => other.to_vec(),
        };
        HeaderValue::try_from(filled).ok()
    }
}

thread_local! {
    static WORLD: LazyCell<World> = LazyCell::new(World::new);
}

/// Lets a call in, or not.
pub fn check(call: &Call<'_>) {
    WORLD.with(|world| check_in(world, call));
}

fn check_in(world: &World, call: &Call<'_>) {
    let method = match call.method {
        Verbs::Get => Method::GET,
        Verbs::Post => Method::POST,
        Verbs::Delete => Method::DELETE,
        Verbs::Options => Method::OPTIONS,
        Verbs::Other(name) => match name.parse() {
            Ok(method) => method,
            Err(_) => return,
        },
    };
    let target = match call.target {
        Target::Any(text) => text.to_owned(),
        Target::Path(text) => format!("/{text}"),
        Target::Strict(text) => format!("/strict/{text}"),
        Target::Health(text) => format!("/health/{text}"),
        Target::Session(text) => format!("/session{text}"),
        Target::Absolute(text) => format!("http://shop{text}"),
    };
    // As hyper reads it; a fragment has been refused before.
    let Ok(uri) = target.parse::<Uri>() else { return };
    if target.contains('#') {
        return;
    }
    let mut headers = HeaderMap::new();
    let http2 = matches!(call.form, Form::Http2 | Form::Connect(_));
    let mut add = |name: &[u8], value: &[u8]| {
        // As the parsers of HTTP/1 do.
        let padding = |byte: &u8| matches!(byte, b' ' | b'\t');
        let end = value.iter().rposition(|byte| !padding(byte)).map_or(0, |last| last + 1);
        let begin = value.iter().position(|byte| !padding(byte)).unwrap_or(end);
        let value = if http2 { value } else { &value[begin..end] };
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name), world.fill(value)) {
            _ = headers.try_append(name, value);
        }
    };
    add(b"host", call.host.unwrap_or("shop").as_bytes());
    for (given, (name, value)) in
        call.proof.iter().zip([("authorization", "{token}"), ("client-id", CLIENT), ("session-id", "{id}")])
    {
        if *given {
            add(name.as_bytes(), value.as_bytes());
        }
    }
    call.fields.iter().for_each(|(name, value)| add(name.bytes(), value.bytes()));
    let protocol = match call.form {
        Form::Connect(protocol) => Some(HeaderValue::from_static(protocol)),
        Form::Http11 | Form::Http10 | Form::Http2 => None,
    };
    let raw = RawHead {
        method: if protocol.is_some() { &Method::GET } else { &method },
        uri: &uri,
        version: match call.form {
            Form::Http11 => Version::HTTP_11,
            Form::Http10 => Version::HTTP_10,
            Form::Http2 | Form::Connect(_) => Version::HTTP_2,
        },
        headers: &headers,
        protocol: protocol.as_ref(),
        has_body: call.has_body && protocol.is_none(),
        trusted_peer: call.trusted,
    };
    let Ok(head) = Head::parse(raw, &world.live.names, &world.live.via) else { return };
    assert!(headers.len() <= FIELDS_MAX);
    assert!(protocol.as_ref().is_none_or(|protocol| protocol != "h2c" && head.upgrade() == Some(protocol)));
    is_unambiguous(head.path());
    let now = world.gate.clock().now();
    let mut known = Known::default();
    let admission = world.gate.admit(&world.live, &head, now, &world.memo, &mut known).now_or_never();
    match admission.expect("a store in memory does not wait") {
        Err(rejection) => assert!(rejection.row().status.is_client_error() || rejection.row().status.is_server_error()),
        Ok(Admission::Open(open)) => {
            assert_eq!((uri.path(), head.verb()), ("/session", Verb::Post));
            has_proof(world, &headers, false);
            assert_eq!(open.token(), world.token);
        }
        Ok(Admission::Read(_) | Admission::End(_)) => {
            assert_eq!(uri.path(), "/session");
            has_proof(world, &headers, true);
        }
        Ok(Admission::KeySet) => panic!("this gate issues no tokens"),
        Ok(Admission::Repeat(_)) => panic!("this gate has no flows"),
        Ok(Admission::Forward(passage, _)) => {
            assert_ne!(head.path(), "/session");
            match passage.validated() {
                Some(_) => has_proof(world, &headers, true),
                None => assert!(head.path().starts_with("/health/"), "{}", head.path()),
            }
            let host = if call.endpoint_host { HostField::Endpoint } else { HostField::Preserve };
            is_clean(world, &head, &passage, host);
        }
    }
}

/// Exactly one each, and the right one.
fn has_proof(world: &World, headers: &HeaderMap, in_session: bool) {
    let one = |name: &str| {
        let values: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let [value] = values[..] else { panic!("{name}: {} values", values.len()) };
        value
    };
    let credentials = one("authorization");
    let (scheme, token) = credentials.split_at(6);
    assert!(scheme.eq_ignore_ascii_case(b"bearer") && token.trim_ascii_start() == world.token.as_bytes());
    assert_eq!(one("client-id"), CLIENT.as_bytes());
    if in_session {
        assert!(one("session-id").eq_ignore_ascii_case(world.id.reveal().as_bytes()));
    }
}

/// What the upstream gets, read by another parser.
fn is_clean(world: &World, head: &Head<'_>, passage: &Passage<'_>, host: HostField) {
    let text = |text: &'static str| HeaderValue::from_static(text);
    let session = passage.validated().map(|call| HeaderValue::try_from(call.id().reveal()).expect("an id"));
    let outgoing = Outgoing {
        head,
        passage,
        names: &world.live.names,
        edge: &Edge {
            peer: text("192.0.2.1"),
            proto: text("https"),
            forwarded: text("for=192.0.2.1;proto=https"),
            certificate: None,
        },
        ids: &CallIds { request: text("request"), correlation: text("correlation"), session },
        via: &text("1.1 sessiongate"),
        host,
        replacement: None,
        websocket_key: None,
        step: None,
        sent: None,
        interim: None,
    };
    let endpoint = Endpoint { host: "origin".into(), port: 1, authority: text("origin:1"), tls: false };
    let mut written = Vec::new();
    outgoing.write_head(&endpoint, &mut written);
    written.extend_from_slice(b"\r\n");
    let shown = written.escape_ascii();
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX + 32];
    let mut request = httparse::Request::new(&mut slots);
    assert_eq!(request.parse(&written), Ok(httparse::Status::Complete(written.len())), "{shown}");
    let wanted = head.raw().uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let wanted = if wanted.starts_with('/') { wanted.to_owned() } else { format!("/{wanted}") };
    assert_eq!(request.method, Some(head.raw().method.as_str()), "{shown}");
    assert_eq!((request.path, request.version), (Some(&*wanted), Some(1)), "{shown}");

    let all = |name: &str| -> Vec<&[u8]> {
        request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
    };
    let validated = passage.validated().is_some();
    let kept = passage.route().authorization == ForwardAuthorization::Keep;
    let session = world.id.reveal();
    let single = |name: &str, value: Option<&[u8]>| {
        assert_eq!(all(name), value.into_iter().collect::<Vec<_>>(), "{name} in {shown}");
    };
    if host == HostField::Endpoint {
        single("host", Some(b"origin:1"));
    }
    single("client-id", validated.then_some(CLIENT.as_bytes()));
    single("session-id", validated.then_some(session.as_bytes()));
    single("x-sg-scopes", validated.then_some(b"orders.read"));
    single("x-request-id", Some(b"request"));
    single("x-correlation-id", Some(b"correlation"));
    // A proof is looked at beside a token with the scheme DPoP only, and these tokens have another.
    let proof = head.proof().ok().filter(|_| kept && !validated);
    single("dpop", proof.map(HeaderValue::as_bytes));
    single("authorization", head.seen(Field::Authorization).value.filter(|_| kept).map(HeaderValue::as_bytes));
    let upgrade = head.upgrade().map(HeaderValue::as_bytes);
    single("upgrade", upgrade);
    single("connection", upgrade.map(|_| b"upgrade".as_slice()));
    for (name, value) in head.forwarded().filter(|(name, _)| **name != http::header::COOKIE) {
        assert!(all(name.as_str()).contains(&value.as_bytes()), "{name} in {shown}");
    }
    assert_eq!(all("x-sg-subject").len(), usize::from(validated), "{shown}");
    for name in ["host", "traceparent", "x-forwarded-for", "x-forwarded-proto"] {
        assert_eq!(all(name).len(), 1, "{name} in {shown}");
    }
    assert!(all("x-forwarded-host").len() <= 1 && all("te").len() <= 1 && all("cookie").len() <= 1, "{shown}");
    let trusted = head.raw().trusted_peer;
    assert!(!all("forwarded").is_empty() && (trusted || all("forwarded").len() == 1), "{shown}");
    assert_eq!(all("via").last(), Some(&b"1.1 sessiongate".as_slice()), "{shown}");

    const OURS: &[&str] = &["x-request-id", "te", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
    const SG: &[&str] = &["x-sg-subject", "x-sg-scopes", "traceparent", "forwarded"];
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
        let reserved = match world.live.names.role(&name) {
            Role::Ruled(..)
            | Role::Proof
            | Role::Via
            | Role::Origin
            | Role::PreflightMethod
            | Role::Cookie
            | Role::Other => false,
            Role::Forwarded => !trusted,
            Role::Connection | Role::Upgrade => upgrade.is_none(),
            _ => true,
        };
        let ours = OURS.contains(&name.as_str()) || SG.contains(&name.as_str());
        assert!(!reserved || ours, "{name} in {shown}");
        // Nor what a server that maps names to variables would take for one of ours.
        let plain = name.as_str().replace('_', "-");
        assert!(
            plain == name.as_str()
                || !(["client-id", "session-id", "authorization", "content-length", "transfer-encoding"]
                    .contains(&&*plain)
                    || plain.starts_with("x-sg-")
                    || OURS.contains(&&*plain)),
            "{name} in {shown}"
        );
    }
}
