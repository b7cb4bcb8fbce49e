//! `explain`: what the gate would say to a call, stage by stage, without a running gate.

mod judge;
mod text;

use std::path::PathBuf;

use clap::Args as ClapArgs;
use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Method, Uri};
use sessiongate::clock::Clock;

use super::configuration;
use super::failure::Failure;
use super::output::{Form, OutputArgs, say, say_json};
use judge::Asked;

const EXAMPLES: &str = "\
Examples:
  sessiongate explain GET /offers --config sessiongate.toml
  sessiongate explain POST /orders --config sessiongate.toml \\
      --header \"authorization: Bearer $TOKEN\" --header 'client-id: my-app' --header @headers.txt

It makes the same decisions as the gate, with the same code, but for two things: HTTP framing is not looked at, and \
the session is not looked up. Tokens and session-ids are never shown.";

/// Explain what the gate would say to a call
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The method, such as GET
    #[arg(value_name = "METHOD", value_parser = parse_method)]
    method: Method,

    /// The path, with a query if there is one, such as /offers?limit=3
    #[arg(value_name = "PATH", value_parser = parse_path)]
    path: Uri,

    /// The configuration file [default: ./sessiongate.toml, then /etc/sessiongate/sessiongate.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A header field of the call; may be given several times. @FILE reads one per line from a file, so that tokens do
    /// not show in the list of processes
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<String>,

    /// The host the call is for
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: HeaderValue,

    /// The call has a body; otherwise it has one if content-length or transfer-encoding say so
    #[arg(long)]
    body: bool,

    #[command(flatten)]
    output: OutputArgs,
}

fn parse_method(text: &str) -> Result<Method, String> {
    Method::from_bytes(text.to_ascii_uppercase().as_bytes()).map_err(|_| "this is not a method".into())
}

fn parse_path(text: &str) -> Result<Uri, String> {
    match text.parse::<Uri>() {
        Ok(uri) if text.starts_with('/') && uri.authority().is_none() => Ok(uri),
        _ => Err("write a path that starts with /".into()),
    }
}

/// Explains a call.
///
/// # Errors
/// Those of reading the configuration, and [`Failure::Input`] for a header field that cannot be read.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (path, snapshot) = configuration::load(args.config.as_deref())?;
    let headers = args.headers()?;
    let named = |name: HeaderName| headers.get(name).is_some_and(|value| value.as_bytes() != b"0");
    let asked = Asked {
        has_body: args.body || named(header::CONTENT_LENGTH) || named(header::TRANSFER_ENCODING),
        method: &args.method,
        uri: &args.path,
        headers: &headers,
    };
    let explanation = judge::explain(&snapshot, &asked, Clock::default().now());
    match args.output.output {
        Form::Json => say_json(&explanation),
        Form::Text => say(text::render(&explanation, &path)),
    }
}

impl Args {
    fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for line in &self.header {
            match line.strip_prefix('@') {
                None => add(&mut headers, line)?,
                Some(file) => {
                    let text = std::fs::read_to_string(file)
                        .map_err(|error| Failure::Input(format!("cannot read {file}: {error}")))?;
                    text.lines().filter(|line| !line.trim().is_empty()).try_for_each(|line| add(&mut headers, line))?;
                }
            }
        }
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.host.clone());
        }
        Ok(headers)
    }
}

/// Adds `name: value`. The message never quotes the value.
fn add(headers: &mut HeaderMap, line: &str) -> Result<(), Failure> {
    let wrong = || Failure::Input("a header field is written as 'name: value'".into());
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim())
        .map_err(|_| Failure::Input(format!("the value of {name} has characters that no header field may have")))?;
    headers.append(name, value);
    Ok(())
}
