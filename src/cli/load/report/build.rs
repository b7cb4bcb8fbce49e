//! From what was measured to the report.

use std::time::Duration;

use super::{CLASSES, Calls, FlowReport, ModeReport, Reached, Report, SliceReport, Spread, StepReport, Walks};
use crate::cli::load::http::CallError;
use crate::cli::load::measure::{FlowCounts, Measurements, Slice, StepCounts};
use crate::cli::load::run::{Course, Mode, Plan};
use crate::cli::load::scenario::{Flow, Scenario, Step};
use crate::cli::load::schedule::Arrivals;
use crate::cli::times::Times;
use crate::cli::words::millis;

/// A generator that is later than this in one of a hundred walks is itself what is measured.
const LATE: Duration = Duration::from_millis(5);

impl Spread {
    fn of(times: &Times) -> Self {
        let at = |share| ms(times.at(share));
        Self {
            count: times.count(),
            min: ms(times.min()),
            mean: ms(times.mean()),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: ms(times.max()),
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

impl Report {
    /// The report of a run, `seconds` of which walks began to be measured in.
    pub fn new(
        plan: &Plan,
        course: &Course,
        measured: &Measurements,
        seconds: f64,
        slice: Duration,
        interrupted: bool,
    ) -> Self {
        let scenario = &*plan.scenario;
        let total = measured.total();
        let walks = Walks::of(&measured.flows);
        let calls = Calls::of(measured, &total, seconds, slice);
        let mode = match course.mode {
            Mode::Closed { clients } => ModeReport::Closed { clients },
            Mode::Open { rate, arrivals } => {
                let arrivals = match arrivals {
                    Arrivals::Poisson => "poisson",
                    Arrivals::Constant => "constant",
                };
                ModeReport::Open { from: rate.from, to: rate.to, arrivals }
            }
        };
        let errors = CallError::ALL.iter().zip(total.errors).filter(|(_, count)| *count > 0);
        Self {
            version: 1,
            scenario: scenario.name.clone(),
            target: plan.target.url.clone(),
            protocol: plan.target.protocol(),
            notes: notes(&mode, measured, &walks, interrupted),
            mode,
            seed: plan.seed,
            threads: plan.threads,
            connections: plan.connections,
            warm_up_seconds: course.warm_up.as_secs_f64(),
            seconds,
            interrupted,
            walks,
            calls,
            latency_ms: Spread::of(&total.latency),
            service_ms: Spread::of(&total.service),
            lag_ms: Spread::of(&measured.lag),
            errors: errors.map(|(error, count)| (error.name(), count)).collect(),
            statuses: total.statuses,
            problems: measured.problems.clone(),
            flows: scenario
                .flows
                .iter()
                .zip(&measured.flows)
                .map(|(flow, counts)| funnel(scenario, flow, counts))
                .collect(),
            steps: steps(scenario, measured),
            timeline: timeline(measured, slice),
            slo: None,
        }
    }
}

impl Walks {
    fn of(flows: &[FlowCounts]) -> Self {
        let sum = |part: fn(&FlowCounts) -> u64| flows.iter().map(part).sum::<u64>();
        let (started, completed, failed) = (sum(|f| f.started), sum(|f| f.completed), sum(|f| f.failed));
        let left = sum(|flow| flow.left.iter().sum());
        Self { started, completed, left, failed, unfinished: started.saturating_sub(completed + left + failed) }
    }
}

impl Calls {
    fn of(measured: &Measurements, total: &StepCounts, seconds: f64, slice: Duration) -> Self {
        let (answered, unanswered, bad) = (total.answered(), total.unanswered(), total.bad());
        let all = answered + unanswered;
        // What was answered later than walks began belongs to no rate.
        let within = (seconds / slice.as_secs_f64()).floor() as usize;
        let counted = measured.slices.iter().take(within);
        let in_time: u64 = counted.map(|slice| slice.calls() - slice.classes[0]).sum();
        let span = within as f64 * slice.as_secs_f64();
        let per_second = match (within, seconds > 0.0) {
            // Shorter than a slice: all there is.
            (0, true) => answered as f64 / seconds,
            (0, false) => 0.0,
            _ => in_time as f64 / span,
        };
        let bad_share = if all == 0 { 0.0 } else { bad as f64 / all as f64 };
        let Measurements { warm_up, cut_off, .. } = *measured;
        Self { answered, unanswered, bad, bad_share, warm_up, cut_off, per_second }
    }
}

fn notes(mode: &ModeReport, measured: &Measurements, walks: &Walks, interrupted: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if interrupted {
        notes.push("interrupted: what was measured until then".into());
    }
    let late = measured.lag.at(0.99);
    if matches!(mode, ModeReport::Open { .. }) && late > LATE {
        let late = millis(late);
        notes.push(format!(
            "the generator itself began one walk in a hundred {late} late or more; latencies hold that time: give it \
             more --threads or a machine of its own"
        ));
    }
    if walks.unfinished > 0 && !interrupted {
        notes.push(format!("{} walks were not over after --drain", walks.unfinished));
    }
    notes
}

fn funnel(scenario: &Scenario, flow: &Flow, counts: &FlowCounts) -> FlowReport {
    let names = scenario.steps[flow.steps.clone()].iter().map(|step| step.name.clone());
    let numbers = counts.reached.iter().zip(&counts.left);
    FlowReport {
        name: flow.name.clone(),
        started: counts.started,
        opened: counts.opened,
        steps: names
            .zip(numbers)
            .map(|(name, (reached, left))| Reached { name, reached: *reached, left: *left })
            .collect(),
        completed: counts.completed,
        failed: counts.failed,
    }
}

fn steps(scenario: &Scenario, measured: &Measurements) -> Vec<StepReport> {
    let flow =
        |place: usize| scenario.flows.iter().find(|flow| flow.steps.contains(&place)).map(|flow| flow.name.clone());
    let mut counts = measured.steps.clone();
    if let Some(opening) = counts.first_mut() {
        opening.merge(&measured.prepared);
    }
    let all = scenario.steps.iter().zip(&counts).enumerate();
    // Sessions that nobody closes need no row.
    let shown =
        all.filter(|(place, (_, counts))| *place != scenario.closing() || counts.answered() + counts.unanswered() > 0);
    let row = |(place, (step, counts)): (usize, (&Step, &StepCounts))| StepReport {
        flow: flow(place),
        name: step.name.clone(),
        call: step.shown.clone(),
        answered: counts.answered(),
        unanswered: counts.unanswered(),
        bad: counts.bad(),
        statuses: counts.statuses.clone(),
        latency_ms: Spread::of(&counts.latency),
        service_ms: Spread::of(&counts.service),
    };
    shown.map(row).collect()
}

fn timeline(measured: &Measurements, slice: Duration) -> Vec<SliceReport> {
    let seconds = slice.as_secs_f64();
    let row = |(place, slice): (usize, &Slice)| SliceReport {
        at: place as f64 * seconds,
        seconds,
        walks: slice.walks,
        calls: slice.calls(),
        classes: CLASSES.into_iter().zip(slice.classes).filter(|(_, count)| *count > 0).collect(),
        p50_ms: ms(slice.latency.at(0.5)),
        p90_ms: ms(slice.latency.at(0.9)),
        p99_ms: ms(slice.latency.at(0.99)),
        max_ms: ms(slice.latency.max()),
    };
    measured.slices.iter().enumerate().map(row).collect()
}
