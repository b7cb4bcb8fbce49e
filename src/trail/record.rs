//! A call as it is kept: a fixed part, and its texts in memory that many calls share.

use std::borrow::Cow;
use std::collections::VecDeque;

use uuid::Uuid;

use crate::policy::flow::{Denial, Outcome, StepId, StepMark};
use crate::policy::ids::{SessionId, SessionKey};
use crate::policy::method::Verb;
use crate::policy::rejection::TABLE;
use crate::policy::time::Timestamp;
use crate::policy::violation::{Field, Violations};
use crate::telemetry::labels::Label;
use crate::telemetry::record::{CallRecord, Details, EndedBy};

/// Longest scopes and longest subject that are kept, in bytes; what is longer is cut.
pub const TEXT_MAX: usize = 1024;

/// How many texts a call has.
const TEXTS: usize = 10;

/// No such moment: a call that was not admitted, or that no upstream answered.
const NEVER: u32 = u32::MAX;

/// The fixed part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Wall time at its beginning.
    pub time: Timestamp,
    /// Its session, if it was proven to be the caller's.
    pub session: Option<SessionKey>,
    /// Its number among the calls of its session, from 1; 0 without a session.
    pub number: u32,
    /// Its request id.
    pub request: Uuid,
    /// The method, if it is one that is forwarded.
    pub verb: Option<Verb>,
    /// The route.
    pub route: Label,
    /// The upstream.
    pub upstream: Label,
    /// Place of the refusal in [`TABLE`] plus one; 0: it was not refused.
    pub(super) refusal: u8,
    /// The status that was sent.
    pub status: u16,
    pub(super) admitted: u32,
    pub(super) first_byte: u32,
    /// Microseconds from beginning to end.
    pub total: u64,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Over HTTP/2.
    pub http2: bool,
    /// Over TLS.
    pub tls: bool,
    /// Whether the target had a query.
    pub query: bool,
    /// Whether a body followed the head.
    pub body: bool,
    pub(super) fields: u8,
    /// What became of the step that it is.
    pub outcome: Option<Outcome>,
    /// Place of the step rule that it broke in [`Denial::NAMES`] plus one; 0: it broke none.
    pub(super) step_rule: u8,
    /// The rate rule that had nothing left for it.
    pub rate_rule: Label,
    /// Broken rules that refused nothing.
    pub observed: Violations,
    pub(super) lengths: [u16; TEXTS],
}

const _: () = assert!(size_of::<Entry>() <= 160, "sessions with many calls should cost little");

/// The texts of a call; an empty one is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Texts<'t> {
    /// The correlation id.
    pub correlation: &'t str,
    /// The client, once proven.
    pub client: &'t str,
    /// The host the call was for.
    pub host: &'t str,
    /// The path, as it came, without the query.
    pub path: &'t str,
    /// The scopes of the token, separated by spaces.
    pub scopes: &'t str,
    /// The flow that its session follows.
    pub flow: &'t str,
    /// The step.
    pub step: &'t str,
    /// The step that was done last when it came.
    pub step_before: &'t str,
    /// The step that was done last when its outcome was known.
    pub step_after: &'t str,
    /// The subject of the token. It stands last: who does not need it cuts it off.
    pub subject: &'t str,
}

impl<'t> Texts<'t> {
    const fn all(&self) -> [&'t str; TEXTS] {
        let [flow, step, before, after] = [self.flow, self.step, self.step_before, self.step_after];
        [self.correlation, self.client, self.host, self.path, self.scopes, flow, step, before, after, self.subject]
    }
}

