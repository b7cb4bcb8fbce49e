//! The head of the request that an upstream gets: built afresh from what was proven, never copied. It is written straight
//! into the buffer of its connection; a header map of it would be built only to be read once.

use http::Method;
use http::header::{self, HeaderName, HeaderValue};
use http::response::Parts;

use super::trace;
use super::{Endpoint, HostField, Outbound};
use crate::policy::call::Passage;
use crate::policy::fields::FieldNames;
use crate::policy::head::Head;
use crate::policy::route::ForwardAuthorization;
use crate::policy::violation::Field;

/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SUBJECT: HeaderName = HeaderName::from_static("x-sg-subject");
const SCOPES: HeaderName = HeaderName::from_static("x-sg-scopes");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// What is the same for all calls of a connection.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Address of the peer, for `x-forwarded-for`.
    pub peer: HeaderValue,
    /// `http` or `https`.
    pub proto: HeaderValue,
    /// `forwarded`, for an untrusted peer (RFC 7239).
    pub forwarded: HeaderValue,
    /// `client-cert` (RFC 9440), where upstreams are shown it.
    pub certificate: Option<HeaderValue>,
}

/// What names a call to the upstream.
#[derive(Debug)]
pub struct CallIds {
    /// The request id.
    pub request: HeaderValue,
    /// The correlation id.
    pub correlation: HeaderValue,
    /// The session-id in canonical form.
    pub session: Option<HeaderValue>,
}

/// Everything a head is made of.
#[derive(Debug)]
pub struct Outgoing<'a, 'r, 's> {
    /// The call as it was read.
    pub head: &'a Head<'r>,
    /// The permission to forward it.
    pub passage: &'a Passage<'s>,
    /// The names of fields.
    pub names: &'a FieldNames,
    /// The connection it came by.
    pub edge: &'a Edge,
    /// Its ids.
    pub ids: &'a CallIds,
    /// What `via` says of us.
    pub via: &'a HeaderValue,
    /// The `host` field.
    pub host: HostField,
    /// Who takes interim responses.
    pub interim: Option<Interim<'a>>,
}

/// Takes interim responses as they came, but for what concerned only their hop.
#[derive(Clone, Copy)]
pub struct Interim<'a>(pub &'a (dyn Fn(&Parts) + Sync));

impl std::fmt::Debug for Interim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interim").finish_non_exhaustive()
    }
}

impl Outbound for Outgoing<'_, '_, '_> {
    fn method(&self) -> &Method {
        self.head.raw().method
    }

    fn upgrade(&self) -> Option<&HeaderValue> {
        self.head.upgrade()
    }

    fn interim(&self, head: &Parts) {
        if let Some(Interim(take)) = self.interim {
            take(head);
        }
    }

    fn write_head(&self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        self.write_request_line(out);
        let host = self.client_host();
        let authority = endpoint.authority.as_bytes();
        field(
            out,
            &header::HOST,
            match self.host {
                HostField::Preserve => host.unwrap_or(authority),
                HostField::Endpoint => authority,
            },
        );
        self.write_forwarded(out);
        self.write_proof(out);
        field(out, self.names.name(Field::Correlation), self.ids.correlation.as_bytes());
        field(out, &REQUEST_ID, self.ids.request.as_bytes());
        field_with(out, &TRACE_PARENT, |out| trace::write_parent(self.head.origin().trace_parent, out));
        self.write_origin(host, out);
        field(out, &header::VIA, self.via.as_bytes());
        if self.head.takes_trailers() {
            field(out, &header::TE, b"trailers");
        }
        if let Some(protocols) = self.head.upgrade() {
            field(out, &header::CONNECTION, b"upgrade");
            field(out, &header::UPGRADE, protocols.as_bytes());
        }
    }
}

