//! One line per call, refused and admitted alike. Lines go to a bounded queue and are written by a thread of their own;
//! when the reader is too slow they are dropped and counted, never waited for.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::labels::Labels;
use super::record::CallRecord;
use crate::policy::flow::StepId;
use crate::policy::rejection::{Rejection, Why};

/// Lines that may wait to be written.
const QUEUE: usize = 16 * 1024;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object.
    Json,
    /// For people.
    Text {
        /// With colors.
        color: bool,
    },
}

/// Writes the access log.
pub struct AccessLogger {
    writer: NonBlocking,
    format: LineFormat,
    clear_session_ids: bool,
}

impl AccessLogger {
    /// A log to `writer`. Lines still queued are written when the guard is dropped.
    pub fn new(
        writer: impl std::io::Write + Send + 'static,
        format: LineFormat,
        clear_session_ids: bool,
    ) -> (Self, WorkerGuard) {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(QUEUE)
            .lossy(true)
            .thread_name("access-log")
            .finish(writer);
        (Self { writer, format, clear_session_ids }, guard)
    }

    /// Lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.writer.error_counter().dropped_lines() as u64
    }

    pub(super) fn write(&self, call: &CallRecord, labels: &Labels) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            let written = match self.format {
                LineFormat::Json => self.json(line, call, labels),
                LineFormat::Text { color } => self.text(line, call, labels, color),
            };
            debug_assert!(written.is_ok(), "a string takes everything");
            line.push('\n');
            // A full queue counts the line as dropped.
            _ = self.writer.clone().write(line.as_bytes());
        });
    }

    fn session(&self, call: &CallRecord) -> Option<String> {
        match call.session_id {
            Some(id) if self.clear_session_ids => Some(id.reveal()),
            _ => call.session.as_ref().map(|session| session.key().to_string()),
        }
    }

    fn json(&self, line: &mut String, call: &CallRecord, labels: &Labels) -> std::fmt::Result {
        write!(line, "{{\"time\":\"{}\",\"event\":\"call\"", millis(call))?;
        field(line, "request_id", call.request_id())?;
        field(line, "correlation_id", &String::from_utf8_lossy(call.correlation.as_bytes()))?;
        field(line, "peer", &call.arrival.peer.to_string())?;
        field(line, "protocol", protocol(call))?;
        field(line, "method", method(call))?;
        field(line, "route", &labels.name(call.route))?;
        field(line, "upstream", &labels.name(call.upstream))?;
        if let Some(caller) = &call.caller {
            field(line, "client", caller.owner().client.as_str())?;
        }
        if let Some(session) = self.session(call) {
            field(line, "session", &session)?;
        }
        field(line, "verdict", if call.rejection.is_some() { "refused" } else { "admitted" })?;
        field(line, "code", call.code())?;
        if let Some(rejection) = call.rejection {
            field(line, "reason", &reason(rejection))?;
        }
        write!(line, ",\"status\":{},\"ended_by\":\"{}\"", call.status, call.ended_by.as_str())?;
        if !call.observed.counted.is_empty() || !call.observed.warned.is_empty() {
            let found = call.observed.counted.union(call.observed.warned);
            let list: Vec<_> = found.iter().map(|(name, fault)| format!("{name:?} {}", fault.as_str())).collect();
            field(line, "observed", &list.join(", "))?;
        }
        if let Some((rule, severity)) = call.exceeded {
            field(line, "rate_rule", &labels.name(rule))?;
            field(line, "rate_severity", severity.as_str())?;
        }
        if let Some((flow, mark)) = call.session.as_ref().and_then(|session| session.flow()).zip(call.step) {
            let name = |step: StepId| flow.step_name(step);
            field(line, "flow", flow.name())?;
            field(line, "step", name(mark.step))?;
            for (key, step) in [("step_before", mark.before), ("step_after", mark.after)] {
                if let Some(step) = step {
                    field(line, key, name(step))?;
                }
            }
            if let Some(outcome) = mark.outcome {
                field(line, "step_outcome", outcome.as_str())?;
            }
            if let Some((denial, _)) = mark.broken {
                field(line, "step_rule", denial.as_str())?;
            }
        }
        for (name, span) in
            [("admission_us", call.admitted), ("first_byte_us", call.first_byte), ("total_us", Some(call.elapsed()))]
        {
            if let Some(span) = span {
                write!(line, ",\"{name}\":{}", span.as_micros())?;
            }
        }
        write!(line, ",\"bytes_in\":{},\"bytes_out\":{}}}", call.bytes_in, call.bytes_out)
    }

    fn text(&self, line: &mut String, call: &CallRecord, labels: &Labels, color: bool) -> std::fmt::Result {
        let (on, off) = match call.status / 100 {
            _ if !color => ("", ""),
            2 | 3 => ("\u{1b}[32m", "\u{1b}[0m"),
            4 => ("\u{1b}[33m", "\u{1b}[0m"),
            _ => ("\u{1b}[31m", "\u{1b}[0m"),
        };
        let client = call.caller.as_ref().map_or("-", |caller| caller.owner().client.as_str());
        let session = self.session(call).unwrap_or_else(|| "-".into());
        let (route, total) = (labels.name(call.route), call.elapsed());
        let time = millis(call);
        write!(
            line,
            "{time} {on}{}{off} {:7} {route} {} client={client} session={session} {total:.1?}",
            call.status,
            method(call),
            call.code()
        )
    }
}

impl std::fmt::Debug for AccessLogger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLogger").field("format", &self.format).finish_non_exhaustive()
    }
}

/// RFC 3339 with milliseconds.
fn millis(call: &CallRecord) -> String {
    let secs = call.time.to_string();
    format!("{}.{:03}Z", secs.trim_end_matches('Z'), call.time.as_millis() % 1000)
}

fn method(call: &CallRecord) -> &'static str {
    call.verb.map_or("-", |verb| verb.as_str())
}

const fn protocol(call: &CallRecord) -> &'static str {
    match (call.arrival.http2, call.arrival.tls) {
        (false, false) => "http/1",
        (false, true) => "https/1",
        (true, false) => "h2c",
        (true, true) => "h2",
    }
}

/// The finest reason we know: more than the caller is told.
fn reason(rejection: Rejection) -> String {
    match rejection {
        Rejection::TokenInvalid(why) => format!("TokenInvalid:{}", why_name(why)),
        other => other.row().reason.into(),
    }
}

const fn why_name(why: Why) -> &'static str {
    match why {
        Why::Shape => "shape",
        Why::Algorithm => "algorithm",
        Why::Critical => "critical",
        Why::Type => "type",
        Why::UnknownKey => "unknown-key",
        Why::Signature => "signature",
        Why::Issuer => "issuer",
        Why::Audience => "audience",
        Why::Claims => "claims",
        Why::Inactive => "inactive",
        Why::Expired => "expired",
        Why::NotYetValid => "not-yet-valid",
        Why::Confirmation => "confirmation",
        Why::Unbound => "unbound",
        Why::Downgraded => "downgraded",
        Why::Certificate => "certificate",
        Why::Proof(fault) => fault.as_str(),
    }
}

/// A string field; what is not plain ASCII is escaped (RFC 8259 section 7).
fn field(line: &mut String, name: &str, value: &str) -> std::fmt::Result {
    write!(line, ",\"{name}\":\"")?;
    for letter in value.chars() {
        match letter {
            '"' | '\\' => write!(line, "\\{letter}")?,
            ' '..='~' => line.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    write!(line, "\\u{unit:04x}")?;
                }
            }
        }
    }
    line.push('"');
    Ok(())
}
