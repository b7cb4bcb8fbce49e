//! The report as one HTML page that needs nothing else: no script, no font, no image from anywhere.

use std::fmt::{Display, Write};

use super::text::summary;
use super::{CLASSES, Report, SliceReport, Spread};
use crate::cli::page::chart::{self, Axis, Line};
use crate::cli::page::{axis_time, escaped, figure, table, tile, tiles as dl, whole};
use crate::cli::words::{counted, percent, rate, time};

/// The colors of the classes of answers, in the order of [`CLASSES`].
const COLORS: [&str; 6] = ["f", "e", "b", "c", "d", "f2"];

/// The page.
pub fn render(report: &Report) -> String {
    let mut page = format!("<p class=\"summary\">{}</p>", escaped(&summary(report)));
    for note in &report.notes {
        _ = write!(page, "<p class=\"note\">{}</p>", escaped(note));
    }
    page.push_str(&tiles(report));
    page.push_str(&slo(report));
    page.push_str("<section class=\"charts\">");
    figure(&mut page, "Latency by percentile", &percentiles(report));
    figure(&mut page, "Latency over time", &over_time(report));
    figure(&mut page, "Throughput over time", &throughput(report));
    figure(&mut page, "Answers over time", &answers(report));
    page.push_str("</section>");
    page.push_str(&funnels(report));
    page.push_str(&steps(report));
    page.push_str(&counts(report));
    // Writing to a string cannot fail.
    _ = write!(
        page,
        "<footer>Latency runs from the moment a call was meant to be made, service time from the moment it was sent. \
         Seed {}, {}, at most {}.</footer>",
        report.seed,
        counted(report.threads, "thread"),
        counted(report.connections, "connection")
    );
    whole(&format!("Load on {}", report.target), &page)
}

fn tiles(report: &Report) -> String {
    let bad = if report.calls.bad > 0 { "bad" } else { "" };
    let share = format!("{} <small>{}</small>", report.calls.bad, percent(report.calls.bad_share));
    dl(&[
        tile("calls answered", report.calls.answered.to_string(), ""),
        tile("calls per second", rate(report.calls.per_second), ""),
        tile("median latency", time(report.latency_ms.p50), ""),
        tile("p99 latency", time(report.latency_ms.p99), ""),
        tile("not as expected", share, bad),
        tile("walks completed", format!("{} <small>of {}</small>", report.walks.completed, report.walks.started), ""),
    ])
}

