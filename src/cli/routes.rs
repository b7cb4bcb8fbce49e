//! `routes`: which calls a configuration takes, what they must show, where they go.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use sessiongate::config::Snapshot;
use sessiongate::policy::method::Verb;
use sessiongate::policy::route::{Action, Route};

use super::configuration;
use super::failure::Failure;
use super::output::{self, Form, OutputArgs, say, say_json};

const EXAMPLES: &str = "\
Examples:
  sessiongate routes --config sessiongate.toml
  sessiongate routes --config sessiongate.toml --output json | jq '.[] | select(.exempt)'";

/// Narrower terminals get lines that run over: a table of one-letter columns helps nobody.
const NARROWEST: u16 = 60;

/// List the routes of a configuration
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file [default: ./sessiongate.toml, then /etc/sessiongate/sessiongate.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

/// One route.
#[derive(Debug, Serialize)]
struct View<'s> {
    name: &'s str,
    /// Empty: every host.
    hosts: Vec<&'s str>,
    methods: Vec<&'static str>,
    path: &'s str,
    /// None: answered by the gateway.
    upstream: Option<&'s str>,
    /// Every scope it names, separated by spaces.
    scopes: &'s str,
    /// Whether one of them is enough.
    any_scope: bool,
    /// Whether calls need neither credentials nor a session.
    exempt: bool,
    /// In bytes; none: no limit.
    max_body: Option<u64>,
}

/// Prints the routes.
///
/// # Errors
/// Those of reading the configuration.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (_, snapshot) = configuration::load(args.config.as_deref())?;
    let views: Vec<_> = snapshot.routes.routes().iter().map(|route| view(&snapshot, route)).collect();
    match args.output.output {
        Form::Json => say_json(&views),
        Form::Text => say(table(&views, output::is_terminal())),
    }
}

fn view<'s>(snapshot: &'s Snapshot, route: &'s Route) -> View<'s> {
    View {
        name: &route.name,
        hosts: route.hosts.iter().map(|host| &**host).collect(),
        methods: Verb::ALL.into_iter().filter(|verb| route.methods.contains(*verb)).map(Verb::as_str).collect(),
        path: &route.path,
        upstream: match route.action {
            Action::Session | Action::KeySet => None,
            Action::Forward(pool) => snapshot.pools.get(pool.0).map(|pool| &*pool.name),
        },
        scopes: &route.scopes.text,
        any_scope: !route.scopes.any.is_empty(),
        exempt: route.exempt,
        max_body: route.max_body,
    }
}

fn table(views: &[View<'_>], terminal: bool) -> String {
    let mut table = Table::new();
    table.load_style(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    // Where nobody looks, lines are for `grep`: they are not wrapped.
    // Where nobody looks, lines are for `grep`: they are not wrapped. A terminal that does not know its width says 0.
    let wraps = terminal && table.width().is_some_and(|width| width >= NARROWEST);
    table.set_content_arrangement(if wraps { ContentArrangement::Dynamic } else { ContentArrangement::Disabled });
    table.set_header(["route", "host", "methods", "path", "needs", "scopes", "body", "goes to"]);
    for view in views {
        table.add_row([
            view.name.to_owned(),
            if view.hosts.is_empty() { "any".into() } else { view.hosts.join(", ") },
            if view.methods.len() == Verb::ALL.len() {
                "any".into()
            } else {
                view.methods.join(if terminal { ", " } else { "," })
            },
            view.path.to_owned(),
            match (view.exempt, view.upstream) {
                (true, _) => "nothing".into(),
                (false, None) => "token".into(),
                (false, Some(_)) => "session".into(),
            },
            match view.scopes {
                "" => "-".into(),
                scopes if view.any_scope => format!("any of {scopes}"),
                scopes => scopes.to_owned(),
            },
            view.max_body
                .map_or_else(|| "unlimited".into(), |bytes| bytesize::ByteSize(bytes).display().iec().to_string()),
            view.upstream.unwrap_or("(the gateway)").to_owned(),
        ]);
    }
    table.trim_fmt()
}
