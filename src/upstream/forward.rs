//! The head of the request that an upstream gets: built afresh from what was proven, never copied. For HTTP/1.1 it is
//! written straight into the buffer of its connection; a header map of it would be built only to be read once.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use http::Method;
use http::header::{self, HeaderName, HeaderValue};
use http::response::Parts;
use http::uri::PathAndQuery;

use super::fields::Fields;
use super::trace;
use super::{Endpoint, HostField, Outbound};
use crate::policy::call::Passage;
use crate::policy::credentials::Scheme;
use crate::policy::fields::{FieldNames, PROOF};
use crate::policy::head::Head;
use crate::policy::route::ForwardAuthorization;
use crate::policy::violation::Field;

/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SUBJECT: HeaderName = HeaderName::from_static("x-sg-subject");
const SCOPES: HeaderName = HeaderName::from_static("x-sg-scopes");
const STEP: HeaderName = HeaderName::from_static("x-sg-session-step");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

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
    /// The credentials that take the place of the caller's, where the route wants that.
    pub replacement: Option<&'a HeaderValue>,
    /// Our half of a WebSocket handshake that the client did not have to begin itself (RFC 8441 section 5).
    pub websocket_key: Option<&'a HeaderValue>,
    /// The step that its session has done last, of one that follows a flow.
    pub step: Option<&'a str>,
    /// To be set as soon as a byte of it may be sent; who does not ask is not told.
    pub sent: Option<&'a AtomicBool>,
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

    fn affinity(&self) -> Option<u64> {
        let peer = || {
            let digest = digest(&SHA256, self.edge.peer.as_bytes());
            digest.as_ref().first_chunk().copied().map(u64::from_be_bytes)
        };
        self.passage.validated().map_or_else(peer, |call| Some(call.session().key().spread()))
    }

    fn target(&self) -> Option<&PathAndQuery> {
        self.head.raw().uri.path_and_query()
    }

    fn host<'a>(&'a self, endpoint: &'a Endpoint) -> &'a [u8] {
        let authority = endpoint.authority.as_bytes();
        match self.host {
            HostField::Preserve => self.client_host().unwrap_or(authority),
            HostField::Endpoint => authority,
        }
    }

    fn fields(&self, out: &mut impl Fields) {
        if let Some(sent) = self.sent {
            sent.store(true, Ordering::Relaxed);
        }
        self.write_forwarded(out);
        self.write_proof(out);
        out.field(self.names.name(Field::Correlation), self.ids.correlation.as_bytes());
        out.field(&REQUEST_ID, self.ids.request.as_bytes());
        self.write_trace(out);
        self.write_origin(out);
        out.field(&header::VIA, self.via.as_bytes());
        if self.head.takes_trailers() {
            out.field(&header::TE, b"trailers");
        }
        if let Some(key) = self.websocket_key {
            out.field(&header::SEC_WEBSOCKET_KEY, key.as_bytes());
        }
    }
}

impl Outgoing<'_, '_, '_> {
    fn client_host(&self) -> Option<&[u8]> {
        let seen = self.head.seen(Field::Host).value.map(HeaderValue::as_bytes);
        seen.or_else(|| Some(self.head.host().as_bytes()).filter(|host| !host.is_empty()))
    }

    /// Fields that go on as they came. HTTP/2 may split the cookies; HTTP/1.1 has one field (RFC 9113 section 8.2.3).
    fn write_forwarded(&self, out: &mut impl Fields) {
        let join = self.head.cookie_lines() > 1;
        // The one that we saw takes the place of one that a trusted proxy speaks of.
        let own_certificate = self.edge.certificate.is_some();
        for (name, value) in self.head.forwarded() {
            let replaced = self.websocket_key.is_some() && *name == header::SEC_WEBSOCKET_KEY;
            let replaced = replaced || own_certificate && is_certificate(name);
            if !(replaced || join && *name == header::COOKIE) {
                out.field(name, value.as_bytes());
            }
        }
        let mut crumbs = self.head.forwarded().filter(|(name, _)| join && **name == header::COOKIE);
        if let Some((name, first)) = crumbs.next() {
            out.field_with(name, |out| {
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
    fn write_proof(&self, out: &mut impl Fields) {
        let credentials = match self.passage.route().authorization {
            ForwardAuthorization::Keep => self.head.seen(Field::Authorization).value,
            ForwardAuthorization::Strip => None,
            ForwardAuthorization::Replace => self.replacement,
        };
        if let Some(credentials) = credentials {
            out.field(self.names.name(Field::Authorization), credentials.as_bytes());
        }
        if self.passage.route().authorization == ForwardAuthorization::Keep {
            self.write_possession(out);
        }
        let Some(call) = self.passage.validated() else { return };
        let caller = call.caller().fields();
        out.field(self.names.name(Field::ClientId), caller.client.as_bytes());
        if let Some(session) = &self.ids.session {
            out.field(self.names.name(Field::SessionId), session.as_bytes());
        }
        if let Some(subject) = &caller.subject {
            out.field(&SUBJECT, subject.as_bytes());
        }
        if let Some(scopes) = &caller.scopes {
            out.field(&SCOPES, scopes.as_bytes());
        }
        if let Some(step) = self.step {
            out.field(&STEP, step.as_bytes());
        }
    }

    /// The proof goes where its token goes. Beside a bearer token nobody has looked at it.
    fn write_possession(&self, out: &mut impl Fields) {
        let proven = self.passage.validated().is_none_or(|call| call.caller().scheme() == Scheme::Dpop);
        if let Ok(proof) = self.head.proof()
            && proven
        {
            out.field(&PROOF, proof.as_bytes());
        }
    }

    /// The trace. What the client's tracing system says of it means nothing in another one.
    fn write_trace(&self, out: &mut impl Fields) {
        let origin = self.head.origin();
        let mut kept = false;
        out.field_with(&TRACE_PARENT, |out| kept = trace::write_parent(origin.trace_parent, out));
        if kept && origin.has_trace_state {
            for state in self.head.raw().headers.get_all(&TRACE_STATE) {
                out.field(&TRACE_STATE, state.as_bytes());
            }
        }
    }

    /// Who the client is: what a trusted peer says, continued; otherwise the peer itself.
    fn write_origin(&self, out: &mut impl Fields) {
        let origin = self.head.origin();
        out.field_with(&FORWARDED_FOR, |out| {
            if origin.forwarded_for.is_some() {
                // All lines: a proxy that adds one of its own leaves what the client wrote in the first.
                for before in self.head.raw().headers.get_all(&FORWARDED_FOR) {
                    out.extend_from_slice(before.as_bytes());
                    out.extend_from_slice(b", ");
                }
            }
            out.extend_from_slice(self.edge.peer.as_bytes());
        });
        out.field(&FORWARDED_PROTO, origin.forwarded_proto.unwrap_or(&self.edge.proto).as_bytes());
        if let Some(host) = origin.forwarded_host.map(HeaderValue::as_bytes).or_else(|| self.client_host()) {
            out.field(&FORWARDED_HOST, host);
        }
        out.field(&header::FORWARDED, self.edge.forwarded.as_bytes());
        if let Some(certificate) = &self.edge.certificate {
            out.field(&CLIENT_CERT, certificate.as_bytes());
        }
    }
}

fn is_certificate(name: &HeaderName) -> bool {
    *name == CLIENT_CERT || *name == CLIENT_CERT_CHAIN
}

#[cfg(test)]
mod tests;
