//! `trail`: a session, call by call; and the erasure of a person from files.

mod admin;
mod erase;
mod timeline;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use sessiongate::policy::ids::SessionKey;
use sessiongate::trail::line::Line;
use sessiongate::trail::read;

use super::damage::Damage;
use super::failure::Failure;
use super::output::{Form, OutputArgs, say, say_json};
use super::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  From a running gateway, by its admin listener:
    sessiongate trail 758fc320-af96-4faf-8af7-536e7cac5775
    sessiongate trail 758fc320-af96-4faf-8af7-536e7cac5775 --admin http://127.0.0.1:9901 --token-file admin-token

  From files, compressed ones too, by the session-id or by the session key that logs show:
    sessiongate trail 8ab04f6b6ce6e2281026898dbf8e9f7d --file /var/lib/sessiongate/trail/*

  Erase a person:
    sessiongate trail erase --subject ada@shop.example /var/lib/sessiongate/trail/trail-*";

/// Follow a session call by call
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// The session: its id, or its key as logs show it
    #[arg(value_name = "SESSION", value_parser = parse_session, required = true)]
    session: Option<SessionKey>,

    /// Trail files to search; `-` is standard input [default: ask the gateway]
    #[arg(short, long = "file", value_name = "FILE", num_args = 1.., conflicts_with_all = ["admin", "token_file", "config"])]
    files: Vec<PathBuf>,

    #[command(flatten)]
    gateway: admin::GatewayArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Erase(erase::Args),
}

fn parse_session(text: &str) -> Result<SessionKey, String> {
    SessionKey::parse_id_or_key(text)
        .map_err(|_| "name a session by its id (a UUID) or by its key (32 hex digits, as logs show it)".into())
}

/// Calls of one session, and how many more there were once.
struct Calls {
    lines: Vec<Line<'static>>,
    forgotten: u64,
}

/// Prints the calls of a session, or erases a person.
///
/// # Errors
/// [`Failure::Input`] if there is nothing of the session, or the gateway or a file cannot be asked.
pub fn run(args: &Args) -> Result<(), Failure> {
    let session = match (&args.command, args.session) {
        (Some(Command::Erase(args)), _) => return erase::run(args),
        (None, Some(session)) => session,
        (None, None) => return Err(Failure::Input("name a session".into())),
    };
    let mut calls = match args.files.as_slice() {
        [] => args.gateway.ask(session)?,
        files => from_files(session, files)?,
    };
    if calls.lines.is_empty() {
        let place = if args.files.is_empty() { "in the gateway's memory" } else { "in these files" };
        return Err(Failure::Input(format!("there are no calls of session {session} {place}")));
    }
    calls.lines.sort_by_key(|line| line.number);
    match args.output.output {
        Form::Json => say_json(&calls.lines),
        Form::Text => say(timeline::render(session, &calls)),
    }
}

fn from_files(session: SessionKey, files: &[PathBuf]) -> Result<Calls, Failure> {
    let name = session.to_string();
    let (mut lines, mut damage, mut progress) = (Vec::new(), Damage::default(), Progress::over(files));
    let read = std::sync::Arc::clone(&progress.read);
    let searched = read::in_order(files, &read, |record| {
        match record {
            Ok(line) if line.session == name => lines.push(line.clone().into_owned()),
            Ok(_) => {}
            Err(damaged) => damage.note(damaged),
        }
        progress.tick(String::new);
    });
    progress.end();
    searched.map_err(|error| Failure::Input(error.to_string()))?;
    damage.report();
    Ok(Calls { lines, forgotten: 0 })
}
