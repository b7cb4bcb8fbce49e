//! What was measured: counts and histograms, kept by each thread and merged for reports.
//!
//! A latency runs from the moment a call was meant to be made until its answer was read, so the time that a call waited
//! for a connection, or for the generator itself, counts too. The service time runs from the moment it was sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::http::CallError;
use super::scenario::Scenario;
use crate::cli::times::Times;

/// What became of the calls of a step.
#[derive(Debug, Clone)]
pub struct StepCounts {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers whose status was not expected.
    pub unexpected: u64,
    /// Calls without a usable answer, in the order of [`CallError::ALL`].
    pub errors: [u64; CallError::ALL.len()],
    /// From the moment a call was meant to be made.
    pub latency: Times,
    /// From the moment it was sent.
    pub service: Times,
}

impl StepCounts {
    fn new() -> Self {
        Self {
            statuses: BTreeMap::new(),
            unexpected: 0,
            errors: [0; CallError::ALL.len()],
            latency: Times::exact(),
            service: Times::exact(),
        }
    }

    /// Calls that were answered.
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Calls that got no answer. One whose answer lacked a value was answered.
    pub fn unanswered(&self) -> u64 {
        CallError::ALL
            .iter()
            .zip(self.errors)
            .filter(|(error, _)| **error != CallError::Capture)
            .map(|(_, count)| count)
            .sum()
    }

    /// Calls that did not come out as expected.
    pub fn bad(&self) -> u64 {
        self.unexpected + self.errors.iter().sum::<u64>()
    }

    /// Adds the calls of another.
    pub fn merge(&mut self, other: &Self) {
        other.statuses.iter().for_each(|(status, count)| *self.statuses.entry(*status).or_default() += count);
        self.unexpected += other.unexpected;
        self.errors.iter_mut().zip(other.errors).for_each(|(sum, count)| *sum += count);
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
    }
}

/// How far the walks of a flow came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Walks that began.
    pub started: u64,
    /// Walks that had a session.
    pub opened: u64,
    /// Walks that made this step, by step.
    pub reached: Vec<u64>,
    /// Walks that chose to leave after this step.
    pub left: Vec<u64>,
    /// Walks that came to the end of the last step.
    pub completed: u64,
    /// Walks that ended because a call did not come out as expected.
    pub failed: u64,
}

impl FlowCounts {
    fn merge(&mut self, other: &Self) {
        self.started += other.started;
        self.opened += other.opened;
        self.completed += other.completed;
        self.failed += other.failed;
        for (mine, theirs) in [(&mut self.reached, &other.reached), (&mut self.left, &other.left)] {
            mine.iter_mut().zip(theirs).for_each(|(sum, count)| *sum += count);
        }
    }
}

/// A stretch of the run.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Answers by the first digit of their status; calls without an answer at 0.
    pub classes: [u64; 6],
    /// Walks that began.
    pub walks: u64,
    /// Latencies of calls that ended in it.
    pub latency: Times,
}

impl Slice {
    fn new() -> Self {
        Self { classes: [0; 6], walks: 0, latency: Times::coarse() }
    }

    /// Calls that ended in it.
    pub fn calls(&self) -> u64 {
        self.classes.iter().sum()
    }
}

/// A call that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// When it was meant to be made.
    pub intended: Instant,
    /// When it was sent; none if it never was.
    pub sent: Option<Instant>,
    /// When its answer was read, or when it was given up.
    pub at: Instant,
    /// Its status, or why there is none.
    pub outcome: Result<u16, CallError>,
    /// Whether its status was expected.
    pub expected: bool,
}

