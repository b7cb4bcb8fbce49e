//! A request head in the only form later stages accept.

mod fields;
mod upgrade;

use core::net::IpAddr;
use std::borrow::Cow;

use http::header::HeaderMap;
use http::uri::Uri;
use http::{HeaderValue, Method, Request, Version};

use super::binding::Thumbprint;
use super::fields::FieldNames;
use super::method::{MethodSet, Verb};
use super::proof::ProofFault;
use super::rejection::Rejection;
use super::target;
use super::violation::{Field, Violations};

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

/// The head of a request that came over HTTP/1 from a peer that is not trusted, and that no body follows.
impl<'r, B> From<&'r Request<B>> for RawHead<'r> {
    fn from(request: &'r Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            protocol: None,
            has_body: false,
            trusted_peer: false,
        }
    }
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

/// What the transport says of the sender of a head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender<'r> {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The certificate that it showed, verified.
    pub certificate: Option<&'r Thumbprint>,
    /// Its address; unknown where nothing was sent.
    pub address: Option<IpAddr>,
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
    sender: Sender<'r>,
    proof: Option<&'r HeaderValue>,
    /// Whether there is more than one, or `connection` names it.
    proof_repeated: bool,
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
        if raw.protocol.is_some_and(|protocol| !upgrade::is_opaque_protocol(protocol.as_bytes())) {
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
            sender: Sender::default(),
            proof: None,
            proof_repeated: false,
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

    /// The same head, with the length of the body that follows if it is known beforehand.
    #[must_use]
    pub const fn with_body_length(mut self, length: Option<u64>) -> Self {
        self.body_length = length;
        self
    }

    /// The same head, with what the transport says of its sender.
    #[must_use]
    pub const fn with_sender(mut self, sender: Sender<'r>) -> Self {
        self.sender = sender;
        self
    }

    /// What the transport says of the sender.
    #[must_use]
    pub const fn sender(&self) -> Sender<'r> {
        self.sender
    }

    /// The proof that goes with the token.
    ///
    /// # Errors
    /// [`ProofFault::Missing`], [`ProofFault::Repeated`].
    pub const fn proof(&self) -> Result<&'r HeaderValue, ProofFault> {
        match self.proof {
            Some(_) if self.proof_repeated => Err(ProofFault::Repeated),
            Some(value) => Ok(value),
            None => Err(ProofFault::Missing),
        }
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

    /// The fields that go on to the upstream as they are, in the order they came.
    pub fn forwarded(&self) -> impl Iterator<Item = (&'r http::HeaderName, &'r HeaderValue)> {
        let kept = self.kept;
        self.raw.headers.iter().enumerate().filter(move |(place, _)| kept & (1 << place) != 0).map(|(_, field)| field)
    }
}

/// The comma-separated tokens of a list field.
#[inline]
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests;
