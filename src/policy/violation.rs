//! What is wrong with the header fields of a call, all of it at once, in one word.

/// A field that the header rules look at. The number is its place in the order the API names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Field {
    /// The OAuth2 access token.
    Authorization,
    /// The client application.
    ClientId,
    /// The session.
    SessionId,
    /// Ties the calls of one business operation together.
    Correlation,
    /// Media type of the body.
    ContentType,
    /// Media types the client takes.
    Accept,
    /// Makes a repeated call safe.
    IdempotencyKey,
    /// The authority the call is for.
    Host,
}

impl Field {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Authorization,
        Self::ClientId,
        Self::SessionId,
        Self::Correlation,
        Self::ContentType,
        Self::Accept,
        Self::IdempotencyKey,
        Self::Host,
    ];
}

/// How a field breaks its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fault {
    /// Required and not there.
    Missing,
    /// There, but not of the form it must have.
    Invalid,
    /// There more than once, comma-joined, or named by `Connection`.
    Repeated,
    /// A media type the route does not take or make.
    Unsupported,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Invalid, Self::Repeated, Self::Unsupported];

    /// The `code` of a violation in a problem body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Repeated => "repeated",
            Self::Unsupported => "unsupported",
        }
    }
}

/// A set of (field, fault) pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Violations(u32);

impl Violations {
    /// Nothing is wrong.
    pub const NONE: Self = Self(0);

    /// The set with one more pair.
    #[must_use]
    pub const fn with(self, field: Field, fault: Fault) -> Self {
        Self(self.0 | 1 << (field as u32 * 4 + fault as u32))
    }

    /// Pairs of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this pair is in the set.
    #[must_use]
    pub const fn contains(self, field: Field, fault: Fault) -> bool {
        self.0 & (1 << (field as u32 * 4 + fault as u32)) != 0
    }

    /// Whether any field has this fault.
    #[must_use]
    pub const fn any(self, fault: Fault) -> bool {
        self.0 & (0x1111_1111 << fault as u32) != 0
    }

    /// The pairs, in the order of the fields.
    pub fn iter(self) -> impl Iterator<Item = (Field, Fault)> {
        Field::ALL
            .into_iter()
            .flat_map(move |field| Fault::ALL.into_iter().map(move |fault| (field, fault)))
            .filter(move |(field, fault)| self.contains(*field, *fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_in_order() {
        let found = Violations::NONE.with(Field::Accept, Fault::Unsupported).with(Field::ClientId, Fault::Missing);
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            [(Field::ClientId, Fault::Missing), (Field::Accept, Fault::Unsupported)]
        );
        assert!(found.any(Fault::Missing) && !found.any(Fault::Repeated));
    }
}