/// All that one thread, or the whole run, has measured.
#[derive(Debug, Clone)]
pub struct Measurements {
    /// By step of the scenario.
    pub steps: Vec<StepCounts>,
    /// Calls that opened sessions of connections before the run; they are in no total.
    pub prepared: StepCounts,
    /// By flow of the scenario.
    pub flows: Vec<FlowCounts>,
    /// The run over time.
    pub slices: Vec<Slice>,
    /// Refusals by their problem code.
    pub problems: BTreeMap<String, u64>,
    /// Calls that ended and belong to the warm-up.
    pub warm_up: u64,
    /// Calls that were still running when the run was cut off.
    pub cut_off: u64,
    /// How late the generator itself began walks.
    pub lag: Times,
    /// Since [`take_recent`](Self::take_recent) was called last.
    recent: Times,
}

/// When a run takes place.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// When the warm-up begins.
    pub start: Instant,
    /// When what begins counts.
    pub measured: Instant,
    /// When nothing begins any more.
    pub end: Instant,
    /// How long a slice of the timeline is.
    pub slice: Duration,
}

impl Window {
    /// A run that begins at `start`. The timeline has at most 300 slices of whole seconds.
    pub fn new(start: Instant, warm_up: Duration, duration: Duration) -> Self {
        let slice = Duration::from_secs(duration.as_secs().div_ceil(300).max(1));
        Self { start, measured: start + warm_up, end: start + warm_up + duration, slice }
    }

    fn place(&self, at: Instant) -> usize {
        let since = at.saturating_duration_since(self.measured).as_nanos();
        // What ends long after the end is in the last slice there can be.
        usize::try_from(since / self.slice.as_nanos().max(1)).unwrap_or(usize::MAX).min(1_000)
    }
}

impl Measurements {
    /// Nothing yet.
    pub fn new(scenario: &Scenario) -> Self {
        let flow = |steps: usize| FlowCounts { reached: vec![0; steps], left: vec![0; steps], ..FlowCounts::default() };
        Self {
            steps: scenario.steps.iter().map(|_| StepCounts::new()).collect(),
            prepared: StepCounts::new(),
            flows: scenario.flows.iter().map(|each| flow(each.steps.len())).collect(),
            slices: Vec::new(),
            problems: BTreeMap::new(),
            warm_up: 0,
            cut_off: 0,
            lag: Times::coarse(),
            recent: Times::coarse(),
        }
    }

    /// Sets what was done before the run apart.
    pub fn begin(&mut self) {
        if let Some(opening) = self.steps.first_mut() {
            self.prepared = std::mem::replace(opening, StepCounts::new());
        }
        self.slices.clear();
        self.recent.clear();
    }

    fn slice(&mut self, window: &Window, at: Instant) -> &mut Slice {
        let place = window.place(at);
        if self.slices.len() <= place {
            self.slices.resize_with(place + 1, Slice::new);
        }
        &mut self.slices[place]
    }

    /// Counts a call of a step.
    pub fn call(&mut self, window: &Window, step: usize, call: &Ended) {
        let latency = call.at.saturating_duration_since(call.intended);
        let counts = &mut self.steps[step];
        let (class, timed) = match call.outcome {
            Ok(status) => {
                *counts.statuses.entry(status).or_default() += 1;
                counts.unexpected += u64::from(!call.expected);
                (usize::from(status / 100).min(5), true)
            }
            Err(error) => {
                let place = CallError::ALL.iter().position(|known| *known == error).unwrap_or_default();
                counts.errors[place] += 1;
                // Slow calls that were given up are slow calls; without them the others would look too good.
                (0, error == CallError::Timeout)
            }
        };
        if timed {
            counts.latency.add(latency);
            if let Some(sent) = call.sent {
                counts.service.add(call.at.saturating_duration_since(sent));
            }
            self.recent.add(latency);
        }
        let slice = self.slice(window, call.at);
        slice.classes[class] += 1;
        if timed {
            slice.latency.add(latency);
        }
    }

    /// Counts a call of the warm-up, which is seen while it goes on and nowhere else.
    pub fn warm_up_call(&mut self, latency: Duration) {
        self.warm_up += 1;
        self.recent.add(latency);
    }

    /// Counts that an answer lacked a value.
    pub fn not_captured(&mut self, step: usize) {
        self.steps[step].errors[CallError::ALL.len() - 1] += 1;
    }

