//! Which header field is which: the names of the fields we read, and the fate of all others.

use http::HeaderValue;
use http::header::{self, HeaderName};

use super::violation::Field;

/// What a request field is to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One of the fields the rules look at; the second number is 0 for the name itself, else the place of the alias.
    Ruled(Field, u8),
    /// `connection`: names more fields of this hop (RFC 9110 section 7.6.1).
    Connection,
    /// A field of one hop, or one we write ourselves: never forwarded.
    Hop,
    /// `upgrade` (RFC 9110 section 7.8).
    Upgrade,
    /// `te` (RFC 9110 section 10.1.4).
    Te,
    /// `via`, to find loops (RFC 9110 section 7.6.3).
    Via,
    /// `x-forwarded-for`; from a trusted peer it is continued.
    ForwardedFor,
    /// `x-forwarded-proto`; from a trusted peer it is kept.
    ForwardedProto,
    /// `x-forwarded-host`; from a trusted peer it is kept.
    ForwardedHost,
    /// Another field that says who the client is: removed unless a trusted peer sent it.
    Forwarded,
    /// An identity header that upstreams believe, or one of ours: never taken from a client.
    Reserved,
    /// `traceparent` (W3C Trace Context).
    TraceParent,
    /// `tracestate` (W3C Trace Context): goes with its `traceparent`.
    TraceState,
    /// `origin` (Fetch standard).
    Origin,
    /// `access-control-request-method` (Fetch standard).
    PreflightMethod,
    /// `cookie`: HTTP/2 may split it (RFC 9113 section 8.2.3).
    Cookie,
    /// `dpop` (RFC 9449 section 4.1): the proof that goes with the token.
    Proof,
    /// `expect` (RFC 9110 section 10.1.1): answered here.
    Expect,
    /// Everything else: forwarded as it is.
    Other,
}

/// The field that proofs come in (RFC 9449 section 4.1).
pub const PROOF: HeaderName = HeaderName::from_static("dpop");

/// Prefix of our own fields.
pub const OWN_PREFIX: &str = "x-sg-";

/// Identity fields that backends are known to believe. More can be configured.
const LOOK_ALIKES: &[&str] = &[
    "x-user",
    "x-user-id",
    "x-remote-user",
    "remote-user",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-preferred-username",
    "x-auth-request-access-token",
    "x-webauth-user",
    "x-consumer-id",
    "x-consumer-custom-id",
    "x-consumer-username",
    "x-consumer-groups",
    "x-anonymous-consumer",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-goog-iap-jwt-assertion",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-data",
    "x-amzn-oidc-accesstoken",
    "cf-access-jwt-assertion",
    "x-credential-identifier",
    "x-jwt-payload",
    "x-jwt-assertion",
    "x-subject",
    "x-scopes",
    "x-scope",
    "x-client",
    "x-original-url",
    "x-rewrite-url",
    "x-original-method",
    "x-original-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Fields that say who the client is, beside those that [`is_forwarded`] knows by how they begin.
const FORWARDED: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
    "client-cert",
];

/// How the names of all fields begin that say who the client is; some proxy believes each of them.
const FORWARDED_PREFIXES: [&str; 6] =
    ["x-forwarded-", "x-ssl-", "x-tls-client-", "x-client-cert", "ssl-client-", "client-cert-"];

/// Whether the name begins like those that only proxies may set, however it goes on.
fn is_forwarded(text: &str) -> bool {
    FORWARDED_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}

/// The names of the ruled fields, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuledName {
    /// The name that is also written toward upstreams.
    pub name: HeaderName,
    /// Other names under which a client may send it.
    pub aliases: Vec<HeaderName>,
}

/// Every name the gateway knows, found by length and then by comparison: a handful of nanoseconds a field.
#[derive(Debug, Clone)]
pub struct FieldNames {
    ruled: [RuledName; 8],
    by_len: Vec<Vec<KnownName>>,
}

/// A name we know.
#[derive(Debug, Clone)]
struct KnownName {
    ends: (Option<u8>, Option<u8>),
    name: Box<str>,
    role: Role,
}