impl Entry {
    /// The fixed part of `call`.
    #[must_use]
    pub fn of(call: &CallRecord, details: &Details) -> Self {
        let micros = |span: std::time::Duration| u32::try_from(span.as_micros()).unwrap_or(NEVER - 1);
        let refusal = call.rejection.map_or(0, |rejection| rejection.index() + 1);
        Self {
            time: call.time,
            session: call.session.as_ref().map(|session| session.key()),
            number: details.number,
            request: Uuid::try_parse_ascii(call.request_id.as_bytes()).unwrap_or_default(),
            verb: call.verb,
            route: call.route,
            upstream: call.upstream,
            refusal: u8::try_from(refusal).unwrap_or(0),
            status: call.status,
            admitted: call.admitted.map_or(NEVER, micros),
            first_byte: call.first_byte.map_or(NEVER, micros),
            total: u64::try_from(call.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes_in: call.bytes_in,
            bytes_out: call.bytes_out,
            ended_by: call.ended_by,
            http2: call.arrival.http2,
            tls: call.arrival.tls,
            query: details.query,
            body: details.body,
            fields: details.fields,
            outcome: call.step.and_then(|mark| mark.outcome),
            step_rule: call.step.and_then(|mark| mark.broken).map_or(0, |(denial, _)| place(denial)),
            rate_rule: call.exceeded.map_or(Label::NONE, |(rule, _)| rule),
            observed: call.observed.counted.union(call.observed.warned),
            lengths: [0; TEXTS],
        }
    }

    /// The code: `ok`, or why it was refused.
    #[must_use]
    pub fn code(&self) -> &'static str {
        let place = usize::from(self.refusal).checked_sub(1);
        place.and_then(|place| TABLE.get(place)).map_or("ok", |row| row.code)
    }

    /// The step rule that it broke, whether or not that refused it.
    #[must_use]
    pub fn step_rule(&self) -> Option<&'static str> {
        usize::from(self.step_rule).checked_sub(1).and_then(|place| Denial::NAMES.get(place)).copied()
    }

    /// Whether it was refused.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.refusal != 0
    }

    /// Microseconds from its beginning to its admission or refusal.
    #[must_use]
    pub fn admitted(&self) -> Option<u32> {
        Some(self.admitted).filter(|micros| *micros != NEVER)
    }

    /// Microseconds from its beginning to the upstream's first byte.
    #[must_use]
    pub fn first_byte(&self) -> Option<u32> {
        Some(self.first_byte).filter(|micros| *micros != NEVER)
    }

    /// The ruled fields that were there.
    pub fn fields(&self) -> impl Iterator<Item = Field> + use<> {
        let fields = self.fields;
        Field::ALL.into_iter().filter(move |field| fields & 1 << *field as u8 != 0)
    }

    /// How many bytes of text it has.
    fn text_len(&self) -> usize {
        self.lengths.iter().map(|length| usize::from(*length)).sum()
    }

    /// Its texts, from where they begin.
    fn texts<'t>(&self, mut text: &'t str) -> Texts<'t> {
        let [correlation, client, host, path, scopes, flow, step, step_before, step_after, subject] =
            self.lengths.map(|length| {
                let (own, rest) = text.split_at_checked(usize::from(length)).unwrap_or_default();
                text = rest;
                own
            });
        Texts { correlation, client, host, path, scopes, flow, step, step_before, step_after, subject }
    }
}

fn place(denial: Denial) -> u8 {
    u8::try_from(denial.index() + 1).unwrap_or(0)
}

/// Calls that wait to be collected, in the order in which they ended.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    text: String,
}

