//! The fields of a request, in the form of the connection they go by.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Takes fields one after another. Values come from a `HeaderValue` or are made of visible characters, so there is no line
/// end in them.
pub trait Fields {
    /// Takes a field.
    fn field(&mut self, name: &HeaderName, value: &[u8]) {
        self.field_with(name, |out| out.extend_from_slice(value));
    }

    /// Takes a field whose value `write` appends to what it is given.
    fn field_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>));
}

/// Field lines of HTTP/1.1, written straight into the buffer of a connection.
#[derive(Debug)]
pub struct Lines<'a>(pub &'a mut Vec<u8>);

impl Fields for Lines<'_> {
    fn field_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        let Self(out) = self;
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        let from = out.len();
        write(out);
        debug_assert!(
            out.iter().skip(from).all(|byte| !matches!(byte, b'\r' | b'\n' | 0)),
            "a value cannot end its line"
        );
        out.extend_from_slice(b"\r\n");
    }
}

/// A map, as HTTP/2 has it written.
impl Fields for HeaderMap {
    fn field_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = Vec::new();
        write(&mut value);
        // What could not be a value is none: it came from one.
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
            self.append(name, value);
        }
    }
}

/// Whether a trailer field of this name must not be sent: it frames, routes, authenticates or describes the message
/// (RFC 9110 section 6.5.1), so a recipient that merges trailers into the head could be misled.
pub(super) fn is_forbidden_trailer(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "age"
            | "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "location"
            | "max-forwards"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "vary"
            | "via"
            | "www-authenticate"
    )
}
