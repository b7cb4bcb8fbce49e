//! `import`: routes, scopes and header fields for an API that has an `OpenAPI` description.

mod description;
mod routes;
mod text;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use serde_json::Value;
use sessiongate::config;
use url::Url;

use self::description::Description;
use self::routes::Proposal;
use self::text::Frame;
use super::failure::Failure;
use super::output::{say, tell};

const EXAMPLES: &str = "\
Examples:
  sessiongate import openapi.yaml > sessiongate.toml
  sessiongate import openapi.json --upstream http://10.0.0.7:9000 > sessiongate.toml
  curl -s https://api.example.com/openapi.json | sessiongate import -

What comes out is a proposal: read it, fill in what is marked TODO, then run `sessiongate check`.";

/// Largest description, in bytes.
const MOST: u64 = 64 << 20;

/// The upstream where the description names no server.
const NO_SERVER: &str = "http://127.0.0.1:9000";

/// Propose a configuration for an API that has an OpenAPI description
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The description, OpenAPI 3.x or Swagger 2.0, in YAML or JSON; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The server behind the gate [default: the first one of the description]
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
}

/// Prints the proposal.
///
/// # Errors
/// [`Failure::Input`] if the file is no description that can be read.
pub fn run(args: &Args) -> Result<(), Failure> {
    let shown = args.file.display().to_string();
    let input = |error: &dyn std::fmt::Display| Failure::Input(format!("{shown}: {error}"));
    let text = read(&args.file).map_err(|error| input(&error))?;
    let document = parse(&text).map_err(|error| input(&error))?;
    let description = Description::read(&document).map_err(|error| input(&error))?;
    let (server, base) = served(description.servers.first().map_or("", String::as_str));
    let upstream = args.upstream.as_deref().or(server.as_deref()).unwrap_or(NO_SERVER);
    let source =
        args.file.file_name().map_or_else(|| "standard input".into(), |name| name.to_string_lossy().into_owned());
    let source = if source == "-" { "standard input".to_owned() } else { source };
    let frame = Frame { description: &description, source: &source, upstream };
    let mut proposals = routes::propose(&description.operations, &base);
    mark_unusable(&frame, &mut proposals);
    let file = text::file(&frame, &proposals);
    say(file.trim_end())?;
    let unusable = proposals.iter().filter(|proposal| proposal.unusable.is_some()).count();
    tell(format_args!(
        "{} operations, {} routes; {unusable} that the gate cannot have, and {} notes, are in comments",
        description.operations.len(),
        proposals.len() - unusable,
        description.notes.len()
    ));
    Ok(())
}

fn read(path: &Path) -> std::io::Result<String> {
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) };
    let mut text = String::new();
    source.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST { Err(std::io::Error::other("it is larger than 64 MiB")) } else { Ok(text) }
}

/// JSON is YAML, too; but large descriptions are in JSON, and its own reader is much faster.
fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    // Large APIs have large descriptions; what a few lines of aliases grow to stays bounded.
    let budget = serde_saphyr::budget! { max_events: 20_000_000, max_nodes: 10_000_000 };
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { budget: budget })
        .map_err(|error| first_line(&error.to_string()))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The address of a server, if it says one that can be called, and the path that all its operations begin with.
fn served(server: &str) -> (Option<String>, String) {
    match Url::parse(server) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => {
            (Some(url.origin().ascii_serialization()), url.path().trim_end_matches('/').to_owned())
        }
        _ if server.starts_with('/') => (None, server.trim_end_matches('/').to_owned()),
        _ => (None, String::new()),
    }
}

/// Asks the compiler of configurations itself which routes it takes.
fn mark_unusable(frame: &Frame<'_>, proposals: &mut [Proposal]) {
    // A route that is marked is not read again, which may make room for one that it was in conflict with.
    for _ in 0..3 {
        let text = text::file(frame, proposals);
        let Err(errors) = config::parse(&text, Path::new("proposal.toml"), 1) else { return };
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        for mistake in errors.mistakes() {
            let place = mistake.path.strip_prefix("routes[").and_then(|rest| rest.split_once(']')?.0.parse().ok());
            if let Some(place) = place {
                reasons.entry(place).or_insert_with(|| mistake.message.clone());
            }
        }
        if reasons.is_empty() {
            return;
        }
        let written = proposals.iter_mut().filter(|proposal| proposal.unusable.is_none());
        for (number, proposal) in written.enumerate() {
            proposal.unusable = reasons.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_taken_apart() {
        for (server, origin, base) in [
            ("https://api.example.com/v1/", Some("https://api.example.com"), "/v1"),
            ("http://shop:9000", Some("http://shop:9000"), ""),
            ("/v2", None, "/v2"),
            ("", None, ""),
            ("ftp://a/b", None, ""),
            ("{scheme}://a/b", None, ""),
        ] {
            assert_eq!(served(server), (origin.map(str::to_owned), base.to_owned()), "{server}");
        }
    }
}
