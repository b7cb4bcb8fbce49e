//! The calls of a session as people read them.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use owo_colors::{OwoColorize, Style};
use sessiongate::policy::ids::SessionKey;
use sessiongate::trail::line::{Line, Verdict};

use super::Calls;
use crate::cli::words::{counted, millis};

/// The timeline: a head, then a line for each call.
pub(super) fn render(session: SessionKey, calls: &Calls) -> String {
    let lines = &calls.lines;
    let mut text = head(session, lines);
    let begun = lines.iter().filter_map(Line::moment).min();
    let table: Vec<[String; 6]> = lines.iter().map(|line| cells(line, begun)).collect();
    let mut widths = [0; 6];
    for row in &table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut before = calls.forgotten;
    if before > 0 {
        _ = writeln!(text, "  {}", format!("… {} before, not kept", count(before)).dimmed());
    }
    for (line, row) in lines.iter().zip(&table) {
        let missing = u64::from(line.number).saturating_sub(before + 1);
        if missing > 0 {
            _ = writeln!(text, "  {}", format!("… {} not here", count(missing)).dimmed());
        }
        before = u64::from(line.number).max(before);
        let [at, number, took, call, status, what] = row;
        let [w_at, w_number, w_took, w_call, w_status, _] = widths;
        let style = style(line);
        // Padded before it is colored: colors have no width.
        let status = format!("{status:<w_status$}");
        _ = writeln!(
            text,
            "  {}  {number:>w_number$}  {took:>w_took$}  {call:<w_call$}  {}  {}",
            format!("{at:>w_at$}").dimmed(),
            status.style(style),
            what.style(if line.verdict == Verdict::Refused { style } else { Style::new() }),
        );
        if let Some(parts) = parts(line) {
            let indent = w_at + w_number + w_took + 8;
            _ = writeln!(text, "{:indent$}{}", "", parts.dimmed());
        }
    }
    text.trim_end().to_owned()
}

