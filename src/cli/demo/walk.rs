//! `demo --walk`: performs the calls of the script against the running gate, shows each one, and judges what comes out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use owo_colors::OwoColorize;
use serde_json::Value;

use super::client;
use super::script::{self, Client, Expect, Fields, Session, Step, UNKNOWN_SESSION};
use super::service::{Seen, Service};
use super::setup::{CLIENT, OTHER_CLIENT, Setup};
use crate::cli::failure::Failure;
use crate::cli::output::say;

/// Most characters of a line of fields.
const WIDTH: usize = 110;

/// Most characters that are shown of a body.
const BODY_SHOWN: usize = 90;

/// A walk under way.
pub struct Walk<'a> {
    gate: SocketAddr,
    service: &'a Arc<Service>,
    setup: &'a Setup,
    session: String,
    number: usize,
    failed: usize,
}

/// A field as it is sent.
struct Field {
    name: &'static str,
    value: String,
}

impl<'a> Walk<'a> {
    /// A walk that has not begun.
    pub const fn new(gate: SocketAddr, service: &'a Arc<Service>, setup: &'a Setup) -> Self {
        Self { gate, service, setup, session: String::new(), number: 0, failed: 0 }
    }

    /// Performs every call.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if a call did not come out as specified.
    pub async fn run(mut self) -> Result<(), Failure> {
        let began = Instant::now();
        heading("The ordering flow")?;
        self.step(&script::OPEN).await?;
        for step in script::FLOW {
            self.step(step).await?;
        }
        heading("What the gate refuses, before the ordering service sees anything")?;
        for step in script::REFUSALS {
            self.step(step).await?;
        }
        heading("The end of the session")?;
        self.step(&script::CLOSE).await?;
        self.step(&script::CLOSED).await?;
        let (all, failed, took) = (self.number, self.failed, began.elapsed());
        if failed > 0 {
            return Err(Failure::Runtime(format!("{failed} of {all} calls did not come out as specified")));
        }
        let seen = self.service.seen().calls;
        let is_refused = |step: &&Step| matches!(step.expect, Expect::Refused(..));
        let refused = script::FLOW.iter().chain(script::REFUSALS).filter(is_refused).count() + 1;
        say(format_args!(
            "\n{} All {all} calls came out as specified, in {took:.1?}.\n  The ordering service saw {seen} of them, each with \
             the client, the session and the subject that the gate vouches for.\n  It saw none of the {refused} that were \
             refused.",
            "✓".green().bold()
        ))
    }

    async fn step(&mut self, step: &Step) -> Result<(), Failure> {
        self.number += 1;
        let fields = self.fields(step)?;
        let before = self.service.seen();
        let answer = client::send(self.gate, request(step, &fields)?).await;
        let after = self.service.seen();
        let mistakes = match &answer {
            Ok(answer) => self.judge(step, answer, &before, &after),
            Err(error) => vec![error.clone()],
        };
        if step.expect == Expect::Gate(201)
            && let Ok(answer) = &answer
        {
            self.session = text(answer, "session-id").to_owned();
        }
        self.failed += usize::from(!mistakes.is_empty());
        self.show(step, &fields, answer.as_ref().ok(), &mistakes)
    }

    fn fields(&self, step: &Step) -> Result<Vec<Field>, Failure> {
        let Fields { bearer, client, session, correlation, accept, content_type, key } = step.fields;
        let mut fields = Vec::with_capacity(7);
        let mut add = |name, value: String| fields.push(Field { name, value });
        if let Some(bearer) = bearer {
            add("authorization", format!("Bearer {}", self.setup.token(bearer)?));
        }
        add("client-id", if client == Client::Own { CLIENT } else { OTHER_CLIENT }.into());
        if let Some(session) = session {
            add("session-id", if session == Session::Own { self.session.clone() } else { UNKNOWN_SESSION.into() });
        }
        if correlation {
            add("x-correlation-id", format!("walk-{}", self.number));
        }
        if let Some(accept) = accept {
            add("accept", accept.into());
        }
        if step.body.is_some() {
            add("content-type", content_type.into());
        }
        if let Some(key) = key {
            add("idempotency-key", key.into());
        }
        Ok(fields)
    }

