//! The report for a terminal.

use std::fmt::Write;

use bytesize::ByteSize;
use comfy_table::Table;
use owo_colors::OwoColorize;

use super::model::{Report, Spread};
use crate::cli::tables::table;
use crate::cli::words::{percent, time};

/// How many lines a table has.
pub const ROWS: usize = 20;

/// What was read, in one line.
pub fn summary(report: &Report) -> String {
    let files = if report.files == 1 { "1 file".to_owned() } else { format!("{} files", report.files) };
    let damaged = match report.damaged.count {
        0 => String::new(),
        count => format!(", {count} damaged lines passed over"),
    };
    format!("{} to {}, {files}{damaged}", report.from, report.to)
}

/// A share of a whole.
pub fn share(part: u64, whole: u64) -> String {
    percent(if whole == 0 { 0.0 } else { part as f64 / whole as f64 })
}

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let (calls, sessions) = (&report.calls, &report.sessions);
    // Writing to a string cannot fail.
    _ = writeln!(text, "{}", summary(report).bold());
    let refused = format!("{} refused ({})", calls.refused, share(calls.refused, calls.count));
    let refused = if calls.refused > 0 { refused.red().to_string() } else { refused };
    let size = |bytes| ByteSize(bytes).display().iec().to_string();
    _ = writeln!(
        text,
        "calls     {}, {refused}; {} in, {} out",
        calls.count,
        size(calls.bytes_in),
        size(calls.bytes_out)
    );
    _ = writeln!(
        text,
        "sessions  {}, {} opened in this time, {} closed, {} still under way",
        sessions.count, sessions.opened, sessions.closed, sessions.under_way
    );
    let order = match (report.funnel.in_order, report.funnel.of_flow) {
        (true, _) => "steps in order",
        (false, true) => "steps of the flow, as most sessions reach them",
        (false, false) => "routes as most sessions reach them",
    };
    _ = writeln!(text, "\n{} ({order})\n{}", "funnel".bold(), funnel(report));
    if !report.refusals.is_empty() {
        _ = writeln!(text, "\n{}\n{}", "refusals".bold(), refusals(report));
        more(&mut text, report.refusals.len());
    }
    _ = writeln!(text, "\n{}\n{}", "slowest routes".bold(), routes(report));
    more(&mut text, report.routes.len());
    text.trim_end().to_owned()
}

fn more(text: &mut String, rows: usize) {
    if rows > ROWS {
        _ = writeln!(text, "{}", format!("… {} more; --output json has all", rows - ROWS).dimmed());
    }
}

/// Median and 90th percentile; `-` if there is nothing.
pub fn median(spread: Option<&Spread>) -> [String; 2] {
    spread.map_or_else(|| ["-".into(), "-".into()], |spread| [time(spread.p50), time(spread.p90)])
}

/// Bars of this many characters.
const BAR: usize = 24;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 24")]
fn bar(share: f64) -> String {
    "█".repeat((share.clamp(0.0, 1.0) * BAR as f64).ceil() as usize)
}

fn funnel(report: &Report) -> Table {
    let rows = report.funnel.steps.iter().map(|step| {
        let mut row = vec![step.name.clone(), bar(step.share), step.sessions.to_string(), percent(step.share)];
        row.push(step.left.to_string());
        row.extend(median(step.since_previous_ms.as_ref()));
        row.extend(median(step.since_opening_ms.as_ref()));
        row
    });
    let header = [
        "step",
        "",
        "sessions",
        "share",
        "last step",
        "from the one before: p50",
        "p90",
        "from the opening: p50",
        "p90",
    ];
    table(&header, 2.., rows)
}

fn refusals(report: &Report) -> Table {
    let rows = report.refusals.iter().take(ROWS).map(|refusal| {
        let client = if refusal.client.is_empty() { "-" } else { &refusal.client };
        let share = share(refusal.calls, report.calls.refused);
        vec![refusal.code.clone(), client.to_owned(), refusal.calls.to_string(), share]
    });
    table(&["code", "client", "calls", "share"], 2.., rows)
}

fn routes(report: &Report) -> Table {
    let rows = report.routes.iter().take(ROWS).map(|route| {
        let Spread { mean, p50, p90, p99, max, .. } = route.total_ms;
        let mut row = vec![route.name.clone()];
        row.extend([route.calls, route.refused, route.failed].map(|count| count.to_string()));
        row.extend([p50, p90, p99, max, mean].map(time));
        row
    });
    table(&["route", "calls", "refused", "failed", "p50", "p90", "p99", "max", "mean"], 1.., rows)
}