fn head(session: SessionKey, lines: &[Line<'_>]) -> String {
    let mut text = format!("{} {session}", "session".bold());
    let known = |value: fn(&Line<'_>) -> String| lines.iter().map(value).find(|value| !value.is_empty());
    if let Some(client) = known(|line| line.client.to_string()) {
        _ = write!(text, "  client {}", shown(&client));
    }
    if let Some(subject) = known(|line| line.subject.to_string()) {
        _ = write!(text, "  subject {}", shown(&subject));
    }
    let refused = lines.iter().filter(|line| line.verdict == Verdict::Refused).count();
    _ = write!(text, "\n{}", counted(lines.len(), "call"));
    if refused > 0 {
        _ = write!(text, ", {}", format!("{refused} refused").red());
    }
    let moments = || lines.iter().filter_map(Line::moment);
    if let Some((first, last)) = moments().min().zip(moments().max()) {
        _ = write!(text, ", from {} over {}", shown(&first.to_string()), span(since(first, last)));
    }
    text.push_str("\n\n");
    text
}

fn cells(line: &Line<'_>, begun: Option<Timestamp>) -> [String; 6] {
    let at = line.moment().zip(begun).map(|(moment, begun)| since(begun, moment));
    let target = if line.path.is_empty() { &line.route } else { &line.path };
    let query = if line.query { "?…" } else { "" };
    let name = shown(if line.step.is_empty() { &line.route } else { &line.step });
    let what = match line.verdict {
        Verdict::Refused if line.step.is_empty() => shown(&line.code),
        Verdict::Refused => format!("{name}: {}", shown(&line.code)),
        Verdict::Admitted if line.upstream == "-" => name,
        Verdict::Admitted => format!("{name} → {}", shown(&line.upstream)),
    };
    [
        at.map(|at| format!("+{}", span(at))).unwrap_or_default(),
        if line.number == 0 { String::new() } else { line.number.to_string() },
        millis(Duration::from_micros(line.total_us)),
        format!("{} {}{query}", shown(&line.method), shown(target)),
        if line.status == 0 { "-".into() } else { line.status.to_string() },
        what,
    ]
}

/// Where the time of a call went, what became of its step, and how it ended, if that is worth a line.
fn parts(line: &Line<'_>) -> Option<String> {
    let mut parts = Vec::new();
    if let (Some(gate), Some(first)) = (line.admission_us, line.first_byte_us) {
        let micros = |micros: u64| millis(Duration::from_micros(micros));
        let (gate, first) = (u64::from(gate), u64::from(first));
        parts.push(format!("gate {}", micros(gate)));
        parts.push(format!("upstream {}", micros(first.saturating_sub(gate))));
        parts.push(format!("body {}", micros(line.total_us.saturating_sub(first))));
    }
    match &*line.step_outcome {
        "" | "committed" => {}
        "rolled_back" => parts.push("step not done".into()),
        "unsent" => parts.push("step not tried".into()),
        outcome => parts.push(format!("step {}", shown(outcome))),
    }
    if !line.step_rule.is_empty() {
        let before = if line.step_before.is_empty() { "none" } else { &line.step_before };
        parts.push(format!("against the rule {}, last step {}", shown(&line.step_rule), shown(before)));
    }
    if line.ended_by != "gate" && !line.ended_by.is_empty() {
        parts.push(format!("ended by the {}", shown(&line.ended_by)));
    }
    if !line.observed.is_empty() {
        parts.push("broke rules that refuse nothing".into());
    }
    Some(parts.join(", ")).filter(|text| !text.is_empty())
}

fn style(line: &Line<'_>) -> Style {
    match line.status {
        200..400 | 101 => Style::new().green(),
        400..500 => Style::new().yellow(),
        _ => Style::new().red(),
    }
}

fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

/// A span on the scale of a session.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.3}s", span.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m{:02}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

fn count(calls: u64) -> String {
    counted(usize::try_from(calls).unwrap_or(usize::MAX), "call")
}

/// Text of a file, without what could move the cursor of a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32, second: u32, rest: &str) -> Line<'static> {
        let text = format!(
            "{{\"trail\":1,\"time\":\"2026-11-25T15:00:{second:02}.250Z\",\"number\":{number},\"client\":\"web\",\
             \"method\":\"GET\",\"path\":\"/offers\\u001b\",\"route\":\"offers\",\"upstream\":\"shop\",{rest}}}"
        );
        Line::parse(text.as_bytes()).unwrap().into_owned()
    }

    #[test]
    fn a_timeline_says_what_happened_when_and_what_is_missing() {
        let lines = vec![
            line(
                2,
                1,
                "\"verdict\":\"admitted\",\"code\":\"ok\",\"status\":200,\"total_us\":1500,\"admission_us\":20,\"first_byte_us\":1400,\"ended_by\":\"gate\"",
            ),
            line(
                5,
                59,
                "\"verdict\":\"refused\",\"code\":\"session-closed\",\"status\":404,\"total_us\":90,\"ended_by\":\"client\"",
            ),
        ];
        let session = SessionKey::parse("8ab04f6b6ce6e2281026898dbf8e9f7d").unwrap();
        let text = anstream::adapter::strip_str(&render(session, &Calls { lines, forgotten: 1 })).to_string();
        assert_eq!(
            text,
            "session 8ab04f6b6ce6e2281026898dbf8e9f7d  client web\n\
             2 calls, 1 refused, from 2026-11-25T15:00:01.25Z over 58.000s\n\
             \n  … 1 call before, not kept\n   \
               +0.000s  2  1.50 ms  GET /offers\u{fffd}  200  offers → shop\n                        \
               gate 20 µs, upstream 1.38 ms, body 100 µs\n  \
               … 2 calls not here\n  \
               +58.000s  5    90 µs  GET /offers\u{fffd}  404  session-closed\n                        \
               ended by the client"
        );
    }
}