    /// Counts a walk that begins.
    pub fn walk(&mut self, window: &Window, flow: usize, intended: Instant, begun: Instant) {
        self.flows[flow].started += 1;
        self.lag.add(begun.saturating_duration_since(intended));
        self.slice(window, begun).walks += 1;
    }

    /// Adds what another thread measured.
    pub fn merge(&mut self, other: &Self) {
        self.steps.iter_mut().zip(&other.steps).for_each(|(sum, more)| sum.merge(more));
        self.prepared.merge(&other.prepared);
        self.flows.iter_mut().zip(&other.flows).for_each(|(sum, more)| sum.merge(more));
        if self.slices.len() < other.slices.len() {
            self.slices.resize_with(other.slices.len(), Slice::new);
        }
        for (sum, more) in self.slices.iter_mut().zip(&other.slices) {
            sum.classes.iter_mut().zip(more.classes).for_each(|(sum, count)| *sum += count);
            sum.walks += more.walks;
            sum.latency.merge(&more.latency);
        }
        other.problems.iter().for_each(|(code, count)| *self.problems.entry(code.clone()).or_default() += count);
        self.warm_up += other.warm_up;
        self.cut_off += other.cut_off;
        self.lag.merge(&other.lag);
    }

    /// Moves the latencies since the last call of this into `recent`.
    pub fn take_recent(&mut self, recent: &mut Times) {
        recent.merge(&self.recent);
        self.recent.clear();
    }

    /// All steps as one.
    pub fn total(&self) -> StepCounts {
        let mut total = StepCounts::new();
        self.steps.iter().for_each(|step| total.merge(step));
        total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scenario() -> Scenario {
        Scenario::parse(super::super::scenario::BUILT_IN[1].1, "plain").unwrap()
    }

    fn ended(window: &Window, millis: u64, outcome: Result<u16, CallError>) -> Ended {
        let intended = window.measured;
        Ended {
            intended,
            sent: Some(intended),
            at: intended + Duration::from_millis(millis),
            outcome,
            expected: outcome == Ok(200),
        }
    }

    #[test]
    fn calls_are_counted_by_what_became_of_them() {
        let window = Window::new(Instant::now(), Duration::ZERO, Duration::from_secs(3));
        let mut all = Measurements::new(&scenario());
        for (millis, outcome) in
            [(10, Ok(200)), (1_500, Ok(503)), (2_500, Err(CallError::Timeout)), (20, Err(CallError::Connect))]
        {
            all.call(&window, 1, &ended(&window, millis, outcome));
        }
        let step = &all.steps[1];
        assert_eq!((step.answered(), step.unanswered(), step.bad()), (2, 2, 3));
        assert_eq!(step.latency.count(), 3, "a call that timed out was slow; one that was not connected was not");
        let classes: Vec<_> = all.slices.iter().map(|slice| slice.classes).collect();
        assert_eq!(classes, [[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]);
    }

    proptest! {
        /// It does not matter which thread measured what.
        #[test]
        fn merged_parts_are_the_whole(times in prop::collection::vec((0u64..20_000, 0usize..3), 0..80)) {
            let window = Window::new(Instant::now(), Duration::ZERO, Duration::from_secs(5));
            let mut whole = Measurements::new(&scenario());
            let mut parts = [(); 3].map(|()| Measurements::new(&scenario()));
            for (millis, part) in &times {
                let call = ended(&window, *millis, Ok(200));
                whole.call(&window, 1, &call);
                parts[*part].call(&window, 1, &call);
            }
            let mut merged = Measurements::new(&scenario());
            parts.iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(&merged.steps[1].statuses, &whole.steps[1].statuses);
            prop_assert_eq!(&merged.steps[1].latency, &whole.steps[1].latency);
            let shape = |all: &Measurements| all.slices.iter().map(|slice| slice.classes).collect::<Vec<_>>();
            prop_assert_eq!(shape(&merged), shape(&whole));
        }
    }
}