    /// Everything in which an answer is not as specified.
    fn judge(&self, step: &Step, answer: &Response<Bytes>, before: &Seen, after: &Seen) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut demand = |holds: bool, mistake: String| {
            if !holds {
                mistakes.push(mistake);
            }
        };
        let (status, expected) = (answer.status().as_u16(), step.expect.status());
        demand(status == expected, format!("the status is {status}, not {expected}"));
        let reached = after.calls - before.calls;
        let must_reach = u64::from(matches!(step.expect, Expect::Service(_)));
        demand(reached == must_reach, format!("the service saw {reached} calls, not {must_reach}"));
        demand(answer.headers().contains_key("x-request-id"), "the answer has no x-request-id".into());
        if step.fields.correlation {
            let (echo, sent) = (text(answer, "x-correlation-id"), format!("walk-{}", self.number));
            demand(echo == sent, format!("x-correlation-id is {echo:?}, not {sent:?}"));
        }
        match step.expect {
            Expect::Refused(_, code) => {
                let found = problem(answer)["code"].as_str().unwrap_or_default().to_owned();
                demand(found == code, format!("the code is {found:?}, not {code:?}"));
                let form = text(answer, "content-type");
                demand(form == "application/problem+json", format!("content-type is {form:?}"));
            }
            Expect::Service(_) => {
                let vouched = |name| after.last.get(name).map_or("", String::as_str);
                demand(vouched("session-id") == self.session, "the service was told another session-id".into());
                demand(vouched("client-id") == CLIENT, "the service was told another client-id".into());
                demand(vouched("x-sg-subject") == "alice", "the service was told another subject".into());
            }
            Expect::Replayed(_) => {
                demand(text(answer, "idempotency-replayed") == "true", "the answer is not marked as replayed".into());
            }
            Expect::Gate(201) => {
                let id = text(answer, "session-id");
                demand(id.len() == 36, format!("session-id is {id:?}"));
                demand(problem(answer)["access_token"].is_string(), "the answer has no access_token".into());
            }
            Expect::Gate(_) => {}
        }
        mistakes
    }

    fn show(
        &self,
        step: &Step,
        fields: &[Field],
        answer: Option<&Response<Bytes>>,
        mistakes: &[String],
    ) -> Result<(), Failure> {
        let call = format!("{:<30}", format!("{} {}", step.method, step.path));
        say(format_args!("{:>3}  {} {}", self.number, call.bold(), step.title.cyan()))?;
        // What is the same on every good call says nothing.
        let usual = |field: &&Field| field.value != "application/json";
        let shown = fields.iter().filter(usual).map(|field| format!("{} {}", field.name, shortened(&field.value)));
        wrap(shown).iter().try_for_each(|line| say(format_args!("     {}", line.dimmed())))?;
        if let Some(answer) = answer {
            let mark = if mistakes.is_empty() { "✓".green().to_string() } else { "✗".red().to_string() };
            let line = format!("   {mark} {}  {}", outcome(answer), told(step.expect, answer));
            say(line.trim_end())?;
        }
        mistakes.iter().try_for_each(|mistake| say(format_args!("     {} {mistake}", "✗".red().bold())))
    }
}

/// What is worth knowing of an answer.
fn told(expect: Expect, answer: &Response<Bytes>) -> String {
    match expect {
        Expect::Gate(201) => {
            let (id, left) = (text(answer, "session-id"), text(answer, "session-expires-in"));
            format!("session-id {}, for {left} s", shortened(id))
        }
        Expect::Gate(200) => {
            let state = problem(answer);
            let word = |name: &str| state[name].as_str().unwrap_or("?").to_owned();
            format!("{}, {} calls so far, last step {}", word("state"), state["calls"], word("step"))
        }
        Expect::Gate(_) => String::new(),
        Expect::Service(_) | Expect::Replayed(_) => {
            let body = String::from_utf8_lossy(answer.body()).trim().to_owned();
            match body.char_indices().nth(BODY_SHOWN) {
                Some((end, _)) => format!("{}…", &body[..end]),
                None => body,
            }
        }
        Expect::Refused(..) => {
            let problem = problem(answer);
            let fields = problem["violations"].as_array().into_iter().flatten();
            let named = |found: &Value| Some(format!("{} {}", found["field"].as_str()?, found["code"].as_str()?));
            let fields: Vec<_> = fields.filter_map(named).collect();
            let detail = problem["detail"].as_str().unwrap_or_default();
            let next = problem["session"]["allowed_next"].as_array().into_iter().flatten();
            let next: Vec<_> = next.filter_map(Value::as_str).collect();
            match (problem["code"].as_str(), &fields[..]) {
                (Some("step-not-allowed"), _) => format!("{detail} (now: {})", next.join(", ")),
                (_, []) => detail.to_owned(),
                (_, fields) => format!("{}: {detail}", fields.join(", ")),
            }
        }
    }
}

