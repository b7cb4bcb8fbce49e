//! What came out, in the one form that all outputs are made of. Its JSON is stable: fields are added, never renamed or
//! taken away.

use serde::Serialize;

use crate::cli::damage::DamagedLines;
use crate::cli::times::Times;

/// A report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this form; always 1.
    pub version: u32,
    /// Files that were read.
    pub files: usize,
    /// Lines that are no records.
    pub damaged: DamagedLines,
    /// When the first call began: RFC 3339 in UTC.
    pub from: String,
    /// When the last one began.
    pub to: String,
    /// Calls.
    pub calls: Calls,
    /// Sessions.
    pub sessions: Sessions,
    /// How far sessions came.
    pub funnel: FunnelReport,
    /// By code and client, the most frequent first.
    pub refusals: Vec<Refusal>,
    /// By their 99th percentile, the slowest first.
    pub routes: Vec<RouteReport>,
    /// Over time.
    pub timeline: Vec<Slice>,
}

/// Calls.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Calls {
    /// All of them.
    pub count: u64,
    /// Of them, refused ones.
    pub refused: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
}

/// Sessions.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Sessions {
    /// All that have a call.
    pub count: u64,
    /// Of them, those whose opening is in the trail.
    pub opened: u64,
    /// Those that their owners closed.
    pub closed: u64,
    /// Those that were not closed and whose last call is so near to the end of the trail that more may come.
    pub under_way: u64,
}

/// How far sessions came.
#[derive(Debug, Serialize)]
pub struct FunnelReport {
    /// Whether a step counts only after the one before: steps were given, in an order.
    pub in_order: bool,
    /// Whether the steps are those of the flows that sessions follow; else they are routes, or were given.
    pub of_flow: bool,
    /// The steps; the first is the session itself.
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Sessions that reached it.
    pub sessions: u64,
    /// Their share of all sessions.
    pub share: f64,
    /// Sessions for which it was the last new step: they gave up here, or were done.
    pub left: u64,
    /// From the opening of the session.
    pub since_opening_ms: Option<Spread>,
    /// From the step that a session reached before.
    pub since_previous_ms: Option<Spread>,
}

/// Refusals.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// The problem code.
    pub code: String,
    /// The client; empty if it was not proven who called.
    pub client: String,
    /// Calls.
    pub calls: u64,
}

/// The calls of a route.
#[derive(Debug, Serialize)]
pub struct RouteReport {
    /// Its name; `-` where none was found.
    pub name: String,
    /// Calls.
    pub calls: u64,
    /// Of them, refused ones.
    pub refused: u64,
    /// Those that an upstream answered with 500 or more.
    pub failed: u64,
    /// From beginning to end.
    pub total_ms: Spread,
}

/// What happened in a stretch of time.
#[derive(Debug, Serialize)]
pub struct Slice {
    /// Seconds since the first call.
    pub at: u64,
    /// How long it is, in seconds.
    pub seconds: u64,
    /// Calls that began.
    pub calls: u64,
    /// Of them, refused ones.
    pub refused: u64,
}

/// How times are spread, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half of them are shorter.
    pub p50: f64,
    /// 90 of 100 are shorter.
    pub p90: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Spread {
    /// Of these times; none if there are none.
    pub fn of(times: &Times) -> Option<Self> {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let at = |share| ms(times.at(share));
        (times.count() > 0).then(|| Self {
            count: times.count(),
            mean: ms(times.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: ms(times.max()),
        })
    }
}
