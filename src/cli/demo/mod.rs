//! `demo`: an ordering service, a gate in front of it, and calls to try.

mod client;
mod script;
mod service;
mod setup;
mod sheet;
mod walk;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use clap::Args as ClapArgs;
use owo_colors::OwoColorize;
use sessiongate::config;
use sessiongate::config::snapshot::LogFormat;
use sessiongate::server::gateway::Load;
use sessiongate::server::{Gateway, Options};

use super::failure::Failure;
use super::output::{is_terminal, say};
use super::signals::{Leaves, Signals};
use super::{log, process, serve};
use script::Bearer;
use service::Service;
use setup::Setup;
use sheet::Tokens;
use walk::Walk;

const EXAMPLES: &str = "\
Examples:
  sessiongate demo             # keeps running; paste the curl lines into another terminal
  sessiongate demo --walk      # performs all calls itself, shows and judges them, and exits

With --walk the exit code is 0 only if every call came out as specified.";

/// Where the gate listens unless it is told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Any free port.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// See it work: an ordering service, the gate in front of it, and calls to try
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Perform the calls, show what comes out, and exit
    #[arg(long, conflicts_with = "listen")]
    walk: bool,

    /// Where the gate listens [default: 127.0.0.1:8080, or a free port if that one is taken]
    #[arg(long, value_name = "ADDR", value_parser = serve::parse_address)]
    listen: Option<SocketAddr>,
}

/// Runs the demo.
///
/// # Errors
/// [`Failure::Runtime`] if it cannot be started, or if a call of the walk did not come out as specified.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::runtime("the demo cannot start", error))?;
    runtime.block_on(demo(args))
}

async fn demo(args: &Args) -> Result<(), Failure> {
    let signals = Signals::catch().map_err(|error| Failure::runtime("cannot catch signals", error))?;
    // The walk shows itself what becomes of a stolen session-id.
    let level = if args.walk { "warn,sessiongate::gate=error" } else { "info" };
    let _log = log::start(level, LogFormat::Auto)?;
    process::raise_descriptor_limit();
    let started = Service::start().await;
    let (service, service_address) = started.map_err(|error| Failure::runtime("the ordering service", error))?;
    let setup = Setup::new()?;
    if args.walk {
        let gateway = start(&setup, ANY, service_address, "off")?;
        let (handle, address) = (gateway.handle(), gate_address(&gateway)?);
        return tokio::select! {
            outcome = Walk::new(address, &service, &setup).run() => {
                handle.end();
                outcome
            }
            _ = signals.rule(gateway, Leaves::WithTerminal) => Err(Failure::Runtime("the walk was interrupted".into())),
        };
    }
    let (listen, moved) = match args.listen {
        Some(address) => (address, false),
        None if TcpListener::bind(LISTEN).is_ok() => (LISTEN, false),
        None => (ANY, true),
    };
    // Whoever watches sees the calls; a file or pipe gets the sheet alone.
    let gateway = start(&setup, listen, service_address, if is_terminal() { "stdout" } else { "off" })?;
    show(&gateway, &setup, service_address, moved)?;
    signals.rule(gateway, Leaves::WithTerminal).await.map_err(|error| Failure::runtime("the gateway failed", error))
}

/// Starts the gate by a configuration file like any other.
fn start(setup: &Setup, listen: SocketAddr, service: SocketAddr, access_log: &str) -> Result<Gateway, Failure> {
    setup.write_config(listen, service, access_log)?;
    let path = setup.config();
    let snapshot = config::load(&path, 1)?;
    let access_log = log::access_log(&snapshot.logs)?;
    let load: Load = Box::new(move |generation| config::load(&path, generation).map_err(|errors| errors.to_string()));
    serve::start(Options { snapshot, load: Some(load), access_log, takeover: false })
}

fn gate_address(gateway: &Gateway) -> Result<SocketAddr, Failure> {
    let bound = gateway.bound().iter().find(|bound| !bound.admin);
    bound.map(|bound| bound.address).ok_or_else(|| Failure::Runtime("the gate does not listen".into()))
}

/// Prints the sheet, and writes its lines to a file.
fn show(gateway: &Gateway, setup: &Setup, service: SocketAddr, moved: bool) -> Result<(), Failure> {
    let gate = gate_address(gateway)?;
    let tokens = Tokens { full: setup.token(Bearer::Full)?, read_only: setup.token(Bearer::ReadOnly)? };
    let lines = sheet::lines(gate, &tokens);
    let script = setup.write("calls.sh", &lines)?;
    let row = |name: &str, what: String, note: &str| {
        say(format_args!("  {name:<18} {}  {}", format!("{what:<23}").bold(), note.dimmed()))
    };

    say(format_args!("{}\n", "sessiongate demo".bold().green()))?;
    let note = if moved { "port 8080 is taken, so this one was picked" } else { "strict: six headers on every call" };
    row("the gate", format!("http://{gate}"), note)?;
    row("ordering service", format!("http://{service}"), "add ?fail=503 or ?delay_ms=5000 to a call and it obeys")?;
    for bound in gateway.bound().iter().filter(|bound| bound.admin) {
        row("admin", format!("http://{}", bound.address), "/livez /readyz /metrics, and with the token /sessions")?;
        let curl = format!(
            "curl -s -H \"authorization: Bearer $(cat {})\" http://{}/sessions",
            setup.admin_token().display(),
            bound.address
        );
        say(format_args!("{:21}{}", "", curl.dimmed()))?;
    }
    row("configuration", setup.config().display().to_string(), "the same as for serve --config")?;
    row("these calls", script.display().to_string(), "or all at once: run it with bash")?;
    say("\nPaste these lines into another terminal (bash or zsh):\n")?;
    for line in lines.lines() {
        if line.starts_with('#') { say(line.cyan())? } else { say(line)? }
    }
    say(format_args!("\n{}", "Ctrl-C ends the demo; its folder is removed then.".dimmed()))
}
