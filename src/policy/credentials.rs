//! The three fields that carry the proof, as text of the right form. Nothing is known yet about their truth.

use super::ids::SessionId;
use super::violation::Fault;

/// Longest access token, in bytes.
pub const TOKEN_MAX: usize = 8 * 1024;

/// How a token is presented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// As is (RFC 6750).
    #[default]
    Bearer,
    /// With a proof (RFC 9449 section 7.1).
    Dpop,
}

impl Scheme {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }
}

/// Exactly one authorization, one client-id and, but for `POST /session`, one session-id, each well formed. Made only
/// by [`super::headers::HeaderRules::check`].
#[derive(Clone, Copy)]
pub struct Presented<'r> {
    pub(super) scheme: Scheme,
    pub(super) token: &'r str,
    pub(super) client: &'r str,
    pub(super) session: Option<SessionId>,
    pub(super) idempotency_key: Option<&'r str>,
}

impl<'r> Presented<'r> {
    /// How the token is presented.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The access token: a secret.
    #[must_use]
    pub const fn token(&self) -> &'r str {
        self.token
    }

    /// The client-id field.
    #[must_use]
    pub const fn client(&self) -> &'r str {
        self.client
    }

    /// The session-id; none on `POST /session`, where one that was sent is ignored.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The Idempotency-Key, if one was sent.
    #[must_use]
    pub const fn idempotency_key(&self) -> Option<&'r str> {
        self.idempotency_key
    }
}

/// Shows that there is a token, never which.
impl std::fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presented")
            .field("client", &self.client)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Whether all bytes may stand in a token before its padding (RFC 6750 section 2.1). Tokens are long, so this looks at
/// sixteen bytes at a time and has no branches, which the compiler turns into a few instructions; the last sixteen may
/// overlap those before.
fn are_token_bytes(bytes: &[u8]) -> bool {
    let is_token = |byte: u8| {
        // `-`, `.`, `/` and the digits follow each other.
        let (letter, digit) = ((byte | 0x20).wrapping_sub(b'a') < 26, byte.wrapping_sub(b'-') < 13);
        letter | digit | (byte == b'_') | (byte == b'~') | (byte == b'+')
    };
    let all = |bytes: &[u8]| bytes.iter().fold(true, |all, byte| all & is_token(*byte));
    match bytes.last_chunk::<16>() {
        Some(last) => bytes.as_chunks::<16>().0.iter().all(|chunk| all(chunk)) && all(last),
        None => all(bytes),
    }
}

/// Reads `Bearer <token>` or `DPoP <token>`: the scheme in any case, one or more spaces, one token (RFC 6750 section 2.1,
/// RFC 9449 section 7.1).
///
/// # Errors
/// [`Fault::Missing`] for another scheme, [`Fault::Repeated`] for comma-joined credentials, [`Fault::Invalid`] for
/// characters no token has, no token at all, or more than 8 KiB.
pub fn token(value: &[u8]) -> Result<(Scheme, &str), Fault> {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    let scheme = match scheme {
        scheme if scheme.eq_ignore_ascii_case(b"bearer") => Scheme::Bearer,
        scheme if scheme.eq_ignore_ascii_case(b"dpop") => Scheme::Dpop,
        _ => return Err(Fault::Missing),
    };
    let token = rest.trim_ascii_start();
    let body = token.len() - token.iter().rev().take_while(|byte| **byte == b'=').count();
    let plain = are_token_bytes(&token[..body]);
    if !plain && token.contains(&b',') {
        return Err(Fault::Repeated);
    }
    if body == 0
        || token.len() > TOKEN_MAX
        || !plain
        || rest.iter().take_while(|byte| byte.is_ascii_whitespace()).any(|byte| *byte != b' ')
    {
        return Err(Fault::Invalid);
    }
    std::str::from_utf8(token).map(|token| (scheme, token)).map_err(|_| Fault::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_has_any_case_and_spaces() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c"] {
            assert_eq!(token(value.as_bytes()), Ok((Scheme::Bearer, "a.b.c")), "{value}");
        }
        assert_eq!(token(b"Bearer abc=="), Ok((Scheme::Bearer, "abc==")));
        for value in ["DPoP a.b.c", "dpop  a.b.c", "DPOP a.b.c"] {
            assert_eq!(token(value.as_bytes()), Ok((Scheme::Dpop, "a.b.c")), "{value}");
        }
    }

    #[test]
    fn the_bytes_of_a_token_are_those_of_the_grammar() {
        for byte in 0..=u8::MAX {
            let in_grammar = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(are_token_bytes(&[byte]), in_grammar, "{byte}");
        }
    }

    #[test]
    fn everything_else_has_its_fault() {
        for (value, fault) in [
            ("", Fault::Missing),
            ("Basic YTpi", Fault::Missing),
            ("Bearerx a", Fault::Missing),
            ("DPoP", Fault::Invalid),
            ("DPo a", Fault::Missing),
            ("Bearer", Fault::Invalid),
            ("Bearer ", Fault::Invalid),
            ("Bearer a b", Fault::Invalid),
            ("Bearer \ta", Fault::Invalid),
            ("Bearer a\"b", Fault::Invalid),
            ("Bearer a=b", Fault::Invalid),
            ("Bearer ==", Fault::Invalid),
            ("Bearer a, Bearer b", Fault::Repeated),
        ] {
            assert_eq!(token(value.as_bytes()), Err(fault), "{value}");
        }
        assert!(token(format!("Bearer {}", "a".repeat(TOKEN_MAX)).as_bytes()).is_ok());
        assert_eq!(token(format!("Bearer {}", "a".repeat(TOKEN_MAX + 1)).as_bytes()), Err(Fault::Invalid));
    }
}
