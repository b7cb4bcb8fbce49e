//! Answers on standard output: text for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;

/// The flag that chooses the form of an answer.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// The form of the answer: text or json
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Text, hide_possible_values = true)]
    pub output: Form,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Writes an answer; colors are taken out unless standard output is a terminal that wants them. A reader that has seen
/// enough (`| head`) is no failure.
///
/// # Errors
/// [`Failure::Runtime`] if standard output cannot be written to.
pub fn say(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody may be there to read it, and that is no reason to stop.
pub fn tell(text: impl std::fmt::Display) {
    _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes an answer as JSON.
///
/// # Errors
/// As [`say`].
pub fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::runtime("cannot write JSON", error))?;
    say(text)
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
