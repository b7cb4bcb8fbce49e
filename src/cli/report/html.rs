//! The report as one HTML page that needs nothing else.

use std::fmt::Write;

use super::model::{Report, RouteReport, Slice, Spread};
use super::text::{median, share, summary};
use crate::cli::page::chart::{self, Axis, Line};
use crate::cli::page::{axis_time, escaped, figure, table, tile, tiles, whole};
use crate::cli::words::{percent, time};

/// Most lines of a table: a page is for people.
const ROWS: usize = 100;

/// Most routes in the chart.
const CHARTED: usize = 12;

/// The page.
pub fn render(report: &Report) -> String {
    let mut page = format!("<p class=\"summary\">{}</p>", escaped(&summary(report)));
    for damaged in &report.damaged.first {
        _ = write!(page, "<p class=\"note\">{}</p>", escaped(damaged));
    }
    page.push_str(&numbers(report));
    page.push_str(&funnel(report));
    page.push_str("<section class=\"charts\">");
    figure(&mut page, "Calls over time", &over_time(report));
    figure(&mut page, "Slowest routes", &slowest(report));
    page.push_str("</section>");
    page.push_str(&between(report));
    page.push_str(&refusals(report));
    page.push_str(&routes(report));
    let order = match report.funnel.in_order {
        true => "A session reaches a step by a call that succeeds, after the step before.",
        false => {
            "A session reaches a step by a call that succeeds; steps are those of flows, or routes, in the order in which sessions reach them most often."
        }
    };
    // Writing to a string cannot fail.
    _ = write!(page, "<footer>{order} Times are exact to one percent.</footer>");
    whole("Sessions and their calls", &page)
}

fn numbers(report: &Report) -> String {
    let (calls, sessions) = (&report.calls, &report.sessions);
    let bad = if calls.refused > 0 { "bad" } else { "" };
    let part = |count: u64, of: u64| format!("{count} <small>{}</small>", share(count, of));
    let last = report.funnel.steps.last().map_or(0, |step| step.sessions);
    tiles(&[
        tile("sessions", sessions.count, ""),
        tile("reached the last step", part(last, sessions.count), ""),
        tile("still under way", part(sessions.under_way, sessions.count), ""),
        tile("calls", calls.count, ""),
        tile("refused", part(calls.refused, calls.count), bad),
        tile("damaged lines", report.damaged.count, if report.damaged.count > 0 { "bad" } else { "" }),
    ])
}

fn funnel(report: &Report) -> String {
    let mut html = "<h2>How far sessions came</h2><table class=\"funnel\"><tbody>".to_owned();
    for step in &report.funnel.steps {
        let left = if step.left > 0 { format!("last step of {}", step.left) } else { String::new() };
        _ = write!(
            html,
            "<tr><th>{}</th><td class=\"track\"><i style=\"width:{:.1}%\"></i></td><td>{}</td><td>{}</td>\
             <td class=\"dim\">{left}</td></tr>",
            escaped(&step.name),
            step.share.clamp(0.0, 1.0) * 100.0,
            step.sessions,
            percent(step.share)
        );
    }
    html + "</tbody></table>"
}

/// A time axis in the unit that fits.
fn time_axis(report: &Report) -> Axis {
    let end = report.timeline.last().map_or(1, |slice| slice.at + slice.seconds) as f64;
    let (unit, name) = match end {
        ..180.0 => (1.0, "s"),
        180.0..10_800.0 => (60.0, "min"),
        10_800.0..345_600.0 => (3600.0, "h"),
        _ => (86_400.0, "d"),
    };
    let rounded = Axis::rounded(end / unit, |value| format!("{value} {name}"));
    let marks = rounded.marks.into_iter().map(|(value, text)| (value * unit, text)).collect();
    Axis { most: end, marks }.within()
}

fn over_time(report: &Report) -> String {
    let seconds = report.timeline.first().map_or(1, |slice| slice.seconds) as f64;
    let points = |value: fn(&Slice) -> u64| {
        report.timeline.iter().map(|slice| (slice.at as f64, value(slice) as f64 / slice.seconds as f64)).collect()
    };
    let parts = [
        Line { name: "admitted", color: "b", points: points(|slice| slice.calls - slice.refused) },
        Line { name: "refused", color: "f2", points: points(|slice| slice.refused) },
    ];
    let most = report.timeline.iter().map(|slice| slice.calls as f64 / slice.seconds as f64).fold(0.0, f64::max);
    let y = Axis::rounded(most, |value| format!("{value}/s"));
    chart::stacks("Calls over time", &parts, seconds, &time_axis(report), &y)
}

/// Percentiles of the slowest routes, next to each other.
fn slowest(report: &Report) -> String {
    let routes: Vec<&RouteReport> = report.routes.iter().take(CHARTED).collect();
    let most = routes.iter().map(|route| route.total_ms.p99).fold(0.0, f64::max);
    // Parts stand on each other, so each is what it adds to the one before.
    let parts = |value: fn(&Spread) -> f64| {
        (0..).zip(&routes).map(|(place, route)| (f64::from(place) + 0.1, value(&route.total_ms))).collect()
    };
    let parts = [
        Line { name: "p50", color: "b", points: parts(|spread| spread.p50) },
        Line { name: "p90", color: "c", points: parts(|spread| spread.p90 - spread.p50) },
        Line { name: "p99", color: "a", points: parts(|spread| spread.p99 - spread.p90) },
    ];
    let marks = (0..).zip(&routes).map(|(place, route)| (f64::from(place) + 0.5, escaped(&shortened(&route.name))));
    let x = Axis { most: routes.len().max(1) as f64, marks: marks.collect() };
    chart::stacks("Slowest routes", &parts, 0.8, &x, &Axis::rounded(most, axis_time))
}

/// As much of a name as fits under a bar.
fn shortened(name: &str) -> String {
    const FITS: usize = 12;
    if name.chars().count() <= FITS { name.to_owned() } else { name.chars().take(FITS - 1).chain(['…']).collect() }
}

fn between(report: &Report) -> String {
    let rows = report.funnel.steps.iter().skip(1).map(|step| {
        let mut row = vec![escaped(&step.name), step.sessions.to_string()];
        row.extend(median(step.since_previous_ms.as_ref()));
        row.extend(median(step.since_opening_ms.as_ref()));
        row
    });
    let head = ["step", "sessions", "from the one before: p50", "p90", "from the opening: p50", "p90"];
    format!("<h2>Time between steps</h2>{}", table(&head, rows))
}

fn refusals(report: &Report) -> String {
    if report.refusals.is_empty() {
        return String::new();
    }
    let rows = report.refusals.iter().take(ROWS).map(|refusal| {
        let client = if refusal.client.is_empty() { "-" } else { &refusal.client };
        let part = share(refusal.calls, report.calls.refused);
        vec![escaped(&refusal.code), escaped(client), refusal.calls.to_string(), part]
    });
    format!("<h2>Refusals</h2>{}", table(&["code", "client", "calls", "share"], rows))
}

fn routes(report: &Report) -> String {
    let rows = report.routes.iter().take(ROWS).map(|route| {
        let Spread { mean, p50, p90, p99, max, .. } = route.total_ms;
        let mut row = vec![escaped(&route.name)];
        row.extend([route.calls, route.refused, route.failed].map(|count| count.to_string()));
        row.extend([p50, p90, p99, max, mean].map(time));
        row
    });
    let head = ["route", "calls", "refused", "failed", "p50", "p90", "p99", "max", "mean"];
    format!("<h2>Routes</h2>{}", table(&head, rows))
}
