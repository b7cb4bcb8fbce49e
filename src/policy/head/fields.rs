//! What each field of a head means, read in one pass.

use http::{HeaderValue, Version};

use super::{Head, Origin, tokens};
use crate::policy::fields::{FieldNames, PROOF, Role, is_padded};
use crate::policy::rejection::Rejection;
use crate::policy::target;
use crate::policy::violation::{Fault, Field, Violations};

impl<'r> Head<'r> {
    #[inline]
    pub(super) fn read_fields(&mut self, names: &FieldNames, own_via: &str) -> Result<(), Rejection> {
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
                Role::Proof => {
                    self.proof_repeated |= self.proof.replace(value).is_some();
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
            self.proof_repeated |= name == PROOF;
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

    #[inline]
    pub(super) fn read_host(&self) -> Result<&'r str, Rejection> {
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
}

/// Whether a `via` value has an entry `<protocol> <pseudonym>` with this pseudonym.
fn names_gateway(via: &HeaderValue, pseudonym: &str) -> bool {
    tokens(via).any(|entry| entry.split(|byte| *byte == b' ').nth(1) == Some(pseudonym.as_bytes()))
}
