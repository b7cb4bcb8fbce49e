//! The form of a call in files, on standard output and in answers to the operator: one JSON object per line.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::record::{Entry, Texts};
use crate::policy::flow::Outcome;
use crate::policy::violation::{Fault, Field, Violations};
use crate::telemetry::labels::{Label, Labels};

/// The version of the form.
pub const VERSION: u8 = 1;

/// One call. What is not known is empty or none, and not written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line<'l> {
    /// The version of the form, by which a line is known as one of a trail.
    pub trail: Version,
    /// When the call began: RFC 3339 in UTC with milliseconds.
    #[serde(borrow)]
    pub time: Cow<'l, str>,
    /// The session key, if the session was proven to be the caller's.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub session: Cow<'l, str>,
    /// The number of the call in its session, from 1; missing numbers are calls that are not in the trail.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u32,
    /// The request id.
    #[serde(borrow, default)]
    pub request_id: Cow<'l, str>,
    /// The correlation id.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub correlation_id: Cow<'l, str>,
    /// The client, once proven.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub client: Cow<'l, str>,
    /// The subject: a digest, or itself if so configured.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub subject: Cow<'l, str>,
    /// The method; `-` for one that is not forwarded.
    #[serde(borrow, default)]
    pub method: Cow<'l, str>,
    /// The host the call was for.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub host: Cow<'l, str>,
    /// The path, without the query.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub path: Cow<'l, str>,
    /// Whether there was a query.
    #[serde(default, skip_serializing_if = "is_false")]
    pub query: bool,
    /// Whether a body followed the head.
    #[serde(default, skip_serializing_if = "is_false")]
    pub body: bool,
    /// The scopes of the token, separated by spaces.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub scope: Cow<'l, str>,
    /// The ruled header fields that were there.
    #[serde(default)]
    pub headers: Fields,
    /// How the call came: `http/1`, `https/1`, `h2c`, `h2`.
    #[serde(borrow, default)]
    pub protocol: Cow<'l, str>,
    /// The route; `-` for none.
    #[serde(borrow, default)]
    pub route: Cow<'l, str>,
    /// The upstream; `-` for none.
    #[serde(borrow, default)]
    pub upstream: Cow<'l, str>,
    /// Whether it was admitted.
    pub verdict: Verdict,
    /// `ok`, or the problem code.
    #[serde(borrow)]
    pub code: Cow<'l, str>,
    /// The status that was sent; 0 if none was.
    #[serde(default)]
    pub status: u16,
    /// Who ended it: `gate`, `client`, `upstream`.
    #[serde(borrow, default)]
    pub ended_by: Cow<'l, str>,
    /// Broken rules that refused nothing, such as `accept missing`.
    #[serde(default, skip_serializing_if = "Observed::is_empty")]
    pub observed: Observed,
    /// The rate rule that had nothing left for it.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub rate_rule: Cow<'l, str>,
    /// The flow that its session follows.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub flow: Cow<'l, str>,
    /// The step of it that the call is.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub step: Cow<'l, str>,
    /// The step that was done last when it came.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub step_before: Cow<'l, str>,
    /// The step that was done last when its outcome was known.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub step_after: Cow<'l, str>,
    /// What became of it: `committed`, `rolled_back`, `unsent`, `indeterminate`.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub step_outcome: Cow<'l, str>,
    /// The step rule that it broke, whether or not that refused it.
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    pub step_rule: Cow<'l, str>,
    /// Microseconds from the beginning to the admission or refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission_us: Option<u32>,
    /// Microseconds from the beginning to the first byte of the upstream's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u32>,
    /// Microseconds from the beginning to the end.
    #[serde(default)]
    pub total_us: u64,
    /// Bytes of the request body.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of the response body.
    #[serde(default)]
    pub bytes_out: u64,
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Line<'_> {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is no call in this form.
    pub fn parse(text: &[u8]) -> Result<Line<'_>, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Writes the line, with its end.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, mut out: impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")
    }

    /// The same, with texts of its own.
    #[must_use]
    pub fn into_owned(self) -> Line<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Line {
            time: own(self.time),
            session: own(self.session),
            request_id: own(self.request_id),
            correlation_id: own(self.correlation_id),
            client: own(self.client),
            subject: own(self.subject),
            method: own(self.method),
            host: own(self.host),
            path: own(self.path),
            scope: own(self.scope),
            protocol: own(self.protocol),
            route: own(self.route),
            upstream: own(self.upstream),
            code: own(self.code),
            ended_by: own(self.ended_by),
            rate_rule: own(self.rate_rule),
            flow: own(self.flow),
            step: own(self.step),
            step_before: own(self.step_before),
            step_after: own(self.step_after),
            step_outcome: own(self.step_outcome),
            step_rule: own(self.step_rule),
            trail: self.trail,
            number: self.number,
            query: self.query,
            body: self.body,
            headers: self.headers,
            verdict: self.verdict,
            status: self.status,
            observed: self.observed,
            admission_us: self.admission_us,
            first_byte_us: self.first_byte_us,
            total_us: self.total_us,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }

    /// When the call began.
    #[must_use]
    pub fn moment(&self) -> Option<jiff::Timestamp> {
        self.time.parse().ok()
    }
}

