//! The report as one table of table, row, measure and value, for spreadsheets and databases.

use sessiongate::trail::csv;

use super::model::{Report, Spread};

/// The table.
pub fn render(report: &Report) -> String {
    let mut out = "table,row,measure,value\r\n".to_owned();
    let mut add =
        |table: &str, row: &str, measure: &str, value: String| csv::row(&mut out, [table, row, measure, &value]);
    let (calls, sessions) = (&report.calls, &report.sessions);
    for (measure, value) in [
        ("from", report.from.clone()),
        ("to", report.to.clone()),
        ("files", report.files.to_string()),
        ("damaged_lines", report.damaged.count.to_string()),
        ("calls", calls.count.to_string()),
        ("refused", calls.refused.to_string()),
        ("bytes_in", calls.bytes_in.to_string()),
        ("bytes_out", calls.bytes_out.to_string()),
        ("sessions", sessions.count.to_string()),
        ("sessions_opened", sessions.opened.to_string()),
        ("sessions_closed", sessions.closed.to_string()),
        ("sessions_under_way", sessions.under_way.to_string()),
    ] {
        add("totals", "", measure, value);
    }
    for step in &report.funnel.steps {
        add("funnel", &step.name, "sessions", step.sessions.to_string());
        add("funnel", &step.name, "share", format!("{:.6}", step.share));
        add("funnel", &step.name, "left", step.left.to_string());
        for (prefix, spread) in [("since_opening", &step.since_opening_ms), ("since_previous", &step.since_previous_ms)]
        {
            let Some(spread) = spread else { continue };
            times(spread)
                .into_iter()
                .for_each(|(name, value)| add("funnel", &step.name, &format!("{prefix}_{name}"), value));
        }
    }
    for refusal in &report.refusals {
        add("refusals", &refusal.code, &refusal.client, refusal.calls.to_string());
    }
    for route in &report.routes {
        add("routes", &route.name, "calls", route.calls.to_string());
        add("routes", &route.name, "refused", route.refused.to_string());
        add("routes", &route.name, "failed", route.failed.to_string());
        times(&route.total_ms)
            .into_iter()
            .for_each(|(name, value)| add("routes", &route.name, &format!("total_{name}"), value));
    }
    for slice in &report.timeline {
        let at = slice.at.to_string();
        add("timeline", &at, "seconds", slice.seconds.to_string());
        add("timeline", &at, "calls", slice.calls.to_string());
        add("timeline", &at, "refused", slice.refused.to_string());
    }
    out
}

fn times(spread: &Spread) -> [(&'static str, String); 5] {
    let Spread { mean, p50, p90, p99, max, .. } = spread;
    [("mean_ms", mean), ("p50_ms", p50), ("p90_ms", p90), ("p99_ms", p99), ("max_ms", max)]
        .map(|(name, ms)| (name, format!("{ms:.3}")))
}
