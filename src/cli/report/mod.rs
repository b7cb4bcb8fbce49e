//! `report`: what many sessions did, from the files of their trails.

mod funnel;
mod gather;
mod html;
mod model;
mod sessions;
mod table;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use jiff::fmt::friendly::SpanParser;
use sessiongate::trail::read;

use super::damage::Damage;
use super::failure::Failure;
use super::output::{say, say_json, tell};
use super::progress::Progress;
use funnel::Funnel;
use gather::Gathered;
use model::Report;

const EXAMPLES: &str = "\
Examples:
  sessiongate report /var/lib/sessiongate/trail/trail-*
  sessiongate report trail-*.gz --html report.html --output json > report.json

  Steps in the order in which they are meant to come; a step may be made of several routes:
    sessiongate report trail-* --funnel eligible=check-address,offered=get-offer+list-offers,configured=configure,ordered=order

Files may be compressed with gzip, larger than memory, and of several gateways. Damaged lines are named and passed over.";

/// Report on many sessions from trail files
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Trail files; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The steps of the funnel, in their order: NAME=ROUTE+ROUTE, or a name alone, separated by commas. Names are of routes
    /// or of steps of a flow. A session reaches a step by a call that succeeds, after the step before [default: the steps
    /// of the flows that sessions follow, or all routes if they follow none, in the order in which sessions reach them most
    /// often, each counted for itself]
    #[arg(long, value_name = "STEPS", value_parser = funnel::parse)]
    funnel: Option<Funnel>,

    /// How long a session may be idle: one whose last call is nearer to the end of the trail is not given up yet
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    idle: Duration,

    /// The form of the answer: text, json, or csv, which is one table of table, row, measure and value
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Text, hide_possible_values = true)]
    output: Form,

    /// Write a page with charts, too: one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// For programs
    Json,
    /// For spreadsheets
    Csv,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    SpanParser::new().parse_unsigned_duration(text).map_err(|_| "write it with a unit, like 30m or 2h".into())
}

/// Reads the files and prints the report.
///
/// # Errors
/// [`Failure::Input`] for a file that cannot be read, or if there is no record at all.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut gathered = Gathered::new(args.funnel.clone(), args.idle);
    let (mut damage, mut progress) = (Damage::default(), Progress::over(&args.files));
    let read = std::sync::Arc::clone(&progress.read);
    let outcome = read::in_order(&args.files, &read, |record| {
        match record {
            Ok(line) => gathered.add(line),
            Err(damaged) => damage.note(damaged),
        }
        progress.tick(|| format!("{} records", gathered.records()));
    });
    progress.end();
    outcome.map_err(|error| Failure::Input(error.to_string()))?;
    damage.report();
    if gathered.records() == 0 {
        return Err(Failure::Input("there is no record of a trail in these files".into()));
    }
    let report = gathered.report(args.files.len(), &damage);
    if let Some(path) = &args.html {
        std::fs::write(path, html::render(&report))
            .map_err(|error| Failure::Input(format!("cannot write {}: {error}", path.display())))?;
        tell(format_args!("wrote {}", path.display()));
    }
    show(args.output, &report)
}

fn show(form: Form, report: &Report) -> Result<(), Failure> {
    match form {
        Form::Text => say(text::render(report)),
        Form::Json => say_json(report),
        Form::Csv => say(table::render(report).trim_end()),
    }
}