/// Parts in lines of at most [`WIDTH`] characters.
fn wrap(parts: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 3 + part.chars().count() <= WIDTH => {
                line.push_str(" · ");
                line.push_str(&part);
            }
            _ => lines.push(part),
        }
    }
    lines
}

fn heading(text: &str) -> Result<(), Failure> {
    say(format_args!("\n{}", text.bold().underline()))
}

fn request(step: &Step, fields: &[Field]) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder().method(step.method).uri(step.path).header(header::HOST, "demo.local");
    for field in fields {
        request =
            request.header(field.name, HeaderValue::try_from(&field.value).unwrap_or(HeaderValue::from_static("")));
    }
    let body = Full::new(Bytes::from_static(step.body.unwrap_or_default().as_bytes()));
    request.body(body).map_err(|error| Failure::runtime("a call of the demo cannot be made", error))
}

fn outcome(answer: &Response<Bytes>) -> String {
    let status = answer.status();
    let reason = status.canonical_reason().unwrap_or_default();
    match problem(answer)["code"].as_str() {
        Some(code) => format!("{} {}", status.as_u16().yellow().bold(), code.yellow().bold()),
        None if status.is_success() => format!("{} {reason}", status.as_u16().green().bold()),
        None => format!("{} {reason}", status.as_u16().yellow().bold()),
    }
}

fn text<'a>(answer: &'a Response<Bytes>, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn problem(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or(Value::Null)
}

/// A long value as its beginning and its end: enough to tell it from others, too little to use it.
fn shortened(value: &str) -> String {
    let (scheme, rest) = value.split_once(' ').map_or(("", value), |(scheme, rest)| (scheme, rest));
    let space = if scheme.is_empty() { "" } else { " " };
    match (rest.get(..6), rest.len().checked_sub(4).and_then(|end| rest.get(end..))) {
        (Some(start), Some(end)) if rest.len() > 24 => format!("{scheme}{space}{start}…{end}"),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Response<Bytes> {
        let mut answer = Response::builder().status(status).header("x-request-id", "r");
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        answer.body(Bytes::from(body.to_owned())).unwrap()
    }

    #[test]
    fn an_answer_that_is_not_as_specified_is_found_out() {
        let (service, setup) = (Arc::default(), Setup::new().unwrap());
        let mut walk = Walk::new(SocketAddr::from(([127, 0, 0, 1], 1)), &service, &setup);
        walk.number = 7;
        let seen = |calls| Seen { calls, ..Seen::default() };
        let judge = |answer: &Response<Bytes>, before, after| {
            walk.judge(&script::CLOSED, answer, &seen(before), &seen(after)).len()
        };
        let fields = [("x-correlation-id", "walk-7"), ("content-type", "application/problem+json")];
        let body = r#"{"code":"session-closed"}"#;
        assert_eq!(judge(&answer(404, &fields, body), 3, 3), 0);
        assert_eq!(judge(&answer(404, &fields, body), 3, 4), 1, "the service saw it");
        assert_eq!(judge(&answer(403, &fields, body), 3, 3), 1);
        assert_eq!(judge(&answer(404, &fields, r#"{"code":"session-expired"}"#), 3, 3), 1);
        assert_eq!(judge(&answer(404, &fields[..1], body), 3, 3), 1);
        assert_eq!(judge(&answer(404, &fields[1..], body), 3, 3), 1);
        assert_eq!(judge(&answer(200, &[], ""), 3, 4), 5);
    }

    #[tokio::test]
    async fn a_walk_without_a_gate_fails() {
        let (service, setup) = (Arc::default(), Setup::new().unwrap());
        _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(Walk::new(nobody, &service, &setup).run().await, Err(Failure::Runtime(_))));
    }

    #[test]
    fn long_values_are_shortened() {
        assert_eq!(shortened("Bearer eyJhbGciOiJIUzI1NiJ9.abcdefgh"), "Bearer eyJhbG…efgh");
        assert_eq!(shortened("758fc320-af96-4faf-8af7-536e7cac5775"), "758fc3…5775");
        assert_eq!(shortened("application/json"), "application/json");
    }
}
