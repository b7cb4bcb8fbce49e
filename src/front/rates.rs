//! What clients are told of rate rules (draft-ietf-httpapi-ratelimit-headers-10): the rule that is tightest for them, what
//! is left of it, and when it is full again.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Snapshot;
use crate::policy::rates::{Rated, Shown};
use crate::policy::severity::Severity;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const WARNED: HeaderName = HeaderName::from_static("x-sg-warning");

/// Tells of the rules of a call. On routes without rules it does nothing.
pub(super) fn tell(fields: &mut HeaderMap, live: &Snapshot, rated: &Rated) {
    if let Some(Shown { rule, rate, spare }) = rated.tightest {
        let name = live.rates.name(rule);
        let secs = |span: std::time::Duration| span.as_secs() + u64::from(span.subsec_nanos() > 0);
        // The quota is what may come at once, the window how long it takes to have it again.
        let policy = format!("\"{name}\";q={};w={}", rate.burst(), secs(rate.full_in()));
        let limit = format!("\"{name}\";r={};t={}", spare.calls, secs(spare.full_in));
        for (field, text) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                // Lists: an upstream may have rules of its own.
                fields.append(field, value);
            }
        }
    }
    if let Some((rule, Severity::Warn)) = rated.exceeded
        && let Ok(value) = HeaderValue::try_from(format!("rate-limited {}", live.rates.name(rule)))
    {
        fields.append(WARNED, value);
    }
}