impl Outgoing<'_, '_, '_> {
    /// The target is byte for byte what was matched, in origin form.
    fn write_request_line(&self, out: &mut Vec<u8>) {
        let raw = self.head.raw();
        let target = raw.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        debug_assert!(target.bytes().all(|byte| byte > b' ' && byte != 0x7f), "a target has no separators in it");
        out.extend_from_slice(raw.method.as_str().as_bytes());
        out.push(b' ');
        // An absolute form may have a query behind no path.
        if !target.starts_with(['/', '*']) {
            out.push(b'/');
        }
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    fn client_host(&self) -> Option<&[u8]> {
        let seen = self.head.seen(Field::Host).value.map(HeaderValue::as_bytes);
        seen.or_else(|| Some(self.head.host().as_bytes()).filter(|host| !host.is_empty()))
    }

    /// Fields that go on as they came. HTTP/2 may split the cookies; HTTP/1.1 has one field (RFC 9113 section 8.2.3).
    fn write_forwarded(&self, out: &mut Vec<u8>) {
        let join = self.head.cookie_lines() > 1;
        // The one that we saw takes the place of one that a trusted proxy speaks of.
        let own_certificate = self.edge.certificate.is_some();
        for (name, value) in self.head.forwarded() {
            if !(join && *name == header::COOKIE || own_certificate && is_certificate(name)) {
                field(out, name, value.as_bytes());
            }
        }
        let mut crumbs = self.head.forwarded().filter(|(name, _)| join && **name == header::COOKIE);
        if let Some((name, first)) = crumbs.next() {
            field_with(out, name, |out| {
                out.extend_from_slice(first.as_bytes());
                for (_, crumb) in crumbs {
                    out.extend_from_slice(b"; ");
                    out.extend_from_slice(crumb.as_bytes());
                }
            });
        }
    }

    /// Who calls. On an exempt route the credentials are the upstream's business; nothing vouches for them, so a client-id
    /// or session-id does not go on.
    fn write_proof(&self, out: &mut Vec<u8>) {
        if self.passage.route().authorization == ForwardAuthorization::Keep
            && let Some(credentials) = self.head.seen(Field::Authorization).value
        {
            field(out, self.names.name(Field::Authorization), credentials.as_bytes());
        }
        let Some(call) = self.passage.validated() else { return };
        let caller = call.caller().fields();
        field(out, self.names.name(Field::ClientId), caller.client.as_bytes());
        if let Some(session) = &self.ids.session {
            field(out, self.names.name(Field::SessionId), session.as_bytes());
        }
        if let Some(subject) = &caller.subject {
            field(out, &SUBJECT, subject.as_bytes());
        }
        if let Some(scopes) = &caller.scopes {
            field(out, &SCOPES, scopes.as_bytes());
        }
    }

    /// Who the client is: what a trusted peer says, continued; otherwise the peer itself.
    fn write_origin(&self, host: Option<&[u8]>, out: &mut Vec<u8>) {
        let origin = self.head.origin();
        field_with(out, &FORWARDED_FOR, |out| {
            if origin.forwarded_for.is_some() {
                // All lines: a proxy that adds one of its own leaves what the client wrote in the first.
                for before in self.head.raw().headers.get_all(&FORWARDED_FOR) {
                    out.extend_from_slice(before.as_bytes());
                    out.extend_from_slice(b", ");
                }
            }
            out.extend_from_slice(self.edge.peer.as_bytes());
        });
        field(out, &FORWARDED_PROTO, origin.forwarded_proto.unwrap_or(&self.edge.proto).as_bytes());
        if let Some(host) = origin.forwarded_host.map(HeaderValue::as_bytes).or(host) {
            field(out, &FORWARDED_HOST, host);
        }
        field(out, &header::FORWARDED, self.edge.forwarded.as_bytes());
        if let Some(certificate) = &self.edge.certificate {
            field(out, &CLIENT_CERT, certificate.as_bytes());
        }
    }
}

fn is_certificate(name: &HeaderName) -> bool {
    *name == CLIENT_CERT || *name == CLIENT_CERT_CHAIN
}

/// Writes a field line. Values come from a `HeaderValue` or are made here, so there is no line end in them.
pub(super) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    field_with(out, name, |out| out.extend_from_slice(value));
}

fn field_with(out: &mut Vec<u8>, name: &HeaderName, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    let from = out.len();
    value(out);
    debug_assert!(out.iter().skip(from).all(|byte| !matches!(byte, b'\r' | b'\n' | 0)), "a value cannot end its line");
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
