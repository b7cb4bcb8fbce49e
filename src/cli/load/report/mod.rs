//! What came out of a run, in the one form that all reports are made of. Its JSON is stable: fields are added, never
//! renamed or taken away.

mod build;
pub mod html;
pub mod text;

use std::collections::BTreeMap;

use serde::Serialize;

/// A report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this form; always 1.
    pub version: u32,
    /// The name of the scenario.
    pub scenario: String,
    /// What was called.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// When walks began.
    pub mode: ModeReport,
    /// The seed of all chance.
    pub seed: u64,
    /// Threads of the generator.
    pub threads: usize,
    /// Most connections.
    pub connections: usize,
    /// How long nothing was measured, in seconds.
    pub warm_up_seconds: f64,
    /// How long walks began after that, in seconds.
    pub seconds: f64,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Walks.
    pub walks: Walks,
    /// Calls.
    pub calls: Calls,
    /// From the moment a call was meant to be made.
    pub latency_ms: Spread,
    /// From the moment a call was sent.
    pub service_ms: Spread,
    /// How late the generator began walks.
    pub lag_ms: Spread,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls without a usable answer, by what went wrong.
    pub errors: BTreeMap<&'static str, u64>,
    /// Refusals by problem code.
    pub problems: BTreeMap<String, u64>,
    /// How far walks came, by flow.
    pub flows: Vec<FlowReport>,
    /// By step, in the order of the scenario.
    pub steps: Vec<StepReport>,
    /// Over time.
    pub timeline: Vec<SliceReport>,
    /// The search for the highest rate, if there was one.
    pub slo: Option<SloReport>,
    /// What to know before believing the numbers.
    pub notes: Vec<String>,
}

/// When walks began.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModeReport {
    /// By a schedule.
    Open {
        /// Walks per second at the start.
        from: f64,
        /// Walks per second at the end.
        to: f64,
        /// How they were spread.
        arrivals: &'static str,
    },
    /// By clients, one walk after the other.
    Closed {
        /// How many.
        clients: usize,
    },
}

/// What became of walks.
#[derive(Debug, Serialize)]
pub struct Walks {
    /// Began.
    pub started: u64,
    /// Came to the end.
    pub completed: u64,
    /// Chose to leave.
    pub left: u64,
    /// Ended because a call did not come out as expected.
    pub failed: u64,
    /// Were still walking when the run was over.
    pub unfinished: u64,
}

/// What became of calls.
#[derive(Debug, Serialize)]
pub struct Calls {
    /// Answered, as expected or not.
    pub answered: u64,
    /// Not answered.
    pub unanswered: u64,
    /// Did not come out as expected: an unexpected status, no answer, or an answer without a value that was needed.
    pub bad: u64,
    /// Those as a share of all.
    pub bad_share: f64,
    /// Ended in the warm-up, or in walks that began in it; counted nowhere else.
    pub warm_up: u64,
    /// Still running when the run was cut off; counted nowhere else.
    pub cut_off: u64,
    /// Answered per second while walks began.
    pub per_second: f64,
}

/// How times are spread, in milliseconds.
#[derive(Debug, Default, Serialize)]
pub struct Spread {
    pub count: u64,
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p75: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

/// How far walks of a flow came.
#[derive(Debug, Serialize)]
pub struct FlowReport {
    /// Its name.
    pub name: String,
    /// Walks that began.
    pub started: u64,
    /// Walks that had a session.
    pub opened: u64,
    /// By step.
    pub steps: Vec<Reached>,
    /// Walks that came to the end.
    pub completed: u64,
    /// Walks that ended because a call did not come out as expected.
    pub failed: u64,
}

/// A step of a flow.
#[derive(Debug, Serialize)]
pub struct Reached {
    /// Its name.
    pub name: String,
    /// Walks that made it.
    pub reached: u64,
    /// Walks that chose to leave after it.
    pub left: u64,
}

/// A step.
#[derive(Debug, Serialize)]
pub struct StepReport {
    /// Its flow; none for opening and closing sessions.
    pub flow: Option<String>,
    /// Its name.
    pub name: String,
    /// Method and path as written.
    pub call: String,
    /// Answered.
    pub answered: u64,
    /// Not answered.
    pub unanswered: u64,
    /// Did not come out as expected.
    pub bad: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// From the moment a call was meant to be made.
    pub latency_ms: Spread,
    /// From the moment a call was sent.
    pub service_ms: Spread,
}

/// A stretch of time.
#[derive(Debug, Serialize)]
pub struct SliceReport {
    /// Its start, in seconds after the warm-up.
    pub at: f64,
    /// Its length, in seconds.
    pub seconds: f64,
    /// Walks that began.
    pub walks: u64,
    /// Calls that ended.
    pub calls: u64,
    /// Answers by class, `2xx`; calls without an answer as `none`.
    pub classes: BTreeMap<&'static str, u64>,
    /// Median latency, in milliseconds.
    pub p50_ms: f64,
    /// In milliseconds.
    pub p90_ms: f64,
    /// In milliseconds.
    pub p99_ms: f64,
    /// In milliseconds.
    pub max_ms: f64,
}

/// A search.
#[derive(Debug, Serialize)]
pub struct SloReport {
    /// What had to hold.
    pub objective: String,
    /// The highest rate at which it held, in walks per second.
    pub rate: Option<f64>,
    /// All that was tried.
    pub tries: Vec<Try>,
}

/// A rate that was tried.
#[derive(Debug, Serialize)]
pub struct Try {
    /// Walks per second.
    pub rate: f64,
    /// Calls answered per second.
    pub calls_per_second: f64,
    /// In milliseconds.
    pub p50_ms: f64,
    /// In milliseconds.
    pub p99_ms: f64,
    /// As a share.
    pub bad_share: f64,
    /// What did not hold; nothing if all did.
    pub misses: Vec<String>,
}

/// The names of the classes of a slice.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
