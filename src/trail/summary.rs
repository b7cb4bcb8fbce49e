//! What a session did, in a few numbers: for its owner.

use serde::Serialize;

use super::record::Ring;
use crate::policy::time::Timestamp;
use crate::telemetry::labels::{Label, Labels};

/// The calls of a session that are still kept, and how many are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Calls that are kept.
    pub calls: usize,
    /// Of them, those that were refused.
    pub refused: usize,
    /// Earlier calls that are not kept any more.
    pub forgotten: u32,
    /// When the first kept call began: RFC 3339 in UTC.
    pub first_at: Option<String>,
    /// When the last one began.
    pub last_at: Option<String>,
    /// By route, in the order of their first calls.
    pub routes: Vec<RouteSummary>,
}

/// The calls on one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteSummary {
    /// The route; `-` where none was found.
    pub route: String,
    /// Calls.
    pub calls: usize,
    /// Of them, those that were refused.
    pub refused: usize,
    /// When the last one began.
    pub last_at: String,
    /// How it ended: `ok` or the problem code.
    pub last_code: &'static str,
    /// The status it got; 0 if it got none.
    pub last_status: u16,
}

impl Summary {
    pub(super) fn of(ring: &Ring, labels: &Labels) -> Self {
        let mut routes: Vec<(Label, RouteSummary)> = Vec::new();
        let (mut refused, mut first, mut last) = (0, None, None);
        ring.for_each(|entry, _| {
            let place = routes.iter().position(|(label, _)| *label == entry.route).unwrap_or_else(|| {
                let route = labels.name(entry.route).to_string();
                let new =
                    RouteSummary { route, calls: 0, refused: 0, last_at: String::new(), last_code: "", last_status: 0 };
                routes.push((entry.route, new));
                routes.len() - 1
            });
            if let Some((_, route)) = routes.get_mut(place) {
                route.calls += 1;
                route.refused += usize::from(entry.is_refused());
                route.last_at = entry.time.precise().to_string();
                (route.last_code, route.last_status) = (entry.code(), entry.status);
            }
            refused += usize::from(entry.is_refused());
            first = first.min(Some(entry.time)).or(Some(entry.time));
            last = last.max(Some(entry.time));
        });
        let text = |time: Option<Timestamp>| time.map(|time| time.precise().to_string());
        Self {
            calls: ring.calls(),
            refused,
            forgotten: ring.forgotten(),
            first_at: text(first),
            last_at: text(last),
            routes: routes.into_iter().map(|(_, route)| route).collect(),
        }
    }
}
