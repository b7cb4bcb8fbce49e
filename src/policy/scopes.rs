//! Scopes as bits: every scope that a configuration names gets a number, and a token's scopes become a set of them.

use std::collections::HashMap;

/// Most scopes that one configuration may name.
pub const SCOPES_MAX: usize = 256;

/// A set of scopes that the configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScopeSet([u64; SCOPES_MAX / 64]);

impl ScopeSet {
    /// No scope.
    pub const NONE: Self = Self([0; SCOPES_MAX / 64]);

    fn insert(&mut self, number: u8) {
        self.0[usize::from(number) / 64] |= 1 << (number % 64);
    }

    /// Whether every member of `needed` is in this set.
    #[must_use]
    pub fn contains_all(&self, needed: &Self) -> bool {
        self.0.iter().zip(needed.0).all(|(have, need)| have & need == need)
    }

    /// Whether some member of `wanted` is in this set.
    #[must_use]
    pub fn contains_any(&self, wanted: &Self) -> bool {
        self.0.iter().zip(wanted.0).any(|(have, want)| have & want != 0)
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

/// There are more than [`SCOPES_MAX`] scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyScopes;

/// The scopes that a configuration names, each with its number.
#[derive(Debug, Clone, Default)]
pub struct ScopeNames(HashMap<Box<str>, u8>);

impl ScopeNames {
    /// The set of these scopes, giving numbers to those that have none yet.
    ///
    /// # Errors
    /// [`TooManyScopes`] when the numbers run out.
    pub fn intern<'a>(&mut self, scopes: impl IntoIterator<Item = &'a str>) -> Result<ScopeSet, TooManyScopes> {
        let mut set = ScopeSet::NONE;
        for scope in scopes {
            let next = u8::try_from(self.0.len());
            let number = match self.0.get(scope) {
                Some(number) => *number,
                None => *self.0.entry(scope.into()).or_insert(next.map_err(|_| TooManyScopes)?),
            };
            set.insert(number);
        }
        Ok(set)
    }

    /// The named ones among these scopes; the others open no route.
    pub fn known<'a>(&self, scopes: impl IntoIterator<Item = &'a str>) -> ScopeSet {
        let mut set = ScopeSet::NONE;
        scopes.into_iter().filter_map(|scope| self.0.get(scope)).for_each(|number| set.insert(*number));
        set
    }
}

/// The scopes a route demands.
#[derive(Debug, Clone, Default)]
pub struct ScopeRule {
    /// All of these.
    pub all: ScopeSet,
    /// And at least one of these, unless empty.
    pub any: ScopeSet,
    /// Every scope named above, space separated, for the challenge (RFC 6750 section 3).
    pub text: Box<str>,
}

impl ScopeRule {
    /// Whether a token with these scopes may pass.
    #[must_use]
    pub fn admits(&self, scopes: &ScopeSet) -> bool {
        scopes.contains_all(&self.all) && (self.any.is_empty() || scopes.contains_any(&self.any))
    }
}

/// Whether `text` is a scope token: visible ASCII without `"` and `\` (RFC 6749 section 3.3).
#[must_use]
pub fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_any_combine() {
        let mut names = ScopeNames::default();
        let rule = ScopeRule {
            all: names.intern(["orders"]).unwrap(),
            any: names.intern(["read", "write"]).unwrap(),
            text: "orders read write".into(),
        };
        for (scopes, admitted) in
            [("orders read", true), ("orders write other", true), ("orders", false), ("read", false), ("", false)]
        {
            assert_eq!(rule.admits(&names.known(scopes.split(' '))), admitted, "{scopes}");
        }
        assert!(ScopeRule::default().admits(&ScopeSet::NONE));
    }

    #[test]
    fn numbers_run_out_with_an_error() {
        let mut names = ScopeNames::default();
        let many: Vec<String> = (0..SCOPES_MAX).map(|n| format!("s{n}")).collect();
        assert!(names.intern(many.iter().map(String::as_str)).is_ok());
        assert!(names.intern(["s0"]).is_ok());
        assert_eq!(names.intern(["one more"]), Err(TooManyScopes));
    }

    #[test]
    fn scope_tokens_are_visible_ascii() {
        assert!(is_scope_token("listerine.all") && is_scope_token("orders:read"));
        assert!(!is_scope_token("") && !is_scope_token("a b") && !is_scope_token("a\"b") && !is_scope_token("ä"));
    }
}
