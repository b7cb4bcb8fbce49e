//! `test`: scenarios of calls with what is expected of each, played against the rules of a configuration. The gate that
//! plays them is the real one, with a clock of its own and no sockets.

mod compile;
mod file;
mod junit;
mod play;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use http::{HeaderName, HeaderValue, Method, Uri};
use sessiongate::config::{self, ConfigErrors, Snapshot, other};

use super::configuration;
use super::failure::Failure;
use super::output::say;
use file::Answer;
use play::Player;

const EXAMPLES: &str = "\
Examples:
  sessiongate test rules/*.toml
  sessiongate test examples/rules/ordering.toml --junit report.xml
  sessiongate test rules/*.toml --config new.toml

A file names its configuration (`config = \"..\"`) unless --config does. Neither keys nor issuers nor upstreams are needed. \
docs/rules.md describes the files.

Exit codes: 0 all as expected, 1 something was not, 2 a file that cannot be read.";

/// Play scenarios of calls against the rules of a configuration
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files of scenarios
    #[arg(value_name = "RULES.toml", required = true)]
    files: Vec<PathBuf>,

    /// The configuration of all scenarios, in the place of what their files name
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Writes the results as JUnit XML, for CI
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// The scenarios of one file.
#[derive(Debug)]
struct Suite {
    /// The file as it was named.
    origin: String,
    /// The configuration that it names.
    config: Option<PathBuf>,
    scenarios: Vec<Scenario>,
}

/// Calls of one client, in order.
#[derive(Debug)]
struct Scenario {
    name: String,
    who: Who,
    headers: Fields,
    calls: Vec<Call>,
}

/// Whose tokens come with calls; what is not said is said elsewhere.
#[derive(Debug, Clone, Default)]
struct Who {
    client: Option<String>,
    subject: Option<String>,
    scopes: Option<Vec<String>>,
}

/// Fields that are sent in the place of the usual ones; none: not sent.
type Fields = Vec<(HeaderName, Option<HeaderValue>)>;

/// One call.
#[derive(Debug)]
struct Call {
    /// Its line in the file.
    line: usize,
    method: Method,
    uri: Uri,
    /// Time that passes before it.
    after: Duration,
    who: Who,
    headers: Fields,
    body: Option<String>,
    /// What the upstream does if the call comes to it.
    answer: Answer,
    expect: Expected,
}

/// What is expected of a call; what is not said does not matter.
#[derive(Debug)]
struct Expected {
    /// A problem code; none: that the gate refuses nothing.
    code: Option<&'static str>,
    reason: Option<&'static str>,
    /// Whether the answer is that of an earlier call.
    replayed: Option<bool>,
    /// The step that was done last.
    step: Option<Option<String>>,
    allowed_next: Option<Vec<String>>,
    session: Option<String>,
}

/// What came of a suite.
#[derive(Debug)]
struct Played {
    origin: String,
    scenarios: Vec<Outcome>,
}

/// What came of a scenario.
#[derive(Debug)]
struct Outcome {
    name: String,
    calls: usize,
    took: Duration,
    failure: Option<Mismatch>,
}

/// The first call that was not as expected.
#[derive(Debug)]
struct Mismatch {
    /// Its number, from 1; none: the opening of the session.
    call: Option<usize>,
    line: usize,
    what: String,
    /// What was expected, what came instead.
    differences: Vec<(String, String)>,
    /// What the gate saw.
    why: Vec<String>,
}

/// Plays the files.
///
/// # Errors
/// [`Failure::Said`] with 1 if something was not as expected, with 2 if a file cannot be read.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut suites = Vec::with_capacity(args.files.len());
    let mut broken = false;
    for file in &args.files {
        match prepare(file, args.config.as_deref()) {
            Ok(suite) => suites.push(suite),
            Err(failure) => {
                broken = true;
                _ = failure.report();
            }
        }
    }
    if broken {
        return Err(Failure::Said(2));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::runtime("cannot start", error))?;
    let mut played = Vec::with_capacity(suites.len());
    for (suite, live) in suites {
        let mut scenarios = Vec::with_capacity(suite.scenarios.len());
        for scenario in &suite.scenarios {
            let (started, player) = (Instant::now(), Player::new(&live, scenario));
            let failure = runtime.block_on(player.play())?;
            let (name, calls) = (scenario.name.clone(), scenario.calls.len());
            scenarios.push(Outcome { name, calls, took: started.elapsed(), failure });
        }
        played.push(Played { origin: suite.origin, scenarios });
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::render(&played))
            .map_err(|error| Failure::Runtime(format!("cannot write {}: {error}", path.display())))?;
    }
    say(report::render(&played))?;
    let failed = played.iter().flat_map(|suite| &suite.scenarios).any(|outcome| outcome.failure.is_some());
    if failed { Err(Failure::Said(1)) } else { Ok(()) }
}

/// Reads a file and the configuration that it is for.
fn prepare(path: &Path, config: Option<&Path>) -> Result<(Suite, Snapshot), Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Input(format!("cannot read {}: {error}", path.display())))?;
    let suite = Suite::parse(&text, &path.display().to_string())?;
    let named = suite.config.as_ref().map(|named| path.parent().unwrap_or(Path::new("")).join(named));
    let config = config.map(Path::to_owned).or(named).or_else(configuration::usual_file).ok_or_else(|| {
        Failure::Input(format!(
            "{}: for which configuration? Write config = \"..\" in it, or give --config",
            path.display()
        ))
    })?;
    Ok((suite, play::live(config::load_rules(&config)?)?))
}

impl Suite {
    /// Reads `text`; `origin` stands for it in messages.
    fn parse(text: &str, origin: &str) -> Result<Self, ConfigErrors> {
        other::read(text, origin, |file, mistakes| compile::compile(file, text, origin, mistakes))
    }
}

#[cfg(test)]
mod tests;
