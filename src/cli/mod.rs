//! The command line: one module per command, and the exit codes they share.
//!
//! Exit codes: 0 fine, 1 something failed while running (such as a port that is taken), 2 what was asked cannot be done
//! as asked: bad usage, configuration, key or certificate. Answers go to standard output, all else to standard error.

mod check;
mod configuration;
mod damage;
mod demo;
mod explain;
mod failure;
mod import;
mod load;
mod log;
mod log_file;
mod output;
mod page;
mod process;
mod progress;
mod replay;
mod report;
mod routes;
mod schema;
mod serve;
mod signals;
mod tables;
mod test;
mod times;
mod token;
mod trail;
mod words;

use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  See it work, with nothing to prepare:
    sessiongate demo
    sessiongate demo --walk

  Guard one upstream, without a configuration file:
    sessiongate serve --listen 127.0.0.1:8080 --upstream http://127.0.0.1:9000 \\
        --hs256-secret-file secret.key

  Run from a configuration file, after checking it:
    sessiongate check sessiongate.toml
    sessiongate serve --config sessiongate.toml

Exit codes: 0 fine, 1 failed while running, 2 bad usage, configuration, key or certificate.";

/// A session-enforcing API gateway: POST /session first, validated calls after.
#[derive(Debug, Parser)]
#[command(
    name = "sessiongate",
    version,
    about,
    after_help = EXAMPLES,
    styles = STYLES,
    max_term_width = 110,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Check(check::Args),
    Routes(routes::Args),
    Explain(explain::Args),
    Test(test::Args),
    Import(import::Args),
    Token(token::Args),
    Load(Box<load::Args>),
    Trail(Box<trail::Args>),
    Report(report::Args),
    Replay(replay::Args),
    Schema(schema::Args),
}

/// Runs what the arguments say.
pub fn run() -> ExitCode {
    process::hide_panic_messages();
    let cli = Cli::parse();
    let outcome = process::install_crypto().and_then(|()| match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Trail(args) => trail::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Routes(args) => routes::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Schema(args) => schema::run(&args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
