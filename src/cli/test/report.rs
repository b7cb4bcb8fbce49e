//! What came of scenarios, for people.

use std::fmt::Write as _;

use owo_colors::OwoColorize;

use super::{Mismatch, Played};

/// One line per scenario, more where something is not as expected, and a summary. Whoever prints it takes the colors out where
/// nobody wants them.
pub fn render(played: &[Played]) -> String {
    let mut text = String::new();
    let (mut passed, mut failed) = (0_usize, 0_usize);
    // Writing to a string cannot fail.
    for suite in played {
        _ = writeln!(text, "{}", suite.origin.bold());
        for scenario in &suite.scenarios {
            match &scenario.failure {
                None => {
                    passed += 1;
                    let calls = format!("({})", counted(scenario.calls, "call"));
                    _ = writeln!(text, "  {} {} {}", "✓".green(), scenario.name, calls.dimmed());
                }
                Some(mismatch) => {
                    failed += 1;
                    _ = writeln!(text, "  {} {}", "✗".red(), scenario.name.red());
                    for line in lines(&suite.origin, mismatch) {
                        _ = writeln!(text, "      {line}");
                    }
                }
            }
        }
        text.push('\n');
    }
    _ = write!(text, "{}: {passed} passed, {failed} failed", counted(passed + failed, "scenario"));
    text
}

/// Where a scenario went another way, and why.
pub fn lines(origin: &str, mismatch: &Mismatch) -> Vec<String> {
    let Mismatch { call, line, what, differences, why } = mismatch;
    let place = call.map_or_else(String::new, |call| format!("call {call}: "));
    let mut lines = vec![format!("{place}{what}   {origin}:{line}")];
    for (expected, got) in differences {
        lines.push(format!("expected  {expected}"));
        lines.push(format!("got       {got}"));
    }
    lines.extend(
        why.iter()
            .enumerate()
            .map(|(place, why)| format!("{}{why}", if place == 0 { "why       " } else { "          " })),
    );
    lines
}

/// `2 calls`.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
