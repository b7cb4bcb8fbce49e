//! Counters of one worker. Only its own thread writes them, so the lock is never contended but at a scrape.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use parking_lot::Mutex;

use super::labels::Label;
use super::record::{CallRecord, EndedBy};
use super::steps::StepTable;
use crate::policy::method::Verb;
use crate::policy::rejection::TABLE;
use crate::policy::severity::Severity;

/// Upper bounds of the duration buckets, in seconds.
pub const BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What distinguishes calls in the metrics, packed into one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallKey(u64);

impl CallKey {
    fn of(call: &CallRecord) -> Self {
        let reason = call.rejection.map_or(0, |rejection| rejection.index() as u64 + 1);
        let verb = call.verb.map_or(0, |verb| verb as u64 + 1);
        Self(u64::from(call.route.number()) << 32 | reason << 24 | verb << 16 | u64::from(call.status))
    }

    /// Number of the route's label.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "16 bits were put there")]
    pub const fn route(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// The method; `-` for one that is not forwarded.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self.0 >> 16 & 0xff {
            0 => "-",
            place => Verb::ALL.get(place as usize - 1).map_or("-", |verb| verb.as_str()),
        }
    }

    /// The status; 0 if none was sent.
    #[must_use]
    pub const fn status(self) -> u64 {
        self.0 & 0xffff
    }

    /// The code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self.0 >> 24 & 0xff {
            0 => "ok",
            place => TABLE.get(place as usize - 1).map_or("-", |row| row.code),
        }
    }
}

/// Multiplies once: keys are small numbers that nobody outside chooses.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

type Table<V> = HashMap<CallKey, V, BuildHasherDefault<KeyHasher>>;

/// Durations in buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Durations {
    /// Observations per bucket, the last one beyond all bounds.
    pub counts: [u64; BUCKETS.len() + 1],
    /// Sum, in seconds.
    pub sum: f64,
}

impl Durations {
    fn observe(&mut self, span: Duration) {
        self.observe_in(&BUCKETS, span);
    }

    /// Adds an observation to buckets with these bounds.
    pub(super) fn observe_in(&mut self, bounds: &[f64; BUCKETS.len()], span: Duration) {
        let secs = span.as_secs_f64();
        let bucket = bounds.iter().position(|bound| secs <= *bound).unwrap_or(bounds.len());
        self.counts[bucket] += 1;
        self.sum += secs;
    }

    /// Adds another set of observations.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }
}

/// What is counted of calls.
#[derive(Debug, Default, Clone)]
pub struct CallStats {
    /// Calls by route, method, code and status.
    pub calls: Table<u64>,
    /// Whole durations by route label.
    pub durations: Vec<Durations>,
    /// Times to admission or refusal.
    pub admission: Durations,
    /// Times from admission to the upstream's first byte, by upstream label.
    pub upstream: Vec<Durations>,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Answers that a client did not wait for.
    pub client_gone: u64,
    /// Answers that an upstream broke off.
    pub upstream_cut: u64,
    /// Violations that were only observed, calls.
    pub observed: u64,
    /// Violations that were warned of, calls.
    pub warned: u64,
    /// Calls for which a rate rule had nothing left, by rule and severity.
    pub exceeded: HashMap<(Label, Severity), u64>,
    /// Steps.
    pub steps: StepTable,
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct WorkerStats {
    calls: Mutex<CallStats>,
    failures: Mutex<HashMap<(Label, &'static str), u64>>,
}

impl WorkerStats {
    pub(super) fn record(&self, call: &CallRecord) {
        let whole = call.elapsed();
        let mut stats = self.calls.lock();
        *stats.calls.entry(CallKey::of(call)).or_insert(0) += 1;
        at(&mut stats.durations, call.route).observe(whole);
        stats.admission.observe(call.admitted.unwrap_or(whole));
        if let (Some(first_byte), Some(admitted)) = (call.first_byte, call.admitted) {
            at(&mut stats.upstream, call.upstream).observe(first_byte.saturating_sub(admitted));
        }
        stats.bytes_in += call.bytes_in;
        stats.bytes_out += call.bytes_out;
        match call.ended_by {
            EndedBy::Gate => {}
            EndedBy::Client => stats.client_gone += 1,
            EndedBy::Upstream => stats.upstream_cut += 1,
        }
        let rate = call.exceeded.map(|(_, severity)| severity);
        let step = call.step.and_then(|step| step.broken).map(|(_, severity)| severity);
        let broke = |severity| rate == Some(severity) || step == Some(severity);
        stats.observed += u64::from(!call.observed.counted.is_empty() || broke(Severity::Observe));
        stats.warned += u64::from(!call.observed.warned.is_empty() || broke(Severity::Warn));
        if let Some(exceeded) = call.exceeded {
            *stats.exceeded.entry(exceeded).or_insert(0) += 1;
        }
        stats.steps.note(call);
    }

    /// Counts a call that an upstream did not answer.
    pub fn upstream_failed(&self, upstream: Label, kind: &'static str) {
        *self.failures.lock().entry((upstream, kind)).or_insert(0) += 1;
    }

    /// A copy of what was counted of calls.
    #[must_use]
    pub fn calls(&self) -> CallStats {
        self.calls.lock().clone()
    }

    /// A copy of the upstream failures.
    #[must_use]
    pub fn failures(&self) -> HashMap<(Label, &'static str), u64> {
        self.failures.lock().clone()
    }
}

fn at(durations: &mut Vec<Durations>, label: Label) -> &mut Durations {
    let place = usize::from(label.number());
    if durations.len() <= place {
        durations.resize(place + 1, Durations::default());
    }
    &mut durations[place]
}
