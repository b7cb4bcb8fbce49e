//! How a command fails: what is said on standard error, and the exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use owo_colors::OwoColorize;
use sessiongate::config::ConfigErrors;

use super::output::tell;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be done as asked: usage, configuration, keys, certificates. Exit code 2.
    Input(String),
    /// It failed while running. Exit code 1.
    Runtime(String),
    /// The configuration has mistakes. Exit code 2.
    Mistakes(ConfigErrors),
    /// What there is to say was said by the command itself; the exit code.
    Said(u8),
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Mistakes(errors)
    }
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
            Self::Mistakes(errors) => {
                tell(mistakes(&errors));
                return 2.into();
            }
            Self::Said(code) => return code.into(),
        };
        tell(format_args!("{} {message}", "error:".red().bold()));
        code.into()
    }
}

/// Excerpts of the file for people, `file:line:column: message` for editors and scripts.
fn mistakes(errors: &ConfigErrors) -> String {
    if std::io::stderr().is_terminal() { errors.report() } else { errors.to_string() }
}
