//! Which other protocols may be asked for.

use http::{HeaderValue, Version};

use super::{Head, tokens};
use crate::policy::method::Verb;

impl<'r> Head<'r> {
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
}

/// Whether this names a protocol (RFC 9110 section 7.8) other than HTTP and what HTTP is carried in: h2c through a gate
/// would be calls that nobody checks.
#[inline]
pub(super) fn is_opaque_protocol(protocol: &[u8]) -> bool {
    const CARRIES_HTTP: [&[u8]; 7] = [b"http", b"https", b"shttp", b"h2", b"h2c", b"h3", b"tls"];
    let is_token = |part: &[u8]| http::HeaderName::from_bytes(part).is_ok();
    let mut parts = protocol.splitn(2, |byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    is_token(name)
        && parts.next().is_none_or(is_token)
        && !CARRIES_HTTP.iter().any(|known| name.eq_ignore_ascii_case(known))
}
