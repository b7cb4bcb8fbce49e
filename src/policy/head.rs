//! A request head in the only form later stages accept.

use std::borrow::Cow;

use http::header::HeaderMap;
use http::uri::Uri;
use http::{HeaderValue, Method, Version};

use super::fields::{FieldNames, Role, is_padded};
use super::method::{MethodSet, Verb};
use super::rejection::Rejection;
use super::target;
use super::violation::{Fault, Field, Violations};

/// Most fields a request may have.
pub const FIELDS_MAX: usize = 100;

/// The parts of a request that a [`Head`] is read from.
#[derive(Debug, Clone, Copy)]
pub struct RawHead<'r> {
    /// The method; GET for an extended CONNECT.
    pub method: &'r Method,
    /// The target; with an authority in HTTP/2 and in absolute form.
    pub uri: &'r Uri,
    /// The version.
    pub version: Version,
    /// The fields.
    pub headers: &'r HeaderMap,
    /// The protocol of an extended CONNECT (RFC 8441): what asks for it over HTTP/2 as `upgrade` does over HTTP/1.1.
    pub protocol: Option<&'r HeaderValue>,
    /// Whether a body follows.
    pub has_body: bool,
    /// Whether the peer is a proxy that is believed about who the client is.
    pub trusted_peer: bool,
}

/// What was seen of one ruled field.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'r> {
    /// The first value, of the name itself rather than of an alias.
    pub value: Option<&'r HeaderValue>,
    /// How many lines there were, aliases included.
    pub lines: u8,
    place: u8,
}

/// Forwarding fields of a trusted peer, and the trace it is part of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'r> {
    /// `x-forwarded-for` so far, the first line of it.
    pub forwarded_for: Option<&'r HeaderValue>,
    /// `x-forwarded-proto`.
    pub forwarded_proto: Option<&'r HeaderValue>,
    /// `x-forwarded-host`.
    pub forwarded_host: Option<&'r HeaderValue>,
    /// `traceparent`; none if there are several.
    pub trace_parent: Option<&'r HeaderValue>,
    /// Whether there is a `tracestate`, which means something only together with that.
    pub has_trace_state: bool,
}

/// A request head, read once. Holding one proves: the method is one we forward; the path is canonical and unambiguous;
/// there is one valid host; every field has its role; nothing of this hop and nothing reserved is marked for
/// forwarding.
#[derive(Debug, Clone)]
pub struct Head<'r> {
    raw: RawHead<'r>,
    body_length: Option<u64>,
    verb: Verb,
    path: Cow<'r, str>,
    host: &'r str,
    seen: [Seen<'r>; 8],
    named_by_connection: Violations,
    kept: u128,
    origin: Origin<'r>,
    te_trailers: bool,
    has_origin: bool,
    preflight_method: bool,
    cookies: u8,
    upgrade: Option<&'r HeaderValue>,
    upgrade_lines: u8,
    connection_upgrade: bool,
}