/// Percentiles on an axis of nines, so that the tail has its room.
fn percentiles(report: &Report) -> String {
    let nines = |share: f64| -(1.0 - share).log10();
    let points = |spread: &Spread| {
        let known = [
            (0.0, spread.min),
            (0.5, spread.p50),
            (0.75, spread.p75),
            (0.9, spread.p90),
            (0.95, spread.p95),
            (0.99, spread.p99),
            (0.999, spread.p99_9),
            (0.9999, spread.p99_99),
        ];
        known.map(|(share, ms)| (nines(share), ms)).to_vec()
    };
    let marks = [(0.0, "0"), (0.5, "50%"), (0.9, "90%"), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%")];
    let x = Axis { most: 4.0, marks: marks.map(|(share, text)| (nines(share), text.to_owned())).to_vec() };
    let y = Axis::rounded(report.latency_ms.p99_99.max(report.service_ms.p99_99), axis_time);
    let lines = [
        Line { name: "latency", color: "a", points: points(&report.latency_ms) },
        Line { name: "service time", color: "c", points: points(&report.service_ms) },
    ];
    chart::lines("Latency by percentile", &lines, &x, &y)
}

fn time_axis(report: &Report) -> Axis {
    let end = report.timeline.last().map_or(1.0, |slice| slice.at + slice.seconds);
    Axis { most: end, ..Axis::rounded(end, |seconds| format!("{seconds} s")) }.within()
}

fn over_time(report: &Report) -> String {
    let points = |value: fn(&SliceReport) -> f64| {
        let measured = report.timeline.iter().filter(|slice| slice.calls > 0);
        measured.map(|slice| (slice.at + slice.seconds / 2.0, value(slice))).collect()
    };
    let most = report.timeline.iter().map(|slice| slice.p99_ms).fold(0.0, f64::max);
    let lines = [
        Line { name: "p50", color: "b", points: points(|slice| slice.p50_ms) },
        Line { name: "p90", color: "c", points: points(|slice| slice.p90_ms) },
        Line { name: "p99", color: "a", points: points(|slice| slice.p99_ms) },
    ];
    chart::lines("Latency over time", &lines, &time_axis(report), &Axis::rounded(most, axis_time))
}

fn per_second(value: f64) -> String {
    format!("{value}/s")
}

fn throughput(report: &Report) -> String {
    let points = |value: fn(&SliceReport) -> u64| {
        report
            .timeline
            .iter()
            .map(|slice| (slice.at + slice.seconds / 2.0, value(slice) as f64 / slice.seconds))
            .collect()
    };
    let most = report.timeline.iter().map(|slice| slice.calls as f64 / slice.seconds).fold(0.0, f64::max);
    let lines = [
        Line { name: "calls ended", color: "a", points: points(|slice| slice.calls) },
        Line { name: "walks begun", color: "b", points: points(|slice| slice.walks) },
    ];
    chart::lines("Throughput over time", &lines, &time_axis(report), &Axis::rounded(most, per_second))
}

fn answers(report: &Report) -> String {
    let seconds = report.timeline.first().map_or(1.0, |slice| slice.seconds);
    let part = |(name, color): (&'static str, &'static str)| {
        let value = |slice: &SliceReport| slice.classes.get(name).copied().unwrap_or_default() as f64 / slice.seconds;
        let shown = if name == "none" { "no answer" } else { name };
        Line { name: shown, color, points: report.timeline.iter().map(|slice| (slice.at, value(slice))).collect() }
    };
    let parts: Vec<_> = CLASSES.into_iter().zip(COLORS).map(part).collect();
    let parts: Vec<_> = parts.into_iter().filter(|part| part.points.iter().any(|(_, value)| *value > 0.0)).collect();
    let most = report.timeline.iter().map(|slice| slice.calls as f64 / slice.seconds).fold(0.0, f64::max);
    chart::stacks("Answers over time", &parts, seconds, &time_axis(report), &Axis::rounded(most, per_second))
}

fn funnels(report: &Report) -> String {
    let mut html = "<h2>How far walks came</h2>".to_owned();
    for flow in &report.flows {
        _ = write!(html, "<h3>{}</h3><table class=\"funnel\"><tbody>", escaped(&flow.name));
        let mut row = |name: &str, count: u64, note: String| {
            let share = count as f64 / flow.started.max(1) as f64;
            _ = write!(
                html,
                "<tr><th>{}</th><td class=\"track\"><i style=\"width:{:.1}%\"></i></td><td>{count}</td><td>{}</td>\
                 <td class=\"dim\">{note}</td></tr>",
                escaped(name),
                share * 100.0,
                percent(share)
            );
        };
        row("started", flow.started, String::new());
        row("session opened", flow.opened, String::new());
        for step in &flow.steps {
            row(
                &step.name,
                step.reached,
                if step.left > 0 { format!("{} left after it", step.left) } else { String::new() },
            );
        }
        row(
            "completed",
            flow.completed,
            if flow.failed > 0 { format!("{} failed", flow.failed) } else { String::new() },
        );
        html.push_str("</tbody></table>");
    }
    html
}

fn steps(report: &Report) -> String {
    let rows = report.steps.iter().map(|step| {
        let name = match &step.flow {
            Some(flow) if report.flows.len() > 1 => format!("{flow}: {}", step.name),
            Some(_) | None => step.name.clone(),
        };
        let Spread { p50, p90, p99, p99_9, max, .. } = step.latency_ms;
        let mut row = vec![escaped(&name), format!("<code>{}</code>", escaped(&step.call))];
        row.extend([step.answered, step.unanswered, step.bad].map(|count| count.to_string()));
        row.extend([p50, p90, p99, p99_9, max].map(time));
        row.push(time(step.service_ms.p50));
        row
    });
    let head = ["step", "call", "answered", "no answer", "bad", "p50", "p90", "p99", "p99.9", "max", "service p50"];
    format!("<h2>Steps</h2>{}", table(&head, rows))
}

fn counts(report: &Report) -> String {
    fn rows<K: Display>(counts: impl IntoIterator<Item = (K, u64)>, what: &str) -> Vec<Vec<String>> {
        counts
            .into_iter()
            .map(|(name, count)| vec![what.to_owned(), escaped(&name.to_string()), count.to_string()])
            .collect()
    }
    let all = rows(report.statuses.iter().map(|(status, count)| (*status, *count)), "status")
        .into_iter()
        .chain(rows(report.errors.iter().map(|(error, count)| (*error, *count)), "error"))
        .chain(rows(report.problems.iter().map(|(code, count)| (code.as_str(), *count)), "problem"));
    format!("<h2>Answers</h2><div class=\"narrow\">{}</div>", table(&["", "which", "calls"], all))
}

fn slo(report: &Report) -> String {
    let Some(slo) = &report.slo else { return String::new() };
    let rows = slo.tries.iter().map(|tried| {
        let verdict =
            if tried.misses.is_empty() { "holds".to_owned() } else { format!("missed: {}", tried.misses.join(", ")) };
        vec![
            rate(tried.rate),
            rate(tried.calls_per_second),
            time(tried.p50_ms),
            time(tried.p99_ms),
            percent(tried.bad_share),
            escaped(&verdict),
        ]
    });
    let found = slo.rate.map_or_else(
        || "It does not hold at the first rate.".to_owned(),
        |found| format!("It holds up to <b>{} walks/s</b>. Below is the last run at which it held.", rate(found)),
    );
    let head = ["walks/s", "calls/s", "p50", "p99", "bad", "verdict"];
    format!("<h2>Objective {}</h2><p>{found}</p>{}", escaped(&slo.objective), table(&head, rows))
}
