//! The methods this gateway forwards, as a set that fits in a register.

use std::fmt;

use http::Method;

/// One method out of the closed set that is forwarded; also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verb {
    /// GET (RFC 9110 section 9.3.1).
    Get,
    /// HEAD (RFC 9110 section 9.3.2).
    Head,
    /// POST (RFC 9110 section 9.3.3).
    Post,
    /// PUT (RFC 9110 section 9.3.4).
    Put,
    /// PATCH (RFC 5789).
    Patch,
    /// DELETE (RFC 9110 section 9.3.5).
    Delete,
    /// OPTIONS (RFC 9110 section 9.3.7).
    Options,
}

impl Verb {
    /// All of them, in the order `Allow` lists them.
    pub const ALL: [Self; 7] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The verb of `method`, if it is one that is forwarded.
    #[must_use]
    pub fn of(method: &Method) -> Option<Self> {
        Some(match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            Method::OPTIONS => Self::Options,
            _ => return None,
        })
    }

    /// The verb spelled `text`, exactly.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }

    /// The method's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Whether the method only reads (RFC 9110 section 9.2.1).
    #[must_use]
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Whether doing it twice is doing it once (RFC 9110 section 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// A set of [`Verb`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MethodSet(u8);

impl MethodSet {
    /// No method.
    pub const NONE: Self = Self(0);
    /// Every method that is forwarded.
    pub const ALL: Self = Self(0b111_1111);

    /// The set with `verb` added; whoever may GET may also HEAD (RFC 9110 section 9.3.2).
    #[must_use]
    pub const fn with(self, verb: Verb) -> Self {
        let implied = if matches!(verb, Verb::Get) { 1 << Verb::Head as u8 } else { 0 };
        Self(self.0 | (1 << verb as u8) | implied)
    }

    /// Members of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Members of both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `verb` is a member.
    #[must_use]
    pub const fn contains(self, verb: Verb) -> bool {
        self.0 & (1 << verb as u8) != 0
    }

    /// Whether there is no member.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// As `Allow` writes it: `GET, HEAD` (RFC 9110 section 10.2.1).
impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = Verb::ALL.into_iter().filter(|verb| self.contains(*verb));
        for (position, verb) in members.enumerate() {
            f.write_str(if position == 0 { "" } else { ", " })?;
            f.write_str(verb.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_brings_head() {
        let set = MethodSet::NONE.with(Verb::Get).with(Verb::Post);
        assert_eq!(set.to_string(), "GET, HEAD, POST");
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(Verb::named("GET"), Some(Verb::Get));
        assert_eq!(Verb::named("get"), None);
        assert_eq!(Verb::of(&Method::TRACE), None);
    }
}