impl Batch {
    /// How many calls it holds, and how many bytes of text.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.text.len())
    }

    /// An empty one with room for so many calls and bytes of text.
    #[must_use]
    pub fn with_room((calls, text): (usize, usize)) -> Self {
        Self { entries: Vec::with_capacity(calls), text: String::with_capacity(text) }
    }

    /// Takes a call.
    pub fn take(&mut self, call: &CallRecord, details: &Details) {
        let (host, path) = details.host_and_path();
        let masked = call.session_id.and_then(|id| without_id(path, id));
        let path = masked.as_deref().unwrap_or(path);
        let caller = call.caller.as_deref();
        let flow = call.session.as_deref().and_then(|session| session.flow());
        let step = |of: fn(StepMark) -> Option<StepId>| {
            let step = call.step.and_then(of);
            flow.zip(step).map_or("", |(flow, step)| flow.step_name(step))
        };
        let texts = Texts {
            correlation: call.correlation.to_str().unwrap_or_default(),
            client: caller.map_or("", |caller| caller.owner().client.as_str()),
            host,
            path,
            scopes: caller.map_or("", |caller| caller.scope()),
            flow: flow.map_or("", |flow| flow.name()),
            step: step(|mark| Some(mark.step)),
            step_before: step(|mark| mark.before),
            step_after: step(|mark| mark.after),
            subject: caller.and_then(|caller| caller.owner().subject.as_deref()).unwrap_or_default(),
        };
        self.push(Entry::of(call, details), texts);
    }

    /// Adds a call with these texts; longer ones than are kept are cut.
    pub(super) fn push(&mut self, mut entry: Entry, texts: Texts<'_>) {
        for (length, text) in entry.lengths.iter_mut().zip(texts.all()) {
            let text = &text[..text.floor_char_boundary(TEXT_MAX)];
            self.text.push_str(text);
            *length = u16::try_from(text.len()).unwrap_or(0);
        }
        self.entries.push(entry);
    }

    /// How many calls there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes of memory they take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>() + self.text.len()
    }

    /// The calls.
    pub fn iter(&self) -> impl Iterator<Item = (&Entry, Texts<'_>)> {
        let mut text = &*self.text;
        self.entries.iter().map(move |entry| {
            let (own, rest) = text.split_at_checked(entry.text_len()).unwrap_or_default();
            text = rest;
            (entry, entry.texts(own))
        })
    }
}

/// A path without the session-id that it holds, if it does: a trail does not tell it.
fn without_id(path: &str, id: SessionId) -> Option<String> {
    let mut text = [0; SessionId::TEXT_LEN];
    let text = id.write(&mut text).as_bytes();
    let at = path.as_bytes().windows(text.len()).position(|part| part.eq_ignore_ascii_case(text))?;
    let (before, rest) = path.split_at_checked(at)?;
    let (_, behind) = rest.split_at_checked(text.len())?;
    let behind = without_id(behind, id).map_or(Cow::Borrowed(behind), Cow::Owned);
    Some(format!("{before}{{session-id}}{behind}"))
}

/// The last calls of one session. The oldest make room for new ones.
#[derive(Debug, Default)]
pub struct Ring {
    entries: VecDeque<Entry>,
    text: VecDeque<u8>,
    /// Calls that made room.
    forgotten: u32,
}

impl Ring {
    /// Most bytes of text per kept call, on average: a session with few calls may have long ones.
    const TEXT_PER_CALL: usize = 512;

    /// Adds a call, of which everything but the subject is kept: that of a session is known.
    pub fn push(&mut self, entry: &Entry, texts: Texts<'_>, most: usize) {
        let mut entry = *entry;
        if let Some(subject) = entry.lengths.last_mut() {
            *subject = 0;
        }
        while !self.entries.is_empty()
            && (self.entries.len() >= most || self.text.len() + entry.text_len() > most * Self::TEXT_PER_CALL)
        {
            self.forget_first();
        }
        for text in &texts.all()[..TEXTS - 1] {
            self.text.extend(text.as_bytes());
        }
        self.entries.push_back(entry);
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.entries.pop_front() {
            self.text.drain(..first.text_len().min(self.text.len()));
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// How many calls are kept.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.entries.len()
    }

    /// How many calls were kept once and are not any more.
    #[must_use]
    pub const fn forgotten(&self) -> u32 {
        self.forgotten
    }

    /// How many bytes of memory it takes, room for more included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.text.capacity()
    }

    /// The kept calls, by number.
    pub fn for_each(&self, mut visit: impl FnMut(&Entry, Texts<'_>)) {
        let (front, back) = self.text.as_slices();
        let text = [front, back].concat();
        let text = String::from_utf8_lossy(&text);
        let mut rest = &*text;
        let mut calls: Vec<_> = self
            .entries
            .iter()
            .map(|entry| {
                let (own, behind) = rest.split_at_checked(entry.text_len()).unwrap_or_default();
                rest = behind;
                (entry, entry.texts(own))
            })
            .collect();
        // Calls are kept as they end, and numbered as they begin.
        calls.sort_by_key(|(entry, _)| entry.number);
        calls.into_iter().for_each(|(entry, texts)| visit(entry, texts));
    }
}

#[cfg(test)]
pub(super) mod tests;
