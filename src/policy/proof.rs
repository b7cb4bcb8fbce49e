//! What a proof of possession is about (RFC 9449 section 4.2), and how it can be wrong.

use http::uri::{Authority, Uri};

use super::head::Head;
use super::target;

/// How a proof is wrong. For the log; every caller is told `invalid_dpop_proof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProofFault {
    /// There is none.
    Missing,
    /// There are several, or `connection` names the field.
    Repeated,
    /// It is longer than 8 KiB.
    TooLarge,
    /// Not three base64url parts, or not the JSON a proof holds.
    Shape,
    /// `typ` is not `dpop+jwt`.
    Type,
    /// The algorithm is not one of those we take.
    Algorithm,
    /// The header demands an extension we do not know (`crit`, RFC 7515 section 4.1.11).
    Critical,
    /// `jwk` is missing, or no public key of the algorithm.
    Jwk,
    /// `jwk` holds a private key.
    PrivateKey,
    /// The token is bound to another key.
    Key,
    /// The signature does not match.
    Signature,
    /// A claim is missing or has the wrong type.
    Claims,
    /// `htm` is another method.
    Method,
    /// `htu` is another resource.
    Target,
    /// `ath` is of another token.
    Token,
    /// `iat` lies too far back.
    Stale,
    /// `iat` has not come yet.
    Early,
    /// The proof was used before.
    Replayed,
}

impl ProofFault {
    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "proof-missing",
            Self::Repeated => "proof-repeated",
            Self::TooLarge => "proof-too-large",
            Self::Shape => "proof-shape",
            Self::Type => "proof-type",
            Self::Algorithm => "proof-algorithm",
            Self::Critical => "proof-critical",
            Self::Jwk => "proof-jwk",
            Self::PrivateKey => "proof-private-key",
            Self::Key => "proof-key",
            Self::Signature => "proof-signature",
            Self::Claims => "proof-claims",
            Self::Method => "proof-method",
            Self::Target => "proof-target",
            Self::Token => "proof-token",
            Self::Stale => "proof-stale",
            Self::Early => "proof-early",
            Self::Replayed => "proof-replayed",
        }
    }
}

/// The call as its client sees it: what a proof must speak of.
#[derive(Debug, Clone, Copy)]
pub struct Proven<'c> {
    /// The method, in upper case.
    pub method: &'c str,
    /// Whether the scheme is `https`.
    pub https: bool,
    /// Host and port, as the client wrote them.
    pub host: &'c str,
    /// The path as routes see it.
    pub path: &'c str,
}

impl<'c> Proven<'c> {
    /// The call that a head is. Behind a trusted proxy, scheme and host are those that it says the client used.
    #[must_use]
    pub fn of(head: &'c Head<'_>) -> Self {
        // The first of several is the one nearest to the client.
        let first = |value: &'c http::HeaderValue| value.to_str().ok()?.split(',').next().map(str::trim);
        let origin = head.origin();
        let proto = origin.forwarded_proto.and_then(first);
        Self {
            method: if head.is_connect() { "CONNECT" } else { head.raw().method.as_str() },
            https: proto.map_or(head.sender().tls, |proto| proto.eq_ignore_ascii_case("https")),
            host: origin.forwarded_host.and_then(first).unwrap_or_else(|| head.host()),
            path: head.path(),
        }
    }

    /// Whether `htu` names this resource. Query and fragment do not count; what differs only in letter case of scheme, host
    /// and escapes, in escapes of unreserved characters or in a default port is the same (RFC 9449 section 4.3, RFC 3986
    /// sections 6.2.2 and 6.2.3).
    #[must_use]
    pub fn is_at(&self, htu: &str) -> bool {
        let Ok(uri) = htu.parse::<Uri>() else { return false };
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return false,
        };
        let (Some(named), Ok(own)) = (uri.authority(), Authority::try_from(self.host)) else { return false };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        https == self.https
            && !named.as_str().contains('@')
            && named.host().eq_ignore_ascii_case(own.host())
            && port(named) == port(&own)
            && target::canonical(uri.path()).is_ok_and(|path| is_same_path(&path, self.path))
    }
}

/// Whether two canonical paths differ at most in the letter case of their escapes.
fn is_same_path(one: &str, other: &str) -> bool {
    let mut escape = 0_u8;
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).all(|(one, other)| {
            let same = one == other || escape > 0 && one.eq_ignore_ascii_case(&other);
            escape = if one == b'%' { 2 } else { escape.saturating_sub(1) };
            same
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_many_spellings_and_no_others() {
        let call = Proven { method: "GET", https: true, host: "Shop.example", path: "/a/caf%c3%A9-~" };
        for same in [
            "https://shop.example/a/caf%c3%A9-~",
            "HTTPS://SHOP.EXAMPLE:443/a/caf%C3%a9%2D%7e",
            "https://shop.example/a/caf%C3%A9-~?x=1",
            "https://shop.example/a/caf%C3%A9-~#f",
            "https://shop.example/a/caf%C3%A9-~?x#f",
        ] {
            assert!(call.is_at(same), "{same}");
        }
        for other in [
            "",
            "/a/caf%c3%A9-~",
            "shop.example/a/caf%c3%A9-~",
            "//shop.example/a/caf%c3%A9-~",
            "http://shop.example/a/caf%c3%A9-~",
            "http://shop.example:443/a/caf%c3%A9-~",
            "https://shop.example:8443/a/caf%c3%A9-~",
            "https://other.example/a/caf%c3%A9-~",
            "https://user@shop.example/a/caf%c3%A9-~",
            "https://shop.example/A/caf%c3%A9-~",
            "https://shop.example/a/caf%c3%A9-~/",
            "https://shop.example/a/./caf%c3%A9-~",
            "https://shop.example/b/../a/caf%c3%A9-~",
            "https://shop.example//a/caf%c3%A9-~",
            "https://shop.example\\a/caf%c3%A9-~",
            " https://shop.example/a/caf%c3%A9-~",
            "https://shop.example/a/caf%c3%A9-~ ",
            "wss://shop.example/a/caf%c3%A9-~",
            "https://shop.example",
        ] {
            assert!(!call.is_at(other), "{other}");
        }
        let plain = Proven { method: "GET", https: false, host: "[2001:DB8::1]:80", path: "/" };
        assert!(plain.is_at("http://[2001:db8::1]/") && plain.is_at("http://[2001:db8::1]:80"));
        assert!(!plain.is_at("http://[2001:db8::2]/"));
    }
}
