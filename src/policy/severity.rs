//! What a broken rule leads to.

/// What a broken rule leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The rule is not looked at.
    Off,
    /// Counted and recorded.
    Observe,
    /// Also named in a response field.
    Warn,
    /// The call is refused.
    Enforce,
}

impl Severity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Off, Self::Observe, Self::Warn, Self::Enforce];

    /// The name in files, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}
