//! `check` and `serve --test`: what is wrong with a configuration, before it is in force.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use owo_colors::OwoColorize;
use serde::Serialize;
use sessiongate::config::{self, ConfigErrors, Snapshot};
use sessiongate::server::entrance::Entrance;

use super::failure::Failure;
use super::output::{Form, OutputArgs, say, say_json};

const EXAMPLES: &str = "\
Examples:
  sessiongate check sessiongate.toml
  sessiongate check sessiongate.toml --output json

It is the check that every start and every reload makes: all mistakes at once, each with its line and what to do; \
keys and certificates are read too. Exit codes: 0 valid, 2 not.";

/// Check a configuration file
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    output: OutputArgs,
}

/// What a valid configuration amounts to.
#[derive(Debug, Serialize)]
struct Summary {
    file: String,
    valid: bool,
    listeners: Vec<String>,
    admin: Option<String>,
    /// With the session endpoint.
    routes: usize,
    upstreams: usize,
    issuers: usize,
    /// Of the registry; none: there is no registry.
    clients: Option<usize>,
}

/// What is wrong, for programs.
#[derive(Debug, Serialize)]
struct Report<'e> {
    file: &'e str,
    valid: bool,
    mistakes: Vec<Place<'e>>,
}

#[derive(Debug, Serialize)]
struct Place<'e> {
    /// The configuration, or a file that it names.
    file: &'e str,
    path: &'e str,
    /// From 1; 0 for what is wrong in another file.
    line: usize,
    column: usize,
    message: &'e str,
    hint: Option<&'e str>,
}

/// Checks a file and says what came out.
///
/// # Errors
/// [`Failure::Mistakes`] or, when they were said as JSON, [`Failure::Said`]; [`Failure::Input`] for a certificate.
pub fn run(args: &Args) -> Result<(), Failure> {
    let checked = config::load(&args.file, 1);
    match (checked, args.output.output) {
        (Err(errors), Form::Json) => {
            say_json(&report(&errors))?;
            Err(Failure::Said(2))
        }
        (Err(errors), Form::Text) => Err(errors.into()),
        (Ok(snapshot), form) => valid(&args.file.display().to_string(), &snapshot, form),
    }
}

/// Says that a configuration is valid, after a look at what only a start would read.
///
/// # Errors
/// [`Failure::Input`] for a certificate or key that cannot be used.
pub fn valid(name: &str, snapshot: &Snapshot, form: Form) -> Result<(), Failure> {
    for listener in &snapshot.listeners {
        if let Err(error) = Entrance::open(listener, &snapshot.trusted_proxies) {
            let message = error.to_string();
            if form == Form::Text {
                return Err(Failure::Input(message));
            }
            let place = Place { file: name, path: "listeners", line: 0, column: 0, message: &message, hint: None };
            say_json(&Report { file: name, valid: false, mistakes: vec![place] })?;
            return Err(Failure::Said(2));
        }
    }
    let summary = Summary {
        file: name.into(),
        valid: true,
        listeners: snapshot.listeners.iter().map(|listener| url(listener.tls.is_some(), listener.address)).collect(),
        admin: snapshot.admin.as_ref().map(|admin| url(false, admin.address)),
        routes: snapshot.routes.routes().len(),
        upstreams: snapshot.pools.len(),
        issuers: snapshot.auth.issuers().len(),
        clients: snapshot.clients.as_ref().map(|registry| registry.clients().len()),
    };
    match form {
        Form::Json => say_json(&summary),
        Form::Text => say(format_args!("{} {summary}", "✓".green())),
    }
}

fn url(tls: bool, address: std::net::SocketAddr) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, routes, upstreams, issuers, .. } = self;
        let (routes, upstreams) = (counted(*routes, "route"), counted(*upstreams, "upstream"));
        let issuers = counted(*issuers, "issuer");
        write!(f, "{file} is valid: {routes}, {upstreams}, {issuers}, ")?;
        if let Some(clients) = self.clients {
            write!(f, "{}, ", counted(clients, "client"))?;
        }
        write!(f, "listening on {}", self.listeners.join(" and "))?;
        match &self.admin {
            Some(admin) => write!(f, ", admin on {admin}"),
            None => Ok(()),
        }
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn report<'e>(errors: &'e ConfigErrors) -> Report<'e> {
    let places = |errors: &'e ConfigErrors| {
        errors.mistakes().iter().map(|mistake| Place {
            file: errors.origin(),
            path: &mistake.path,
            line: mistake.line,
            column: mistake.column,
            message: &mistake.message,
            hint: mistake.hint.as_deref(),
        })
    };
    let mistakes = std::iter::once(errors).chain(errors.files()).flat_map(places).collect();
    Report { file: errors.origin(), valid: false, mistakes }
}