impl<'r> Head<'r> {
    /// Reads a head. `own_via` is the pseudonym this gateway writes into `via`.
    ///
    /// # Errors
    /// `method-not-implemented`, `method-not-allowed` (TRACE, plain CONNECT), `request-malformed` (target, host, padding of
    /// values over HTTP/2), `header-repeated` (host), `request-too-large` (field count), `loop-detected`.
    pub fn parse(raw: RawHead<'r>, names: &FieldNames, own_via: &str) -> Result<Self, Rejection> {
        let verb = match *raw.method {
            Method::TRACE | Method::CONNECT => return Err(Rejection::MethodNotAllowed(MethodSet::ALL)),
            ref method => Verb::of(method).ok_or(Rejection::MethodNotImplemented)?,
        };
        // Who asks for what is not a tunnel gets none, and nothing else would do (RFC 8441 section 4).
        if raw.protocol.is_some_and(|protocol| !is_opaque_protocol(protocol.as_bytes())) {
            return Err(Rejection::MethodNotImplemented);
        }
        if raw.headers.len() > FIELDS_MAX {
            return Err(Rejection::HeadTooLarge);
        }
        // An absolute target names a resource of HTTP (RFC 9112 section 3.2.2).
        if raw.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
            return Err(Rejection::TargetMalformed);
        }
        let path = target::canonical(raw.uri.path())?;
        let mut head = Self {
            raw,
            body_length: None,
            verb,
            path,
            host: "",
            seen: [Seen::default(); 8],
            named_by_connection: Violations::NONE,
            kept: 0,
            origin: Origin::default(),
            te_trailers: false,
            has_origin: false,
            preflight_method: false,
            cookies: 0,
            upgrade: None,
            upgrade_lines: 0,
            connection_upgrade: false,
        };
        head.read_fields(names, own_via)?;
        head.host = head.read_host()?;
        Ok(head)
    }

    fn read_fields(&mut self, names: &FieldNames, own_via: &str) -> Result<(), Rejection> {
        let mut connection = false;
        let mut traces = 0_u8;
        let http2 = self.raw.version == Version::HTTP_2;
        for (place, (name, value)) in self.raw.headers.iter().enumerate() {
            if http2 && is_padded(value) {
                return Err(Rejection::RequestMalformed);
            }
            let keep = match names.role(name) {
                Role::Other => true,
                Role::Ruled(field, rank) => self.note(field, rank, value),
                Role::Cookie => {
                    self.cookies = self.cookies.saturating_add(1);
                    true
                }
                Role::Origin => {
                    self.has_origin = true;
                    true
                }
                Role::PreflightMethod => {
                    self.preflight_method = true;
                    true
                }
                Role::Connection => {
                    connection = true;
                    false
                }
                Role::Te => {
                    self.te_trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
                    false
                }
                Role::Via => {
                    if names_gateway(value, own_via) {
                        return Err(Rejection::LoopDetected);
                    }
                    true
                }
                Role::TraceParent => {
                    traces = traces.saturating_add(1);
                    self.origin.trace_parent = (traces == 1).then_some(value);
                    false
                }
                Role::TraceState => {
                    self.origin.has_trace_state = true;
                    false
                }
                Role::ForwardedFor => {
                    self.origin.forwarded_for.get_or_insert(value);
                    false
                }
                Role::ForwardedProto => {
                    self.origin.forwarded_proto.get_or_insert(value);
                    false
                }
                Role::ForwardedHost => {
                    self.origin.forwarded_host.get_or_insert(value);
                    false
                }
                Role::Forwarded => self.raw.trusted_peer,
                Role::Upgrade => {
                    self.upgrade = Some(value);
                    self.upgrade_lines = self.upgrade_lines.saturating_add(1);
                    false
                }
                Role::Reserved | Role::Hop | Role::Expect => false,
            };
            if keep {
                self.kept |= 1 << place;
            }
        }
        if !self.raw.trusted_peer {
            let Origin { trace_parent, has_trace_state, .. } = self.origin;
            self.origin = Origin { trace_parent, has_trace_state, ..Origin::default() };
        }
        if connection {
            self.read_connection(names);
        }
        Ok(())
    }

    /// Notes a ruled field and says whether the line itself may be forwarded; the security fields are written anew.
    fn note(&mut self, field: Field, place: u8, value: &'r HeaderValue) -> bool {
        let seen = &mut self.seen[field as usize];
        let first = seen.lines == 0;
        // Two aliases of the correlation id are two ids; the name itself counts, then the earlier alias.
        if field == Field::Correlation && !first && seen.place != place {
            if place < seen.place {
                (seen.value, seen.place, seen.lines) = (Some(value), place, 1);
            }
            return place != 0;
        }
        seen.lines = seen.lines.saturating_add(1);
        if first {
            (seen.value, seen.place) = (Some(value), place);
        }
        match field {
            Field::Authorization | Field::ClientId | Field::SessionId | Field::Host => false,
            Field::Correlation => place != 0,
            Field::ContentType | Field::Accept | Field::IdempotencyKey => true,
        }
    }

    /// Fields that `connection` names are of this hop only, and it may not name those that carry the proof.
    fn read_connection(&mut self, names: &FieldNames) {
        let nominated = self.raw.headers.get_all(http::header::CONNECTION);
        for token in nominated.iter().flat_map(tokens) {
            if token.eq_ignore_ascii_case(b"upgrade") {
                self.connection_upgrade = true;
                continue;
            }
            if [b"close".as_slice(), b"keep-alive", b"te"].iter().any(|usual| token.eq_ignore_ascii_case(usual)) {
                continue;
            }
            for (place, (name, _)) in self.raw.headers.iter().enumerate() {
                if name.as_str().as_bytes().eq_ignore_ascii_case(token) {
                    self.kept &= !(1 << place);
                }
            }
            let Ok(name) = http::HeaderName::from_bytes(token) else { continue };
            if let Role::Ruled(
                field @ (Field::Authorization
                | Field::ClientId
                | Field::SessionId
                | Field::IdempotencyKey
                | Field::Host),
                _,
            ) = names.role(&name)
            {
                self.named_by_connection = self.named_by_connection.with(field, Fault::Repeated);
            }
        }
    }

    fn read_host(&self) -> Result<&'r str, Rejection> {
        let seen = self.seen[Field::Host as usize];
        let repeated = || Rejection::HeaderRepeated(Violations::NONE.with(Field::Host, Fault::Repeated));
        if seen.lines > 1 {
            return Err(repeated());
        }
        let authority = self.raw.uri.authority().map(http::uri::Authority::as_str);
        let host = match (authority, seen.value) {
            (Some(authority), Some(value)) if !value.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
                return Err(Rejection::HostMalformed);
            }
            (Some(authority), _) => authority.as_bytes(),
            (None, Some(value)) => value.as_bytes(),
            (None, None) if self.raw.version == Version::HTTP_10 => return Ok(""),
            (None, None) => return Err(Rejection::HostMalformed),
        };
        if host.contains(&b',') {
            return Err(repeated());
        }
        if !target::is_host(host) {
            return Err(Rejection::HostMalformed);
        }
        std::str::from_utf8(host).map_err(|_| Rejection::HostMalformed)
    }

    /// The same head, with the length of the body that follows if it is known beforehand.
    #[must_use]
    pub const fn with_body_length(mut self, length: Option<u64>) -> Self {
        self.body_length = length;
        self
    }

    /// How long the body is, if that was said.
    #[must_use]
    pub const fn body_length(&self) -> Option<u64> {
        self.body_length
    }

    /// The method.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        self.verb
    }

    /// The path as routes see it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path exactly as it came.
    #[must_use]
    pub fn raw_path(&self) -> &'r str {
        self.raw.uri.path()
    }

    /// The query exactly as it came.
    #[must_use]
    pub fn query(&self) -> Option<&'r str> {
        self.raw.uri.query()
    }

    /// Host and port the call is for; empty for an HTTP/1.0 call without a host.
    #[must_use]
    pub const fn host(&self) -> &'r str {
        self.host
    }

    /// What was seen of a ruled field.
    #[must_use]
    pub const fn seen(&self, field: Field) -> Seen<'r> {
        self.seen[field as usize]
    }

    /// Ruled fields that `connection` named.
    #[must_use]
    pub const fn named_by_connection(&self) -> Violations {
        self.named_by_connection
    }

    /// What the head was read from.
    #[must_use]
    pub const fn raw(&self) -> &RawHead<'r> {
        &self.raw
    }

    /// Forwarding fields that are believed, and the trace.
    #[must_use]
    pub const fn origin(&self) -> &Origin<'r> {
        &self.origin
    }

    /// Whether the client takes trailers (`te: trailers`).
    #[must_use]
    pub const fn takes_trailers(&self) -> bool {
        self.te_trailers
    }

    /// How many lines the cookies came in.
    #[must_use]
    pub const fn cookie_lines(&self) -> u8 {
        self.cookies
    }

    /// Whether this is a true CORS preflight: OPTIONS with `origin` and `access-control-request-method`.
    #[must_use]
    pub const fn is_preflight(&self) -> bool {
        matches!(self.verb, Verb::Options) && self.has_origin && self.preflight_method
    }

    /// The protocols the client wants to switch to, if that may be asked of an upstream: a GET over HTTP/1.1 without a
    /// body that says so in `connection` too, for protocols under which no further HTTP request can hide from the gate.
    /// Anything else is a call like any other (RFC 9110 section 7.8 lets a server ignore the field). Over HTTP/2 it is an
    /// extended CONNECT that says so.
    #[must_use]
    pub fn upgrade(&self) -> Option<&'r HeaderValue> {
        if self.raw.protocol.is_some() {
            return self.raw.protocol;
        }
        let value = self.upgrade.filter(|_| self.connection_upgrade && self.upgrade_lines == 1)?;
        let plain = matches!(self.verb, Verb::Get) && self.raw.version == Version::HTTP_11 && !self.raw.has_body;
        (plain && tokens(value).all(is_opaque_protocol)).then_some(value)
    }

    /// Whether only a tunnel will do: an extended CONNECT has no other meaning.
    #[must_use]
    pub const fn is_connect(&self) -> bool {
        self.raw.protocol.is_some()
    }

    /// The fields that go on to the upstream as they are, in the order they came.
    pub fn forwarded(&self) -> impl Iterator<Item = (&'r http::HeaderName, &'r HeaderValue)> {
        let kept = self.kept;
        self.raw.headers.iter().enumerate().filter(move |(place, _)| kept & (1 << place) != 0).map(|(_, field)| field)
    }
}

/// The comma-separated tokens of a list field.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether this names a protocol (RFC 9110 section 7.8) other than HTTP and what HTTP is carried in: h2c through a gate
/// would be calls that nobody checks.
fn is_opaque_protocol(protocol: &[u8]) -> bool {
    const CARRIES_HTTP: [&[u8]; 7] = [b"http", b"https", b"shttp", b"h2", b"h2c", b"h3", b"tls"];
    let is_token = |part: &[u8]| http::HeaderName::from_bytes(part).is_ok();
    let mut parts = protocol.splitn(2, |byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    is_token(name)
        && parts.next().is_none_or(is_token)
        && !CARRIES_HTTP.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a `via` value has an entry `<protocol> <pseudonym>` with this pseudonym.
fn names_gateway(via: &HeaderValue, pseudonym: &str) -> bool {
    tokens(via).any(|entry| entry.split(|byte| *byte == b' ').nth(1) == Some(pseudonym.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parse(request: &Request<()>) -> Result<Head<'_>, Rejection> {
        let raw = RawHead {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            protocol: None,
            has_body: false,
            trusted_peer: false,
        };
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
}
