//! What came of scenarios as `JUnit` XML, which CI systems read.

use std::fmt::Write as _;

use super::report::lines;
use super::{Outcome, Played};

/// A suite per file, a case per scenario.
pub fn render(played: &[Played]) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let all: Vec<&Outcome> = played.iter().flat_map(|suite| &suite.scenarios).collect();
    // Writing to a string cannot fail.
    _ = writeln!(xml, "<testsuites name=\"sessiongate test\"{}>", totals(&all));
    for suite in played {
        let scenarios: Vec<&Outcome> = suite.scenarios.iter().collect();
        let file = escaped(&suite.origin);
        _ = writeln!(xml, "  <testsuite name=\"{file}\"{}>", totals(&scenarios));
        for scenario in scenarios {
            let (name, took) = (escaped(&scenario.name), scenario.took.as_secs_f64());
            _ = write!(xml, "    <testcase classname=\"{file}\" name=\"{name}\" time=\"{took:.3}\"");
            match &scenario.failure {
                None => xml.push_str("/>\n"),
                Some(mismatch) => {
                    let first = mismatch.differences.first();
                    let message =
                        first.map_or_else(String::new, |(expected, got)| format!("expected {expected}, got {got}"));
                    let text = escaped(&lines(&suite.origin, mismatch).join("\n"));
                    _ = writeln!(
                        xml,
                        ">\n      <failure message=\"{}\">{text}</failure>\n    </testcase>",
                        escaped(&message)
                    );
                }
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn totals(scenarios: &[&Outcome]) -> String {
    let failures = scenarios.iter().filter(|scenario| scenario.failure.is_some()).count();
    let took: f64 = scenarios.iter().map(|scenario| scenario.took.as_secs_f64()).sum();
    format!(" tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{took:.3}\"", scenarios.len())
}

/// Text as XML may hold it: a character that it may not becomes a question mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(letter),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            _ => escaped.push(letter),
        }
    }
    escaped
}
