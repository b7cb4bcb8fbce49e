//! What became of a call, then and now.

use std::sync::Arc;

use crate::policy::rejection::{Rejection, TABLE};
use crate::policy::violation::Field;
use crate::trail::line::{Line, Verdict};

/// Code of a call that was not refused.
pub const OK: &str = "ok";

/// What became of a call, as recorded.
#[derive(Debug, Clone)]
pub struct Old {
    /// `ok`, or the problem code.
    pub code: &'static str,
    /// The step rule or rate rule that refused it; empty if it was none.
    pub rule: Arc<str>,
}

impl Old {
    /// What `line` says; none if its code is not known.
    pub(super) fn of(line: &Line<'_>, mut name: impl FnMut(&str) -> Arc<str>) -> Option<Self> {
        if line.verdict == Verdict::Admitted {
            return Some(Self { code: OK, rule: name("") });
        }
        let code = TABLE.iter().map(|row| row.code).find(|code| *code == line.code)?;
        let rule = match code {
            "rate-limited" => name(&line.rate_rule),
            _ if !line.step.is_empty() && !line.step_rule.is_empty() => {
                name(&format!("{} {}", line.step, line.step_rule))
            }
            _ => name(""),
        };
        Some(Self { code, rule })
    }

    /// Whether it was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.code != OK
    }

    pub(super) fn origin(&self) -> Origin {
        origin(self.code)
    }
}

/// Where a refusal comes from, in the order of the stages: what is a matter of rules is judged anew, and everything else
/// is as it was for a call that comes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The head, or the process.
    Head,
    /// The length of the body, or its sender.
    Body,
    /// Rules that need no memory.
    Rules,
    /// Values of header fields, which are not recorded.
    Values,
    /// A header field that was missing, or its value.
    Media(Field),
    /// The token, or whose it is.
    Token,
    /// The session, by what others did to it.
    Session,
    /// Rules about the life of a session, about steps, rates and budgets; also what was admitted.
    State,
    /// What an Idempotency-Key was used for.
    Key,
    /// The upstream, or how busy all was.
    Upstream,
}

fn origin(code: &str) -> Origin {
    match code {
        "request-malformed" | "method-not-implemented" | "loop-detected" => Origin::Head,
        "request-too-large" | "request-timeout" => Origin::Body,
        "route-unknown" | "method-not-allowed" | "header-missing" | "client-not-allowed" | "scope-insufficient" => {
            Origin::Rules
        }
        "credentials-malformed" | "header-repeated" | "header-invalid" => Origin::Values,
        "credentials-missing" => Origin::Media(Field::Authorization),
        "media-type-unsupported" => Origin::Media(Field::ContentType),
        "not-acceptable" => Origin::Media(Field::Accept),
        "token-invalid" | "issuer-unavailable" | "client-mismatch" | "session-mismatch" => Origin::Token,
        "session-not-found" | "session-revoked" | "session-suspended" | "session-limit" => Origin::Session,
        "idempotency-in-flight" | "idempotency-key-reused" => Origin::Key,
        "upstream-failed" | "upstream-unavailable" | "upstream-timeout" | "overloaded" | "draining" | "internal" => {
            Origin::Upstream
        }
        _ => Origin::State,
    }
}

/// What a record does not tell, so that nobody knows what the new rules make of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gap {
    /// When it began.
    Time,
    /// Its code is none that this version knows.
    Code,
    /// Its host and path, or it cannot be read.
    Path,
    /// The end of the path or of the scopes: they were cut.
    Cut,
    /// The values of header fields, for which it was refused.
    Values,
    /// Who called.
    Caller,
    /// Its session.
    Session,
    /// What its session did before the trail begins.
    Beginning,
    /// What would have become of its session, which the new rules do not open.
    Unopened,
}

impl Gap {
    /// Name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Code => "code",
            Self::Path => "path",
            Self::Cut => "cut",
            Self::Values => "header-values",
            Self::Caller => "caller",
            Self::Session => "session",
            Self::Beginning => "session-beginning",
            Self::Unopened => "session-not-opened",
        }
    }

    /// What it means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Time => "its time cannot be read",
            Self::Code => "its code is none of this version",
            Self::Path => "its host and path are not recorded, or cannot be read",
            Self::Cut => "its path or its scopes were cut when they were recorded",
            Self::Values => "it was refused for values of header fields, which are not recorded",
            Self::Caller => "it is not recorded who called",
            Self::Session => "it is not recorded which session it was in",
            Self::Beginning => "its session began before the trail, so its steps and budget are not known",
            Self::Unopened => "the new rules do not open its session",
        }
    }
}

/// What the new rules make of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgment {
    /// The same as the old ones.
    Same,
    /// Something else.
    Changed(Change),
    /// Nobody knows.
    Unknown(Gap),
}

/// How a verdict changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It was admitted, and would be refused.
    Refused,
    /// It was refused, and would be admitted.
    Admitted,
    /// It was refused, and would be for another reason.
    Otherwise,
}

/// A verdict that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: Kind,
    /// The code that it got.
    pub was: &'static str,
    /// The code that it would get.
    pub now: &'static str,
    /// The step and step rule, or the rate rule, that refuses it, or did; empty for others.
    pub rule: Arc<str>,
    /// Whether the record ends before all rules could be asked: the old ones refused it too soon.
    pub in_part: bool,
}

impl Judgment {
    /// What becomes of a call that the new rules refuse.
    pub(super) fn refused(old: &Old, rejection: Rejection, rule: impl FnOnce() -> Arc<str>) -> Self {
        let now = rejection.code();
        if now == old.code {
            return Self::Same;
        }
        let kind = if old.is_refused() { Kind::Otherwise } else { Kind::Refused };
        Self::Changed(Change { kind, was: old.code, now, rule: rule(), in_part: false })
    }

    /// What becomes of a call that the new rules admit. `in_part`: as far as they could be asked.
    pub(super) fn admitted(old: &Old, in_part: bool) -> Self {
        if !old.is_refused() {
            return Self::Same;
        }
        let rule = Arc::clone(&old.rule);
        Self::Changed(Change { kind: Kind::Admitted, was: old.code, now: OK, rule, in_part })
    }
}
