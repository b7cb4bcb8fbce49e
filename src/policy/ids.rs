//! Who and what a call is about: parsing and redaction of identifiers.

use std::fmt;
use std::sync::Arc;

use super::binding::Binding;
use super::digest::half_sha256;

/// A text that is not of the form its identifier must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A session-id: 128 bits in canonical text (RFC 9562 section 4). Whoever knows it and holds a token of its owner can
/// act in the session, so `Debug` does not show it and stores keep its [`SessionKey`] instead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionId(uuid::Uuid);

impl SessionId {
    /// Length of the canonical text.
    pub const TEXT_LEN: usize = 36;

    /// A UUIDv4 made of these random bits.
    #[must_use]
    pub const fn from_random(bits: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bits).into_uuid())
    }

    /// Reads the 36-character form, in either case.
    ///
    /// # Errors
    /// [`Malformed`] for every other form of a UUID and everything else.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.len() != Self::TEXT_LEN {
            return Err(Malformed);
        }
        uuid::Uuid::try_parse_ascii(text).map(Self).map_err(|_| Malformed)
    }

    /// The canonical text, lower case.
    #[must_use]
    pub fn write(self, text: &mut [u8; Self::TEXT_LEN]) -> &mut str {
        self.0.hyphenated().encode_lower(text)
    }

    /// The canonical text as a string of its own. Only for the owner's eyes.
    #[must_use]
    pub fn reveal(self) -> String {
        self.0.hyphenated().to_string()
    }

    /// The digest that names this session wherever the id itself must not be seen.
    #[must_use]
    pub fn key(self) -> SessionKey {
        SessionKey(half_sha256(self.0.as_bytes()))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId(key {})", self.key())
    }
}

/// The first 16 bytes of SHA-256 over the 16 bytes of a session-id; 32 hex digits as text. The same on every gate, so
/// logs of gates and of backends that know the id can be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey([u8; 16]);

/// All of its bytes: those that a gate made are spread evenly, and a hasher may be content with some of them; those that a
/// file holds may be anything.
impl std::hash::Hash for SessionKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl SessionKey {
    /// A number that is spread evenly over all sessions, the same on every gate.
    #[must_use]
    pub const fn spread(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Reads 32 hex digits, in either case.
    ///
    /// # Errors
    /// [`Malformed`] for everything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Malformed);
        }
        u128::from_str_radix(text, 16).map(|key| Self(key.to_be_bytes())).map_err(|_| Malformed)
    }

    /// What an operator types to name a session: its id or its key.
    ///
    /// # Errors
    /// [`Malformed`] if it is neither.
    pub fn parse_id_or_key(text: &str) -> Result<Self, Malformed> {
        SessionId::parse(text.as_bytes()).map(SessionId::key).or_else(|_| Self::parse(text))
    }

    /// The raw digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Longest client-id, in bytes.
pub const CLIENT_ID_MAX: usize = 128;

/// Whether `text` is a client-id: 1 to 128 of `A-Za-z0-9._-`.
#[must_use]
pub fn is_client_id(text: &[u8]) -> bool {
    (1..=CLIENT_ID_MAX).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A client application, as the authorization server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Reads a client-id.
    ///
    /// # Errors
    /// [`Malformed`] unless it is 1 to 128 of `A-Za-z0-9._-`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::from_shared(text.into())
    }

    /// Takes a client-id that others share.
    ///
    /// # Errors
    /// [`Malformed`] unless it is 1 to 128 of `A-Za-z0-9._-`.
    pub fn from_shared(text: Arc<str>) -> Result<Self, Malformed> {
        if is_client_id(text.as_bytes()) { Ok(Self(text)) } else { Err(Malformed) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a session is bound to: the tuple that created it, never the bytes of a token, so that a refreshed token of the
/// same tuple continues the session. An absent subject is a value like any other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// `iss` of the token; absent where the configured issuer allows that.
    pub issuer: Option<Arc<str>>,
    /// The client application.
    pub client: ClientId,
    /// `sub` of the token.
    pub subject: Option<Box<str>>,
    /// What the token is bound to: a session goes on with the key it was opened with.
    pub binding: Option<Binding>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "758fc320-af96-4faf-8af7-536e7cac5775";

    #[test]
    fn keys_of_files_are_told_apart_by_all_their_bytes() {
        use std::hash::{BuildHasher, RandomState};

        let (key, other) = (SessionKey([0; 16]), SessionKey(1_u128.to_be_bytes()));
        let hasher = RandomState::new();
        assert_ne!(hasher.hash_one(key), hasher.hash_one(other), "they differ in their second half only");
    }

    #[test]
    fn a_session_id_has_one_form() {
        assert_eq!(SessionId::parse(EXAMPLE.as_bytes()).map(SessionId::reveal), Ok(EXAMPLE.into()));
        assert_eq!(SessionId::parse(EXAMPLE.to_uppercase().as_bytes()).map(SessionId::reveal), Ok(EXAMPLE.into()));
        for wrong in [
            "",
            "758fc320af964faf8af7536e7cac5775",
            "{758fc320-af96-4faf-8af7-536e7cac5775}",
            "758fc320-af96-4faf-8af7-536e7cac577g",
            "758fc320-af96-4faf-8af7-536e7cac57755",
        ] {
            assert_eq!(SessionId::parse(wrong.as_bytes()), Err(Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_session_id_never_prints() {
        let id = SessionId::parse(EXAMPLE.as_bytes()).unwrap();
        assert!(!format!("{id:?}").contains("758fc320"));
    }

    #[test]
    fn the_key_is_the_documented_digest() {
        // python3 -c 'import hashlib; print(hashlib.sha256(bytes.fromhex("758fc320af964faf8af7536e7cac5775")).hexdigest()[:32])'
        let id = SessionId::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(id.key().to_string(), "8ab04f6b6ce6e2281026898dbf8e9f7d");
        assert_eq!(SessionKey::parse(&id.key().to_string()), Ok(id.key()));
        assert_eq!(SessionKey::parse_id_or_key(EXAMPLE), Ok(id.key()));
    }

    #[test]
    fn random_bits_become_a_version_4_uuid() {
        let text = SessionId::from_random([0xff; 16]).reveal();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn client_ids_are_short_and_plain() {
        assert!(ClientId::parse("EnterpriseAPIM-RPuj1Q5nWk6bDC9fP3VpsjRJTmnLshfqo7cbq437").is_ok());
        assert!(ClientId::parse(&"a".repeat(128)).is_ok());
        for wrong in ["", "a b", "a,b", "a/b", "ä", &"a".repeat(129)] {
            assert!(ClientId::parse(wrong).is_err(), "{wrong}");
        }
    }
}
