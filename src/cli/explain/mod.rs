//! `explain`: what the gate would say to a call, stage by stage, without a running gate.

mod text;

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Method, Uri};
use sessiongate::clock::Clock;
use sessiongate::config::Snapshot;
use sessiongate::explain::{self, Asked, InSession, Known, SessionSnapshot};
use sessiongate::policy::time::{Now, Timestamp};

use super::configuration;
use super::failure::Failure;
use super::output::{Form, OutputArgs, say, say_json};

const EXAMPLES: &str = "\
Examples:
  sessiongate explain GET /offers --config sessiongate.toml
  sessiongate explain POST /orders --config sessiongate.toml \\
      --header \"authorization: Bearer $TOKEN\" --header 'client-id: my-app' --header @headers.txt

  sessiongate explain PUT /offers/7/configuration --session session.json --at 2026-03-01T12:00:00Z -H @headers.txt

It makes the same decisions as the gate, with the same code, but for two things: HTTP framing is not looked at, and \
the session is not looked up. --session tells it: JSON as `GET /sessions/{name}` of the admin listener or `GET /session` \
show it, or a part of that, such as {\"client_id\": \"my-app\", \"step\": \"offer\", \"step_at\": \"12m ago\"}. A running gate \
explains with all it knows: `POST /explain` on the admin listener. Tokens and session-ids are never shown.";

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

    /// The session of the call, in JSON; its steps, its state and its flow are judged too
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,

    /// The moment that the call is judged at, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,

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
    let mut headers = args.headers()?;
    let now = args.at.map_or_else(
        || Clock::default().now(),
        |at| {
            let at = Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0));
            Now { wall: at, steady: at }
        },
    );
    let session = match &args.session {
        None => InSession::Unknown,
        Some(file) => {
            explain::stand_in(&snapshot, &mut headers, None);
            read_session(file, &snapshot, now)?
        }
    };
    let asked = Asked {
        has_body: args.body || explain::says_body(&headers),
        method: &args.method,
        uri: &args.path,
        headers: &headers,
        address: None,
    };
    let explanation = explain::explain(&snapshot, &asked, Known { session, limiter: None, now });
    match args.output.output {
        Form::Json => say_json(&explanation),
        Form::Text => say(text::render(&explanation, &path)),
    }
}

/// Reads a session that is told.
fn read_session(file: &Path, live: &Snapshot, now: Now) -> Result<InSession, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    let told: SessionSnapshot = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    Ok(InSession::Told(Box::new(told.understand(live, now).map_err(|error| failed(&error))?)))
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
