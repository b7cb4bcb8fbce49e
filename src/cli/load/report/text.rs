//! The report for a terminal.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;

use super::{ModeReport, Report, SloReport, Spread};
use crate::cli::words::{percent, rate, time};

/// What was done, in one line.
pub fn summary(report: &Report) -> String {
    let mode = match &report.mode {
        ModeReport::Open { from, to, arrivals } if from == to => format!("{} walks/s ({arrivals})", rate(*from)),
        ModeReport::Open { from, to, arrivals } => format!("{} to {} walks/s ({arrivals})", rate(*from), rate(*to)),
        ModeReport::Closed { clients } => format!("{clients} clients, closed loop"),
    };
    let Report { scenario, target, protocol, seconds, seed, .. } = report;
    format!("{scenario} on {target}, {protocol}, {mode}, {seconds:.1} s measured, seed {seed}")
}

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    _ = writeln!(text, "\n{}", summary(report).bold());
    let (walks, calls) = (&report.walks, &report.calls);
    _ = writeln!(
        text,
        "walks  {} started, {} completed, {} left, {} failed, {} unfinished",
        walks.started, walks.completed, walks.left, walks.failed, walks.unfinished
    );
    let bad = format!("{} not as expected ({})", calls.bad, percent(calls.bad_share));
    let bad = if calls.bad > 0 { bad.red().to_string() } else { bad };
    _ = writeln!(
        text,
        "calls  {} answered, {} unanswered, {bad}; {} calls/s; {} in the warm-up",
        calls.answered,
        calls.unanswered,
        rate(calls.per_second),
        calls.warm_up
    );
    _ = writeln!(text, "\n{}", latencies(report));
    for flow in &report.flows {
        let part = |reached: u64| percent(reached as f64 / flow.started.max(1) as f64);
        _ = write!(text, "\n{}  {} walks", flow.name.bold(), flow.started);
        _ = write!(text, " → session {}", part(flow.opened));
        for step in &flow.steps {
            _ = write!(text, " → {} {}", step.name, part(step.reached));
        }
        _ = write!(text, " → completed {}", part(flow.completed));
    }
    _ = writeln!(text, "\n\n{}", steps(report));
    for (what, counts) in [
        ("statuses", named(&report.statuses)),
        ("errors", named(&report.errors)),
        ("problems", named(&report.problems)),
    ] {
        if !counts.is_empty() {
            _ = writeln!(text, "{what}  {counts}");
        }
    }
    if let Some(slo) = &report.slo {
        _ = writeln!(text, "\n{}", search(slo));
    }
    for note in &report.notes {
        _ = writeln!(text, "{} {note}", "note:".yellow());
    }
    text.trim_end().to_owned()
}

fn named<K: std::fmt::Display>(counts: &std::collections::BTreeMap<K, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join(", ")
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled).set_header(header.iter().copied());
    table
}

fn align_right(table: &mut Table, from: usize) {
    table.column_iter_mut().skip(from).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
}

fn latencies(report: &Report) -> Table {
    let mut shown = table(&["", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"]);
    for (name, spread) in [("latency", &report.latency_ms), ("service time", &report.service_ms)] {
        let Spread { p50, p90, p99, p99_9, p99_99, max, mean, .. } = spread;
        let times = [p50, p90, p99, p99_9, p99_99, max, mean].map(|ms| time(*ms));
        shown.add_row(std::iter::once(name.to_owned()).chain(times));
    }
    align_right(&mut shown, 1);
    shown
}

fn steps(report: &Report) -> Table {
    let mut shown = table(&["step", "call", "answered", "bad", "p50", "p90", "p99", "max"]);
    for step in &report.steps {
        let name = match &step.flow {
            Some(flow) if report.flows.len() > 1 => format!("{flow}: {}", step.name),
            Some(_) | None => step.name.clone(),
        };
        let Spread { p50, p90, p99, max, .. } = &step.latency_ms;
        let numbers = [step.answered.to_string(), step.bad.to_string()];
        shown.add_row(
            [name, step.call.clone()].into_iter().chain(numbers).chain([p50, p90, p99, max].map(|ms| time(*ms))),
        );
    }
    align_right(&mut shown, 2);
    shown
}

/// A search, and what it found.
pub fn search(slo: &SloReport) -> String {
    let mut shown = table(&["walks/s", "calls/s", "p50", "p99", "bad", ""]);
    for tried in &slo.tries {
        let verdict =
            if tried.misses.is_empty() { "✓".to_owned() } else { format!("✗ {}", tried.misses.join(", ")) };
        shown.add_row([
            rate(tried.rate),
            rate(tried.calls_per_second),
            time(tried.p50_ms),
            time(tried.p99_ms),
            percent(tried.bad_share),
            verdict,
        ]);
    }
    let found = match slo.rate {
        Some(found) => format!("{} holds up to {} walks/s", slo.objective, rate(found)),
        None => format!("{} does not hold at the first rate; begin with a lower --rate", slo.objective),
    };
    format!("{shown}\n{}", found.bold())
}