/// Gives the call in this form to `visit`. `subject` is what may be told of its subject.
pub fn with_line<T>(
    entry: &Entry,
    texts: Texts<'_>,
    labels: &Labels,
    subject: &str,
    visit: impl FnOnce(&Line<'_>) -> T,
) -> T {
    let (route, upstream) = (labels.name(entry.route), labels.name(entry.upstream));
    let rate_rule = (entry.rate_rule != Label::NONE).then(|| labels.name(entry.rate_rule));
    visit(&Line {
        trail: Version,
        time: entry.time.precise().to_string().into(),
        session: entry.session.map(|session| session.to_string()).unwrap_or_default().into(),
        number: entry.number,
        request_id: entry.request.hyphenated().to_string().into(),
        correlation_id: texts.correlation.into(),
        client: texts.client.into(),
        subject: subject.into(),
        method: entry.verb.map_or("-", |verb| verb.as_str()).into(),
        host: texts.host.into(),
        path: texts.path.into(),
        query: entry.query,
        body: entry.body,
        scope: texts.scopes.into(),
        headers: entry.fields().collect(),
        protocol: match (entry.http2, entry.tls) {
            (false, false) => "http/1",
            (false, true) => "https/1",
            (true, false) => "h2c",
            (true, true) => "h2",
        }
        .into(),
        route: (&*route).into(),
        upstream: (&*upstream).into(),
        verdict: if entry.is_refused() { Verdict::Refused } else { Verdict::Admitted },
        code: entry.code().into(),
        status: entry.status,
        ended_by: entry.ended_by.as_str().into(),
        observed: Observed(entry.observed),
        rate_rule: rate_rule.as_deref().unwrap_or_default().into(),
        flow: texts.flow.into(),
        step: texts.step.into(),
        step_before: texts.step_before.into(),
        step_after: texts.step_after.into(),
        step_outcome: entry.outcome.map_or("", Outcome::as_str).into(),
        step_rule: entry.step_rule().unwrap_or_default().into(),
        admission_us: entry.admitted(),
        first_byte_us: entry.first_byte(),
        total_us: entry.total,
        bytes_in: entry.bytes_in,
        bytes_out: entry.bytes_out,
    })
}

/// Whether a call was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was.
    Admitted,
    /// It was refused.
    Refused,
}

/// [`VERSION`], and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(VERSION)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            version if version == u64::from(VERSION) => Ok(Self),
            other => Err(D::Error::custom(format_args!("this program reads trails of version {VERSION}, not {other}"))),
        }
    }
}

/// The name of a ruled field in a trail, whatever name the configuration gives it.
#[must_use]
pub const fn field_name(field: Field) -> &'static str {
    match field {
        Field::Authorization => "authorization",
        Field::ClientId => "client-id",
        Field::SessionId => "session-id",
        Field::Correlation => "correlation-id",
        Field::ContentType => "content-type",
        Field::Accept => "accept",
        Field::IdempotencyKey => "idempotency-key",
        Field::Host => "host",
    }
}

fn field_named(name: &str) -> Option<Field> {
    Field::ALL.into_iter().find(|field| field_name(*field) == name)
}

/// A set of ruled fields: a list of their names. Names that are not known are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields(u8);

impl Fields {
    /// Whether `field` is in the set.
    #[must_use]
    pub const fn contains(self, field: Field) -> bool {
        self.0 & 1 << field as u8 != 0
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        Self(fields.into_iter().fold(0, |set, field| set | 1 << field as u8))
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Field::ALL.into_iter().filter(|field| self.contains(*field)).map(field_name))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let set = |set: Self, name: &str| match field_named(name) {
            Some(field) => Self(set.0 | 1 << field as u8),
            None => set,
        };
        deserializer.deserialize_seq(Names { set: Self::default(), add: set })
    }
}

/// Broken rules that refused nothing: a list of `field fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed(pub Violations);

impl Observed {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn with(self, text: &str) -> Self {
        let Some((field, fault)) = text.split_once(' ') else { return self };
        let fault = Fault::ALL.into_iter().find(|known| known.as_str() == fault);
        match field_named(field).zip(fault) {
            Some((field, fault)) => Self(self.0.with(field, fault)),
            None => self,
        }
    }
}

impl Serialize for Observed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(field, fault)| format!("{} {}", field_name(field), fault.as_str())))
    }
}

impl<'de> Deserialize<'de> for Observed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Names { set: Self::default(), add: Self::with })
    }
}

/// Reads a list of names into a set.
struct Names<S, A> {
    set: S,
    add: A,
}

impl<'de, S: Copy, A: Fn(S, &str) -> S> Visitor<'de> for Names<S, A> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<Q: SeqAccess<'de>>(self, mut names: Q) -> Result<S, Q::Error> {
        let mut set = self.set;
        while let Some(Name(name)) = names.next_element()? {
            set = (self.add)(set, &name);
        }
        Ok(set)
    }
}

/// A text that is borrowed where it can be.
#[derive(Deserialize)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

#[cfg(test)]
pub(in crate::trail) mod tests;