/// The first and the last byte: names of the same length hardly ever share both, so that one comparison of the rest is
/// enough.
fn ends(name: &str) -> (Option<u8>, Option<u8>) {
    (name.as_bytes().first().copied(), name.as_bytes().last().copied())
}

impl FieldNames {
    /// The default names of the ruled fields, in the order of [`Field`].
    #[must_use]
    pub fn defaults() -> [RuledName; 8] {
        let plain = |name: HeaderName| RuledName { name, aliases: Vec::new() };
        let alias = |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect();
        [
            plain(header::AUTHORIZATION),
            plain(HeaderName::from_static("client-id")),
            plain(HeaderName::from_static("session-id")),
            RuledName {
                name: HeaderName::from_static("x-correlation-id"),
                aliases: alias(&["correlation-id", "x-transaction-id", "x-trace-id", "x-correlator"]),
            },
            plain(header::CONTENT_TYPE),
            plain(header::ACCEPT),
            plain(HeaderName::from_static("idempotency-key")),
            plain(header::HOST),
        ]
    }

    /// Names compiled from the ruled fields and further identity fields to keep from upstreams.
    #[must_use]
    pub fn new(ruled: [RuledName; 8], identity: &[HeaderName]) -> Self {
        let mut names = Self { by_len: Vec::new(), ruled };
        for (field, RuledName { name, aliases }) in Field::ALL.into_iter().zip(names.ruled.clone()) {
            for (name, place) in [name].into_iter().chain(aliases).zip(0..) {
                names.add(name.as_str(), Role::Ruled(field, place));
            }
        }
        for (name, role) in [
            (header::CONNECTION, Role::Connection),
            (header::UPGRADE, Role::Upgrade),
            (header::TE, Role::Te),
            (header::VIA, Role::Via),
            (header::ORIGIN, Role::Origin),
            (header::COOKIE, Role::Cookie),
            (header::EXPECT, Role::Expect),
            (header::ACCESS_CONTROL_REQUEST_METHOD, Role::PreflightMethod),
            (PROOF, Role::Proof),
            (HeaderName::from_static("traceparent"), Role::TraceParent),
            (HeaderName::from_static("tracestate"), Role::TraceState),
            (HeaderName::from_static("x-forwarded-for"), Role::ForwardedFor),
            (HeaderName::from_static("x-forwarded-proto"), Role::ForwardedProto),
            (HeaderName::from_static("x-forwarded-host"), Role::ForwardedHost),
            // Framing and ids are written anew for the upstream.
            (header::TRANSFER_ENCODING, Role::Hop),
            (header::CONTENT_LENGTH, Role::Hop),
            (header::PROXY_AUTHORIZATION, Role::Hop),
            (HeaderName::from_static("keep-alive"), Role::Hop),
            (HeaderName::from_static("proxy-connection"), Role::Hop),
            (HeaderName::from_static("http2-settings"), Role::Hop),
            (HeaderName::from_static("x-request-id"), Role::Hop),
        ] {
            names.add(name.as_str(), role);
        }
        FORWARDED.iter().for_each(|name| names.add(name, Role::Forwarded));
        LOOK_ALIKES.iter().for_each(|name| names.add(name, Role::Reserved));
        identity.iter().for_each(|name| names.add(name.as_str(), Role::Reserved));
        names
    }

    fn add(&mut self, name: &str, role: Role) {
        let len = name.len();
        if self.by_len.len() <= len {
            self.by_len.resize(len + 1, Vec::new());
        }
        // The first role given to a name stays: a ruled field keeps its rule whatever else its name means.
        if self.known(name).is_none() {
            self.by_len[len].push(KnownName { ends: ends(name), name: name.into(), role });
        }
    }

    fn known(&self, name: &str) -> Option<Role> {
        let ends = ends(name);
        let candidates = self.by_len.get(name.len())?;
        candidates.iter().find(|known| known.ends == ends && *known.name == *name).map(|known| known.role)
    }

