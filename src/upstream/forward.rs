//! The head of the request that an upstream gets: built afresh from what was proven, never copied.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri, Version};

use super::trace;
use super::{Endpoint, HostField};
use crate::policy::call::{Passage, ValidatedCall};
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
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Fields we add at most.
const ADDED: usize = 16;

/// What is the same for all calls of a connection.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Address of the peer, for `x-forwarded-for`.
    pub peer: HeaderValue,
    /// `http` or `https`.
    pub proto: HeaderValue,
    /// `forwarded`, for an untrusted peer (RFC 7239).
    pub forwarded: HeaderValue,
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
    /// Whether the body has no known length.
    pub chunked: bool,
}

impl Outgoing<'_, '_, '_> {
    /// The head for `endpoint`.
    #[must_use]
    pub fn request(&self, endpoint: &Endpoint) -> Request<()> {
        let raw = self.head.raw();
        let mut request = Request::new(());
        *request.method_mut() = raw.method.clone();
        *request.version_mut() = Version::HTTP_11;
        // Byte for byte what was matched.
        *request.uri_mut() = raw.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        *request.headers_mut() = self.fields(endpoint);
        request
    }

    fn fields(&self, endpoint: &Endpoint) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(self.head.raw().headers.len() + ADDED);
        let host = self.client_host();
        fields.append(
            header::HOST,
            match self.host {
                HostField::Preserve => host.clone().unwrap_or_else(|| endpoint.authority.clone()),
                HostField::Endpoint => endpoint.authority.clone(),
            },
        );
        self.add_forwarded(&mut fields);
        match self.passage.validated() {
            Some(call) => self.add_proof(&mut fields, call),
            None => self.add_credentials(&mut fields),
        }
        fields.append(self.names.name(Field::Correlation), self.ids.correlation.clone());
        fields.append(REQUEST_ID, self.ids.request.clone());
        fields.append(TRACE_PARENT, trace::parent(self.head.origin().trace_parent));
        self.add_origin(&mut fields, host);
        fields.append(header::VIA, self.via.clone());
        if self.head.takes_trailers() {
            fields.append(header::TE, HeaderValue::from_static("trailers"));
        }
        if self.chunked {
            fields.append(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        fields
    }

    fn client_host(&self) -> Option<HeaderValue> {
        let seen = self.head.seen(Field::Host).value;
        seen.cloned().or_else(|| HeaderValue::from_str(self.head.host()).ok().filter(|host| !host.is_empty()))
    }

    /// Fields that go on as they came. HTTP/2 may split the cookies; HTTP/1.1 has one field (RFC 9113 section 8.2.3).
    fn add_forwarded(&self, fields: &mut HeaderMap) {
        let join = self.head.cookie_lines() > 1;
        for (name, value) in self.head.forwarded() {
            if !(join && *name == header::COOKIE) {
                fields.append(name, value.clone());
            }
        }
        if join {
            let crumbs = self.head.forwarded().filter(|(name, _)| **name == header::COOKIE);
            let crumbs: Vec<&[u8]> = crumbs.map(|(_, value)| value.as_bytes()).collect();
            if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
                fields.append(header::COOKIE, cookie);
            }
        }
    }

    fn add_proof(&self, fields: &mut HeaderMap, call: &ValidatedCall<'_>) {
        if call.route().authorization == ForwardAuthorization::Keep
            && let Some(credentials) = self.head.seen(Field::Authorization).value
        {
            fields.append(self.names.name(Field::Authorization), credentials.clone());
        }
        let caller = call.caller().fields();
        fields.append(self.names.name(Field::ClientId), caller.client.clone());
        if let Some(session) = &self.ids.session {
            fields.append(self.names.name(Field::SessionId), session.clone());
        }
        if let Some(subject) = &caller.subject {
            fields.append(SUBJECT, subject.clone());
        }
        if let Some(scopes) = &caller.scopes {
            fields.append(SCOPES, scopes.clone());
        }
    }

    /// On an exempt route the credentials are the upstream's business; nothing vouches for them, so a client-id or
    /// session-id does not go on.
    fn add_credentials(&self, fields: &mut HeaderMap) {
        if self.passage.route().authorization == ForwardAuthorization::Keep
            && let Some(credentials) = self.head.seen(Field::Authorization).value
        {
            fields.append(self.names.name(Field::Authorization), credentials.clone());
        }
    }

    /// Who the client is: what a trusted peer says, continued; otherwise the peer itself.
    fn add_origin(&self, fields: &mut HeaderMap, host: Option<HeaderValue>) {
        let origin = self.head.origin();
        let chain = match origin.forwarded_for {
            Some(before) => continued(before, &self.edge.peer),
            None => self.edge.peer.clone(),
        };
        fields.append(FORWARDED_FOR, chain);
        fields.append(FORWARDED_PROTO, origin.forwarded_proto.unwrap_or(&self.edge.proto).clone());
        if let Some(host) = origin.forwarded_host.cloned().or(host) {
            fields.append(FORWARDED_HOST, host);
        }
        fields.append(header::FORWARDED, self.edge.forwarded.clone());
    }
}

fn continued(before: &HeaderValue, peer: &HeaderValue) -> HeaderValue {
    let chain = [before.as_bytes(), b", ", peer.as_bytes()].concat();
    HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.clone())
}
