//! The command line of `load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use jiff::fmt::friendly::SpanParser;

use super::schedule::{Arrivals, Rate};
use super::slo::{self, Slo};
use super::{credentials, target};

const EXAMPLES: &str = "\
Examples:
  The ordering flow, ten walks a second, with a report to look at:
    sessiongate load http://127.0.0.1:8080 --client-id my-app --hs256-secret-file secret.key --html report.html

  As many plain calls as 50 clients can make:
    sessiongate load http://127.0.0.1:8080 --scenario plain --concurrency 50 \\
        --client-id my-app --hs256-secret-file secret.key

  The highest rate at which 99 of 100 calls take at most 20 ms:
    sessiongate load http://127.0.0.1:8080 --scenario plain --slo p99=20ms,errors=0.1% \\
        --client-id my-app --hs256-secret-file secret.key

  A scenario to begin your own with:
    sessiongate load --print-scenario > scenario.toml

Exit codes: 0 fine; 1 the SLO was missed, more calls than --max-errors came out otherwise than expected, or the target \
cannot be called; 2 bad usage or scenario. Ctrl-C ends a run and reports what was measured; a second one ends at once.";

/// Put load on a session API, and measure how it bears it
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What is called.
    #[command(flatten)]
    pub target: target::TargetArgs,

    /// What the clients do: a file, or a built-in scenario (ordering, plain)
    #[arg(long, value_name = "FILE", default_value = "ordering")]
    pub scenario: PathBuf,

    /// Print the scenario and exit
    #[arg(long)]
    pub print_scenario: bool,

    /// When walks begin.
    #[command(flatten)]
    pub pace: Pace,

    /// Who calls.
    #[command(flatten)]
    pub credentials: credentials::CredentialArgs,

    /// What comes out.
    #[command(flatten)]
    pub output: Output,
}

/// When walks begin, and how many.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Pace")]
pub struct Pace {
    /// Walks that begin per second, whatever the answers do; with --slo the first rate that is tried [default: 10]
    #[arg(long, value_name = "N", value_parser = parse_rate, conflicts_with_all = ["ramp", "concurrency"])]
    pub rate: Option<f64>,

    /// As --rate, rising (or falling) in a straight line from the first number to the second
    #[arg(long, value_name = "FROM..TO", value_parser = parse_ramp, conflicts_with_all = ["concurrency", "slo"])]
    pub ramp: Option<Rate>,

    /// So many clients instead, each beginning the next walk when its last one has ended
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "slo")]
    pub concurrency: Option<u32>,

    /// What rates count: walks, or calls (a walk makes several of them on average)
    #[arg(long, value_name = "UNIT", value_enum, default_value_t = Unit::Walk)]
    pub per: Unit,

    /// How arrivals are spread: poisson (as independent clients come) or constant (at even gaps)
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Arrivals::Poisson, hide_possible_values = true)]
    pub arrivals: Arrivals,

    /// How long walks begin, after the warm-up
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub duration: Duration,

    /// How long walks begin before that, without being measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    pub warm_up: Duration,

    /// At most so many walks, warm-up included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub walks: Option<u64>,

    /// How long walks may go on when no more begin
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub drain: Duration,

    /// At most so many connections; a call that finds none free waits, and that counts as latency [default: 100, or
    /// as many as --concurrency]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: Option<u32>,

    /// Threads of the generator, each with connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,

    /// How long a call may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub timeout: Duration,

    /// Leave out all think times
    #[arg(long)]
    pub no_think: bool,

    /// The seed of all chance: the same one gives the same walks [default: a new one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// What comes out, and in which form.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Result")]
pub struct Output {
    /// Find the highest rate at which this holds, such as p99=20ms,errors=0.1%
    #[arg(long, value_name = "SLO")]
    pub slo: Option<Slo>,

    /// With --slo, how long each rate is tried; a fifth more before it is warm-up
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time, requires = "slo")]
    pub step: Duration,

    /// Exit with code 1 if more calls than this come out otherwise than expected
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = slo::parse_share)]
    pub max_errors: f64,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,

    /// Write the report as one HTML page too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// How often to say how it goes where there is no terminal; 0s for never
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub progress: Duration,
}

/// What rates count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// Walks of clients through a flow
    Walk,
    /// Calls, on average
    Call,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| "write a number per second, from 0.001 to 10000000".into())
}

fn parse_ramp(text: &str) -> Result<Rate, String> {
    let (from, to) = text.split_once("..").ok_or("write two rates, such as 100..5000")?;
    Ok(Rate { from: parse_rate(from)?, to: parse_rate(to)? })
}

fn parse_time(text: &str) -> Result<Duration, String> {
    SpanParser::new()
        .parse_unsigned_duration(text)
        .map_err(|_| "write a number with a unit, such as 500ms, 30s or 5m".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_ramps_are_read() {
        assert_eq!(parse_rate("2000"), Ok(2000.0));
        assert_eq!(parse_ramp("100..5000"), Ok(Rate { from: 100.0, to: 5000.0 }));
        for wrong in ["0", "-1", "x", "inf", "NaN"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert!(parse_ramp("100").is_err() && parse_ramp("1..x").is_err() && parse_time("30").is_err());
    }
}
