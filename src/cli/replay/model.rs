//! What came out, in the one form that all outputs are made of. Its JSON is stable: fields are added, never renamed or
//! taken away.

use serde::Serialize;

use crate::cli::damage::DamagedLines;

/// What a new configuration makes of recorded calls.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this form; always 1.
    pub version: u32,
    /// The configuration.
    pub config: String,
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
    /// Verdicts that change, the most frequent first.
    pub changes: Vec<Changed>,
    /// Calls of which nobody knows, by reason, the most frequent first.
    pub not_replayable: Vec<NotReplayable>,
    /// Rate rules that were not asked: they go by address, which a trail does not keep.
    pub rate_rules_left_out: Vec<String>,
    /// Calls that took so long that later ones were judged before them.
    pub out_of_order: u64,
}

/// Calls.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Calls {
    /// All of them.
    pub count: u64,
    /// Those with the same verdict.
    pub unchanged: u64,
    /// Those with another one: the three that follow.
    pub changed: u64,
    /// They were admitted.
    pub newly_refused: u64,
    /// They were refused, and are not any more, as far as their records go.
    pub newly_admitted: u64,
    /// They were refused for another reason.
    pub refused_otherwise: u64,
    /// Those of which nobody knows.
    pub not_replayable: u64,
}

/// Calls whose verdict changes in the same way.
#[derive(Debug, Serialize)]
pub struct Changed {
    /// `newly_refused`, `newly_admitted`, `refused_otherwise`.
    pub kind: &'static str,
    /// The code that they got.
    pub was: &'static str,
    /// The code that they would get.
    pub now: &'static str,
    /// The step and its rule, or the rate rule, that refuses or refused them; empty for other rules.
    pub rule: String,
    /// Calls.
    pub calls: u64,
    /// Of them, those that the old rules refused so soon that not all new rules could be asked.
    pub in_part: u64,
    /// By client, the most frequent first.
    pub clients: Vec<Client>,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// The calls of a client.
#[derive(Debug, Serialize)]
pub struct Client {
    /// The client; empty if it was not proven who called.
    pub client: String,
    /// Calls.
    pub calls: u64,
}

/// One call.
#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// When it began.
    pub time: String,
    /// Its session key; empty if its session was not known.
    pub session: String,
    /// Its request id.
    pub request_id: String,
    /// Its client.
    pub client: String,
    /// The method.
    pub method: &'static str,
    /// The route that it had.
    pub route: String,
}

/// Calls of which nobody knows.
#[derive(Debug, Serialize)]
pub struct NotReplayable {
    /// Why: a stable name.
    pub reason: &'static str,
    /// What that means.
    pub meaning: &'static str,
    /// Calls.
    pub calls: u64,
}
