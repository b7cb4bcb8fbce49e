//! How a command fails: what is said on standard error, and the exit code.

use std::process::ExitCode;

use anstream::eprintln;
use owo_colors::OwoColorize;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be done as asked: usage, configuration, keys, certificates. Exit code 2.
    Input(String),
    /// It failed while running. Exit code 1.
    Runtime(String),
    /// What there is to say was said by the command itself; the exit code.
    Said(u8),
}

impl Failure {
    /// A failure while running, from an error and what was being done.
    pub fn runtime(doing: &str, error: impl std::fmt::Display) -> Self {
        Self::Runtime(format!("{doing}: {error}"))
    }

    /// Says what is wrong, and gives the exit code.
    pub fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::Input(message) => (message, 2),
            Self::Runtime(message) => (message, 1),
            Self::Said(code) => return code.into(),
        };
        eprintln!("{} {message}", "error:".red().bold());
        code.into()
    }
}
