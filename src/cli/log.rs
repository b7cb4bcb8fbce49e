//! Both logs of a running gateway: what happens to it, on standard error, and the calls, where the operator wants them.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use clap::{Args, ValueEnum};
use sessiongate::config::snapshot::{AccessLog, LogConfig, LogFormat};
use sessiongate::telemetry::access_log::{AccessLogger, LineFormat};
use sessiongate::telemetry::queue::QueueGuard;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::failure::Failure;
use super::log_file::LogFile;

/// Flags about logs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// Where the access log goes, one line per call: stdout, off, or a file to append to [default: what the
    /// configuration file says; without one, stdout if that is a terminal, else off]
    #[arg(long, value_name = "stdout|off|FILE", value_parser = parse_access_log)]
    access_log: Option<AccessLog>,

    /// The form of both logs: text, json, or auto, which is text on a terminal and JSON elsewhere [default: auto]
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    log_format: Option<Format>,

    /// What the log on standard error tells: error, warn, info, debug, trace, or a filter such as
    /// info,sessiongate::upstream=debug
    #[arg(long, value_name = "LEVEL", env = "SESSIONGATE_LOG", default_value = "info")]
    log_level: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// One JSON object per line
    Json,
    /// For people
    Text,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of a clap parser")]
fn parse_access_log(text: &str) -> Result<AccessLog, String> {
    Ok(match text {
        "stdout" | "-" => AccessLog::Stdout,
        "off" => AccessLog::Off,
        file => AccessLog::File(PathBuf::from(file)),
    })
}

impl LogArgs {
    /// Puts what the flags say over what the configuration says.
    pub fn overrule(&self, config: &mut LogConfig) {
        if let Some(access) = &self.access_log {
            config.access = access.clone();
        }
        match self.log_format {
            Some(Format::Auto) => config.format = LogFormat::Auto,
            Some(Format::Json) => config.format = LogFormat::Json,
            Some(Format::Text) => config.format = LogFormat::Text,
            None => {}
        }
    }

    /// Starts the log on standard error.
    ///
    /// # Errors
    /// [`Failure::Input`] for a filter that cannot be read.
    pub fn start(&self, format: LogFormat) -> Result<WorkerGuard, Failure> {
        start(&self.log_level, format)
    }
}

/// Starts the log on standard error. Lines wait in a bounded queue, so that nobody who fails to read standard error can
/// hold up calls. The guard writes what is left when it is dropped.
///
/// # Errors
/// [`Failure::Input`] for a filter that cannot be read.
pub fn start(level: &str, format: LogFormat) -> Result<WorkerGuard, Failure> {
    let filter = filter(level)?;
    let (writer, guard) = NonBlockingBuilder::default().lossy(true).thread_name("log").finish(io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match line_format(format, &io::stderr()) {
        LineFormat::Text { color } => builder.with_ansi(color).with_target(false).init(),
        LineFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(guard)
}

/// A word alone must be a level: as a filter, `verbose` would mean a module of that name, and all else would be silent.
fn filter(level: &str) -> Result<EnvFilter, Failure> {
    let wrong = || {
        let use_instead =
            "error, warn, info, debug, trace or off, or a filter such as info,sessiongate::upstream=debug";
        Failure::Input(format!("{level:?} is not a log level; use {use_instead}"))
    };
    if level.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        // A variable that is set to nothing is not set.
        let level = if level.is_empty() { LevelFilter::INFO } else { level.parse().map_err(|_| wrong())? };
        return Ok(EnvFilter::default().add_directive(level.into()));
    }
    EnvFilter::try_new(level).map_err(|_| wrong())
}

/// The default of `serve` without a file: calls are shown to whoever watches, and to nobody else.
pub fn fileless() -> LogConfig {
    let access = if io::stdout().is_terminal() { AccessLog::Stdout } else { AccessLog::Off };
    LogConfig { access, format: LogFormat::Auto, clear_session_ids: false }
}

/// Opens the access log.
///
/// # Errors
/// [`Failure::Input`] if the file cannot be written to.
pub fn access_log(config: &LogConfig) -> Result<Option<(AccessLogger, QueueGuard)>, Failure> {
    let (file, format) = match &config.access {
        AccessLog::Off => return Ok(None),
        // A descriptor of its own: `Stdout` writes every line by itself, which costs a system call per line.
        AccessLog::Stdout => {
            let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
            let file =
                file.map_err(|error| Failure::runtime("cannot write the access log to standard output", error))?;
            (Box::new(file) as Box<dyn Write + Send>, line_format(config.format, &io::stdout()))
        }
        AccessLog::File(path) => {
            let file = LogFile::open(path.clone()).map_err(|error| {
                Failure::Input(format!(
                    "cannot write the access log to {}: {error}; check the folder and its permissions",
                    path.display()
                ))
            })?;
            let format =
                if config.format == LogFormat::Text { LineFormat::Text { color: false } } else { LineFormat::Json };
            (Box::new(file) as Box<dyn Write + Send>, format)
        }
    };
    let log = AccessLogger::new(file, format, config.clear_session_ids);
    log.map(Some).map_err(|error| Failure::runtime("cannot start the thread of the access log", error))
}

fn line_format(format: LogFormat, stream: &impl RawStream) -> LineFormat {
    let color = AutoStream::choice(stream) != ColorChoice::Never;
    match format {
        LogFormat::Json => LineFormat::Json,
        LogFormat::Text => LineFormat::Text { color },
        LogFormat::Auto if stream.is_terminal() => LineFormat::Text { color },
        LogFormat::Auto => LineFormat::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_alone_is_a_level() {
        for good in ["", "info", "WARN", "off", "info,sessiongate::upstream=debug", "sessiongate=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for wrong in ["verbose", "info,sessiongate=loud"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_access_log_goes_where_it_is_told() {
        assert_eq!(parse_access_log("stdout"), Ok(AccessLog::Stdout));
        assert_eq!(parse_access_log("off"), Ok(AccessLog::Off));
        assert_eq!(parse_access_log("calls.log"), Ok(AccessLog::File("calls.log".into())));
    }
}
