//! The report for a terminal.

use std::fmt::Write;

use owo_colors::OwoColorize;

use super::model::{Changed, Report};
use crate::cli::tables::table;
use crate::cli::words::{counted, percent};

/// How many lines a table has.
const ROWS: usize = 20;

/// How many clients stand in a line.
const CLIENTS: usize = 3;

/// The whole report.
pub fn render(report: &Report) -> String {
    let (mut text, calls) = (String::new(), &report.calls);
    let share = |part: u64| percent(if calls.count == 0 { 0.0 } else { part as f64 / calls.count as f64 });
    let damaged = match report.damaged.count {
        0 => String::new(),
        count => format!(", {count} damaged lines passed over"),
    };
    // Writing to a string cannot fail.
    let files = counted(report.files, "file");
    _ = writeln!(text, "{}", format!("{} to {}, {files}{damaged}", report.from, report.to).bold());
    _ = writeln!(text, "calls           {}", calls.count);
    _ = writeln!(text, "unchanged       {} ({})", calls.unchanged, share(calls.unchanged));
    let changed = format!("{} ({})", calls.changed, share(calls.changed));
    let changed = if calls.changed > 0 { changed.red().to_string() } else { changed };
    _ = writeln!(
        text,
        "changed         {changed}: {} newly refused, {} newly admitted, {} refused for another reason",
        calls.newly_refused, calls.newly_admitted, calls.refused_otherwise
    );
    _ = writeln!(text, "not replayable  {} ({})", calls.not_replayable, share(calls.not_replayable));
    for (kind, title) in [
        ("newly_refused", "newly refused"),
        ("newly_admitted", "newly admitted"),
        ("refused_otherwise", "refused for another reason"),
    ] {
        let changes: Vec<_> = report.changes.iter().filter(|change| change.kind == kind).collect();
        section(&mut text, title, &changes);
    }
    if report.changes.iter().any(|change| change.in_part > 0) {
        _ = writeln!(text, "\n* refused so soon that not all new rules could be asked: they may refuse it still");
    }
    if report.calls.newly_admitted > 0 {
        _ = writeln!(text, "\nWhat is newly admitted has no recorded answer, and its step counts as not done.");
    }
    if !report.not_replayable.is_empty() {
        let rows = report.not_replayable.iter();
        let rows = rows.map(|gap| vec![gap.reason.to_owned(), gap.calls.to_string(), gap.meaning.to_owned()]);
        _ = writeln!(text, "\n{}\n{}", "not replayable".bold(), table(&["reason", "calls", ""], 1..2, rows));
    }
    for rule in &report.rate_rules_left_out {
        _ = writeln!(text, "\nThe rate rule {rule} was not asked: it goes by address, which a trail does not keep.");
    }
    if report.out_of_order > 0 {
        let late = report.out_of_order;
        _ = writeln!(text, "\n{late} calls took so long that later ones were judged before them.");
    }
    text.trim_end().to_owned()
}

fn section(text: &mut String, title: &str, changes: &[&Changed]) {
    if changes.is_empty() {
        return;
    }
    let rows = changes.iter().take(ROWS).map(|change| {
        let part = if change.in_part > 0 { " *" } else { "" };
        let rule = if change.rule.is_empty() { "-" } else { &change.rule };
        vec![
            format!("{} → {}{part}", change.was, change.now),
            change.calls.to_string(),
            rule.to_owned(),
            clients(change),
        ]
    });
    _ = writeln!(text, "\n{}\n{}", title.bold(), table(&["code", "calls", "rule", "clients"], 1..2, rows));
    let examples = changes.iter().take(ROWS).flat_map(|change| {
        change.examples.iter().map(|example| {
            let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let call = format!("{} {}", example.method, example.route);
            vec![
                example.time.clone(),
                change.now.to_owned(),
                call,
                or_none(&example.session),
                example.request_id.clone(),
            ]
        })
    });
    _ = writeln!(
        text,
        "{}",
        table(&["for example", "", "", "session", "request"], 0..0, examples).to_string().dimmed()
    );
    if changes.len() > ROWS {
        _ = writeln!(text, "{}", format!("… {} more; --output json has all", changes.len() - ROWS).dimmed());
    }
}

fn clients(change: &Changed) -> String {
    let shown = change.clients.iter().take(CLIENTS).map(|client| {
        let name = if client.client.is_empty() { "-" } else { &client.client };
        format!("{name} {}", client.calls)
    });
    let mut shown: Vec<_> = shown.collect();
    if change.clients.len() > CLIENTS {
        shown.push(format!("{} more", change.clients.len() - CLIENTS));
    }
    shown.join(", ")
}
