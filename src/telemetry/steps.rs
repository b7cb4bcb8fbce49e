//! What is counted of steps. Flows and their steps have names from configurations, so the set is closed; a session may
//! follow a flow that is configured no more, so they are told apart by name.

use std::sync::Arc;

use super::record::CallRecord;
use super::stats::{BUCKETS, Durations};
use crate::policy::flow::{Denial, Outcome, StepMark};
use crate::policy::severity::Severity;

/// Upper bounds of the buckets of the time from one step to the next, in seconds: people take minutes.
pub const GAP_BUCKETS: [f64; BUCKETS.len()] =
    [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0];

/// Label of steps that were refused.
const REFUSED: &str = "refused";

/// Label of calls without an outcome: their client left, or they only read after the last step.
const NONE: &str = "none";

/// What was counted of one step.
#[derive(Debug, Clone)]
pub struct StepCounts {
    /// Its flow.
    pub flow: Arc<str>,
    /// Its name.
    pub step: Arc<str>,
    outcomes: [u64; Outcome::ALL.len() + 2],
    /// By severity (observe, warn) and rule.
    would_refuse: [[u64; Denial::COUNT]; 2],
    /// Times from the step before.
    pub gaps: Durations,
}

impl StepCounts {
    const fn new(flow: Arc<str>, step: Arc<str>) -> Self {
        let (outcomes, would_refuse) = ([0; Outcome::ALL.len() + 2], [[0; Denial::COUNT]; 2]);
        let gaps = Durations { counts: [0; BUCKETS.len() + 1], sum: 0.0 };
        Self { flow, step, outcomes, would_refuse, gaps }
    }

    /// Calls by outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Outcome::ALL.into_iter().map(Outcome::as_str).chain([REFUSED, NONE]);
        names.zip(self.outcomes)
    }

    /// Calls that broke a rule which does not refuse, by severity and rule; only what has happened.
    pub fn would_refuse(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let by_severity = ["observe", "warn"].into_iter().zip(&self.would_refuse);
        let each = by_severity.flat_map(|(severity, rules)| {
            Denial::NAMES.into_iter().zip(rules).map(move |(rule, count)| (severity, rule, *count))
        });
        each.filter(|(_, _, count)| *count > 0)
    }

    fn note(&mut self, mark: &StepMark) {
        let place = match (mark.outcome, mark.broken) {
            (Some(outcome), _) => Outcome::ALL.iter().position(|known| *known == outcome),
            (None, Some((_, Severity::Enforce))) => Some(Outcome::ALL.len()),
            (None, _) => Some(Outcome::ALL.len() + 1),
        };
        if let Some(count) = place.and_then(|place| self.outcomes.get_mut(place)) {
            *count += 1;
        }
        if let Some((denial, severity @ (Severity::Observe | Severity::Warn))) = mark.broken
            && let [observed, warned] = &mut self.would_refuse
        {
            let rules = if severity == Severity::Warn { warned } else { observed };
            rules[denial.index()] += 1;
        }
        if let Some(gap) = mark.gap {
            self.gaps.observe_in(&GAP_BUCKETS, gap);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.outcomes.iter_mut().zip(other.outcomes).for_each(|(count, more)| *count += more);
        let rules = self.would_refuse.iter_mut().flatten().zip(other.would_refuse.iter().flatten());
        rules.for_each(|(count, more)| *count += more);
        self.gaps.merge(&other.gaps);
    }
}

/// What was counted of all steps.
#[derive(Debug, Default, Clone)]
pub struct StepTable(Vec<StepCounts>);

impl StepTable {
    /// Counts the step of a call, if it is one.
    pub(super) fn note(&mut self, call: &CallRecord) {
        let Some(mark) = &call.step else { return };
        let flow = call.session.as_ref().and_then(|session| session.flow());
        if let Some((flow, step)) = flow.and_then(|flow| Some((flow, flow.step(mark.step)?))) {
            self.of(flow.name(), &step.name).note(mark);
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|counts| self.of(&counts.flow, &counts.step).merge(counts));
    }

    /// All steps of which something was counted.
    pub fn iter(&self) -> impl Iterator<Item = &StepCounts> {
        self.0.iter()
    }

    fn of(&mut self, flow: &Arc<str>, step: &Arc<str>) -> &mut StepCounts {
        let place = self.0.iter().position(|counts| counts.step == *step && counts.flow == *flow);
        let place = place.unwrap_or_else(|| {
            self.0.push(StepCounts::new(Arc::clone(flow), Arc::clone(step)));
            self.0.len() - 1
        });
        &mut self.0[place]
    }
}