    /// What the field `name` is. Names arrive in lower case.
    #[must_use]
    pub fn role(&self, name: &HeaderName) -> Role {
        let text = name.as_str();
        if let Some(role) = self.known(text) {
            return role;
        }
        if text.starts_with(OWN_PREFIX) {
            return Role::Reserved;
        }
        if is_forwarded(text) {
            return Role::Forwarded;
        }
        // Backends that map fields to variables (CGI, WSGI) read `session_id` as `session-id`.
        if text.contains('_') && self.is_disguised(text) {
            return Role::Reserved;
        }
        Role::Other
    }

    #[cold]
    fn is_disguised(&self, text: &str) -> bool {
        let plain = text.replace('_', "-");
        match self.known(&plain) {
            Some(Role::Ruled(field, _)) => !matches!(field, Field::ContentType | Field::Accept),
            Some(
                Role::Reserved
                | Role::Forwarded
                | Role::ForwardedFor
                | Role::ForwardedHost
                | Role::ForwardedProto
                | Role::Hop,
            ) => true,
            Some(_) => false,
            None => plain.starts_with(OWN_PREFIX) || is_forwarded(&plain),
        }
    }

    /// The name under which `field` is written.
    #[must_use]
    pub fn name(&self, field: Field) -> &HeaderName {
        &self.ruled[field as usize].name
    }

    /// Whether `name` must not be set by an upstream: the session-id and everything of ours.
    #[must_use]
    pub fn is_ours(&self, name: &HeaderName) -> bool {
        name == self.name(Field::SessionId) || name.as_str().starts_with(OWN_PREFIX)
    }
}

impl Default for FieldNames {
    fn default() -> Self {
        Self::new(Self::defaults(), &[])
    }
}

/// Whether a value begins or ends with a space or a tab. HTTP/1 takes that off, and what it says without it may be something
/// else; over HTTP/2 it makes the message malformed (RFC 9113 section 8.2.1).
#[must_use]
pub fn is_padded(value: &HeaderValue) -> bool {
    let padding = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    padding(value.as_bytes().first()) || padding(value.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> Role {
        FieldNames::default().role(&HeaderName::from_bytes(name.as_bytes()).unwrap())
    }

    #[test]
    fn ruled_fields_are_known_by_name_and_alias() {
        assert_eq!(role("Session-ID"), Role::Ruled(Field::SessionId, 0));
        assert_eq!(role("x-correlation-id"), Role::Ruled(Field::Correlation, 0));
        assert_eq!(role("x-correlator"), Role::Ruled(Field::Correlation, 4));
    }

    #[test]
    fn twins_with_underscores_are_reserved() {
        for name in [
            "session_id",
            "client_id",
            "x_correlation-id",
            "x-sg_subject",
            "x_sg_subject",
            "x_forwarded_for",
            "remote_user",
        ] {
            assert_eq!(role(name), Role::Reserved, "{name}");
        }
        assert_eq!(role("x_custom"), Role::Other);
    }

    #[test]
    fn whatever_begins_like_a_proxys_word_about_the_client_is_one() {
        for name in ["x-forwarded-user", "x-forwarded-tls-client-cert", "x-forwarded-anything", "x-ssl-client-cert-2"] {
            assert_eq!(role(name), Role::Forwarded, "{name}");
        }
        assert_eq!(role("x-forwarded-for"), Role::ForwardedFor);
        assert_eq!(role("x_forwarded_anything"), Role::Reserved);
    }

    #[test]
    fn padding_is_a_space_or_a_tab_at_either_end() {
        for (value, padded) in [("", false), ("a b\tc", false), (" ", true), ("\ta", true), ("a ", true), ("a\t", true)]
        {
            assert_eq!(is_padded(&HeaderValue::from_static(value)), padded, "{value:?}");
        }
        assert!(is_padded(&HeaderValue::from_bytes(b"\t\xff]").unwrap()));
    }

    #[test]
    fn own_and_identity_fields_are_reserved() {
        for name in ["x-sg-subject", "x-sg-anything", "x-remote-user", "x-original-url"] {
            assert_eq!(role(name), Role::Reserved, "{name}");
        }
        let names = FieldNames::new(FieldNames::defaults(), &[HeaderName::from_static("x-tenant")]);
        assert_eq!(names.role(&HeaderName::from_static("x-tenant")), Role::Reserved);
    }
}
