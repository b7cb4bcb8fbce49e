//! An explanation for people.

use std::fmt::Write as _;
use std::path::Path;

use owo_colors::OwoColorize;
use sessiongate::explain::{Explanation, Said, Verdict};

/// Renders an explanation, with colors; whoever prints it takes them out where nobody wants them.
pub fn render(explanation: &Explanation, config: &Path) -> String {
    let Explanation { method, path, time: _, stages, verdict } = explanation;
    let mut text = format!("{} {path}   {}\n\n", method.bold(), format!("(by {})", config.display()).dimmed());
    for stage in stages {
        let name = format!("{:8}", stage.name);
        let head = match stage.result {
            Said::Passed => format!("  {} {name}", "✓".green()),
            Said::Refused => format!("  {} {}", "✗".red(), name.red()),
            Said::NeedsGate => format!("  {} {name}", "?".yellow()),
        };
        let facts = match stage.facts.as_slice() {
            [] => String::new(),
            // One below the other, behind the name.
            facts => facts.join("\n              "),
        };
        // Writing to a string cannot fail.
        _ = writeln!(text, "{}", format!("{head}  {facts}").trim_end());
    }
    _ = match verdict {
        Verdict::Admitted { then } => write!(text, "\n{}: {then}", "admitted".green().bold()),
        Verdict::AdmittedInSession { then } => {
            write!(text, "\n{} if the session is live and the caller's; then {then}", "admitted".green().bold())
        }
        Verdict::NeedsGate { what } => write!(text, "\n{}: it takes {what}", "undecided".yellow().bold()),
        Verdict::Refused { status, code, reason, remedy } => write!(
            text,
            "\n{} with {} {}   {}\n{remedy}",
            "refused".red().bold(),
            status.bold(),
            code.bold(),
            format!("(reason {reason})").dimmed()
        ),
    };
    text
}
