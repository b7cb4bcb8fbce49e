//! The rules of the six required header fields: all violations of a call, reported together.

use http::HeaderValue;

use super::credentials::{self, Presented, Scheme};
use super::head::Head;
use super::ids::{SessionId, is_client_id};
use super::media::{self, MediaPattern};
use super::rejection::Rejection;
use super::severity::Severity;
use super::target;
use super::violation::{Fault, Field, Violations};

/// On which calls a field must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// On none.
    Never,
    /// On every call.
    Always,
    /// On every call but `POST /session`.
    ExceptCreate,
    /// On calls with a body.
    WithBody,
}

/// What an absent field leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// The call is refused.
    Reject,
    /// The gateway makes a value.
    Generate,
}

/// The rule of one field.
#[derive(Debug, Clone)]
pub struct FieldRule {
    /// When it must be there.
    pub when: When,
    /// Longest value, in bytes.
    pub max_len: usize,
    /// What the value must match beyond the form the field has anyway.
    pub pattern: Option<regex::bytes::Regex>,
    /// What its absence leads to.
    pub if_missing: IfMissing,
    /// What a violation leads to; the fields that carry the proof are always enforced.
    pub severity: Severity,
}

/// The header rules of a route.
#[derive(Debug, Clone)]
pub struct HeaderRules {
    rules: [FieldRule; 6],
    content_types: Vec<MediaPattern>,
    offered: Vec<MediaPattern>,
}

/// `strict` demands all six fields, `lenient` the three that carry the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The default of a configuration file.
    Strict,
    /// The default of `serve` without a file.
    Lenient,
}

/// The violations that refuse nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// To be counted.
    pub counted: Violations,
    /// To be counted and named in a response field.
    pub warned: Violations,
}

impl HeaderRules {
    /// The rules of a mode, before any setting changes them.
    #[must_use]
    pub fn of(mode: Mode) -> Self {
        let rule = |when, max_len, severity| FieldRule {
            when,
            max_len,
            pattern: None,
            if_missing: IfMissing::Reject,
            severity,
        };
        let (correlation, soft) = match mode {
            Mode::Strict => (IfMissing::Reject, Severity::Enforce),
            Mode::Lenient => (IfMissing::Generate, Severity::Off),
        };
        let json =
            || ["application/json", "application/*+json"].iter().filter_map(|text| MediaPattern::parse(text)).collect();
        Self {
            rules: [
                rule(When::Always, credentials::TOKEN_MAX, Severity::Enforce),
                rule(When::Always, super::ids::CLIENT_ID_MAX, Severity::Enforce),
                rule(When::ExceptCreate, SessionId::TEXT_LEN, Severity::Enforce),
                FieldRule { if_missing: correlation, ..rule(When::ExceptCreate, CORRELATION_MAX, Severity::Enforce) },
                rule(When::WithBody, 256, soft),
                rule(When::ExceptCreate, 1024, soft),
            ],
            content_types: json(),
            offered: json(),
        }
    }

    /// The rule of one of the six fields, to change it while a configuration is compiled.
    ///
    /// # Panics
    /// Never for the first six fields; the others have no rule.
    pub fn rule_mut(&mut self, field: Field) -> &mut FieldRule {
        &mut self.rules[field as usize]
    }

    /// Replaces the media types that bodies may have.
    pub fn set_content_types(&mut self, patterns: Vec<MediaPattern>) {
        self.content_types = patterns;
    }

    /// Replaces the media types that the routes produce.
    pub fn set_offered(&mut self, patterns: Vec<MediaPattern>) {
        self.offered = patterns;
    }

    /// Checks a call. `create` says whether it is `POST /session`, which needs only credentials and a client-id.
    ///
    /// # Errors
    /// The first of 401, 400, 415 and 406 that applies, with every violation that is enforced.
    pub fn check<'r>(&self, head: &Head<'r>, create: bool) -> Result<(Presented<'r>, Observed), Rejection> {
        let mut found = head.named_by_connection();
        let mut observed = Observed::default();
        let mut note = |field: Field, fault: Option<Fault>, severity: Severity| {
            let Some(fault) = fault else { return };
            match severity {
                Severity::Off => {}
                Severity::Observe => observed.counted = observed.counted.with(field, fault),
                Severity::Warn => observed.warned = observed.warned.with(field, fault),
                Severity::Enforce => found = found.with(field, fault),
            }
        };

        let (credentials, fault) = self.token(head);
        note(Field::Authorization, fault, Severity::Enforce);
        let (client, fault) = self.single(head, Field::ClientId, create, is_client_id);
        note(Field::ClientId, fault, Severity::Enforce);
        let mut session = None;
        if !create {
            let (text, fault) = self.single(head, Field::SessionId, create, |_| true);
            session = text.and_then(|text| SessionId::parse(text.as_bytes()).ok());
            let fault = fault.or((session.is_none()).then_some(Fault::Invalid));
            note(Field::SessionId, fault, Severity::Enforce);
        }
        let (key, fault) = single_line(head, Field::IdempotencyKey, is_idempotency_key);
        note(Field::IdempotencyKey, fault, Severity::Enforce);

        note(Field::Correlation, self.correlation(head, create), self.severity(Field::Correlation));
        // Reading lists of media types takes its time.
        let severity = self.severity(Field::ContentType);
        if !create && severity != Severity::Off {
            note(Field::ContentType, self.content_type(head), severity);
        }
        let severity = self.severity(Field::Accept);
        if !create && severity != Severity::Off {
            note(Field::Accept, self.accept(head), severity);
        }

        match (credentials, client) {
            (Some((scheme, token)), Some(client)) if found.is_empty() => Ok((
                Presented { scheme, token, client, session, idempotency_key: key.and_then(|key| key.to_str().ok()) },
                observed,
            )),
            _ => {
                debug_assert!(
                    head.seen(Field::Authorization).lines <= 1 || !found.contains(Field::Authorization, Fault::Invalid)
                );
                Err(refusal(found))
            }
        }
    }

    /// Checks a call of which only is known which fields it had: those that were there are taken to be right. `has_body` and
    /// `create` are as in [`check`](Self::check).
    ///
    /// # Errors
    /// As of [`check`](Self::check).
    pub fn check_presence(
        &self,
        is_there: impl Fn(Field) -> bool,
        has_body: bool,
        create: bool,
    ) -> Result<(), Rejection> {
        let judged = |field: &Field| match field {
            Field::Authorization | Field::ClientId | Field::SessionId => true,
            Field::Correlation => self.severity(*field) == Severity::Enforce,
            Field::ContentType => !create && has_body && self.severity(*field) == Severity::Enforce,
            Field::Accept => !create && self.severity(*field) == Severity::Enforce,
            Field::IdempotencyKey | Field::Host => false,
        };
        let missing = |field: &Field| judged(field) && !is_there(*field) && self.needs(*field, has_body, create);
        let missing = Field::ALL.into_iter().filter(missing);
        let found = missing.fold(Violations::NONE, |found, field| found.with(field, Fault::Missing));
        if found.is_empty() { Ok(()) } else { Err(refusal(found)) }
    }

    const fn severity(&self, field: Field) -> Severity {
        self.rules[field as usize].severity
    }

    /// Whether the absence of a field breaks its rule.
    fn needs(&self, field: Field, has_body: bool, create: bool) -> bool {
        let rule = &self.rules[field as usize];
        let required = match rule.when {
            When::Never => false,
            When::Always => true,
            When::ExceptCreate => !create,
            When::WithBody => has_body,
        };
        required && rule.if_missing == IfMissing::Reject
    }

    fn required(&self, field: Field, head: &Head<'_>, create: bool) -> bool {
        self.needs(field, head.raw().has_body, create)
    }

    /// Whether a value keeps to the length and the pattern of its rule.
    fn fits(&self, field: Field, value: &[u8]) -> bool {
        let rule = &self.rules[field as usize];
        value.len() <= rule.max_len && rule.pattern.as_ref().is_none_or(|pattern| pattern.is_match(value))
    }

    fn token<'r>(&self, head: &Head<'r>) -> (Option<(Scheme, &'r str)>, Option<Fault>) {
        let seen = head.seen(Field::Authorization);
        let in_query = head.query().is_some_and(target::query_has_token);
        let Some(value) = seen.value else {
            return (None, Some(if in_query { Fault::Invalid } else { Fault::Missing }));
        };
        if seen.lines > 1 {
            return (None, Some(Fault::Repeated));
        }
        match credentials::token(value.as_bytes()) {
            Ok((scheme, token)) if !in_query && self.fits(Field::Authorization, token.as_bytes()) => {
                (Some((scheme, token)), None)
            }
            Ok(_) => (None, Some(Fault::Invalid)),
            Err(fault) => (None, Some(fault)),
        }
    }

    fn single<'r>(
        &self,
        head: &Head<'r>,
        field: Field,
        create: bool,
        form: impl Fn(&[u8]) -> bool,
    ) -> (Option<&'r str>, Option<Fault>) {
        let (value, fault) = single_line(head, field, |value| form(value) && self.fits(field, value));
        match (value, fault) {
            (None, None) => (None, self.required(field, head, create).then_some(Fault::Missing)),
            (value, fault) => (value.and_then(|value| value.to_str().ok()), fault),
        }
    }

    fn correlation(&self, head: &Head<'_>, create: bool) -> Option<Fault> {
        let seen = head.seen(Field::Correlation);
        let rule = &self.rules[Field::Correlation as usize];
        let generate = rule.if_missing == IfMissing::Generate;
        match seen.value {
            None => self.required(Field::Correlation, head, create).then_some(Fault::Missing),
            Some(value)
                if seen.lines == 1
                    && is_safe_id(value.as_bytes())
                    && self.fits(Field::Correlation, value.as_bytes()) =>
            {
                None
            }
            // Where ids are made for those who send none, an unusable one is replaced like an absent one.
            Some(_) => (!generate).then_some(Fault::Invalid),
        }
    }

    fn content_type(&self, head: &Head<'_>) -> Option<Fault> {
        if !head.raw().has_body {
            return None;
        }
        let seen = head.seen(Field::ContentType);
        match seen.value {
            None => (self.required(Field::ContentType, head, false)).then_some(Fault::Missing),
            Some(value) if seen.lines > 1 || !self.fits(Field::ContentType, value.as_bytes()) => Some(Fault::Invalid),
            Some(value) => {
                let essence = media::essence(value.as_bytes());
                (!self.content_types.iter().any(|pattern| pattern.admits(essence))).then_some(Fault::Unsupported)
            }
        }
    }

    fn accept(&self, head: &Head<'_>) -> Option<Fault> {
        let seen = head.seen(Field::Accept);
        match seen.value {
            None => self.required(Field::Accept, head, false).then_some(Fault::Missing),
            Some(value) if seen.lines == 1 => self.accepts_offer(value),
            // A list field may come in several lines (RFC 9110 section 5.3): one that admits is enough.
            Some(_) => {
                let lines = head.raw().headers.get_all(http::header::ACCEPT);
                let faults: Vec<_> = lines.iter().map(|value| self.accepts_offer(value)).collect();
                if faults.contains(&None) { None } else { Some(Fault::Unsupported) }
            }
        }
    }

    fn accepts_offer(&self, value: &HeaderValue) -> Option<Fault> {
        if !self.fits(Field::Accept, value.as_bytes()) {
            return Some(Fault::Invalid);
        }
        (!media::accepts(value.as_bytes(), &self.offered)).then_some(Fault::Unsupported)
    }
}

/// Longest correlation id, in bytes.
pub const CORRELATION_MAX: usize = 128;

/// Whether a correlation id is safe to echo, log and forward.
#[must_use]
pub fn is_safe_id(value: &[u8]) -> bool {
    (1..=CORRELATION_MAX).contains(&value.len())
        && value.iter().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'+' | b'=' | b'@')
        })
}

fn is_idempotency_key(value: &[u8]) -> bool {
    (1..=255).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

/// The value of a field that may come once and holds no comma.
fn single_line<'r>(
    head: &Head<'r>,
    field: Field,
    form: impl Fn(&[u8]) -> bool,
) -> (Option<&'r HeaderValue>, Option<Fault>) {
    let seen = head.seen(field);
    let Some(value) = seen.value else { return (None, None) };
    if seen.lines > 1 || value.as_bytes().contains(&b',') {
        return (None, Some(Fault::Repeated));
    }
    if form(value.as_bytes()) { (Some(value), None) } else { (None, Some(Fault::Invalid)) }
}

/// The refusal that a set of violations leads to: 401 without credentials, else 400, 415, 406 in this order.
fn refusal(found: Violations) -> Rejection {
    let of = |field: Field| Fault::ALL.into_iter().any(|fault| found.contains(field, fault));
    let media_only = found.iter().all(|(field, _)| matches!(field, Field::ContentType | Field::Accept));
    if found.contains(Field::Authorization, Fault::Missing) {
        Rejection::CredentialsMissing(found)
    } else if media_only {
        if of(Field::ContentType) { Rejection::MediaTypeUnsupported(found) } else { Rejection::NotAcceptable(found) }
    } else if found.contains(Field::Authorization, Fault::Invalid) {
        Rejection::CredentialsMalformed(found)
    } else if found.any(Fault::Repeated) {
        Rejection::HeaderRepeated(found)
    } else if [Field::ClientId, Field::SessionId, Field::Correlation]
        .into_iter()
        .any(|field| found.contains(field, Fault::Missing))
    {
        Rejection::HeaderMissing(found)
    } else {
        Rejection::HeaderInvalid(found)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::policy::fields::FieldNames;
    use crate::policy::head::RawHead;

    /// Whatever fields good calls have, to know which ones is to know the verdict.
    #[test]
    fn presence_alone_decides_about_good_values() {
        let names = FieldNames::default();
        let values = [
            (Field::Authorization, "Bearer abc"),
            (Field::ClientId, "shop"),
            (Field::SessionId, "758fc320-af96-4faf-8af7-536e7cac5775"),
            (Field::Correlation, "c-1"),
            (Field::ContentType, "application/json"),
            (Field::Accept, "application/json"),
        ];
        for mode in [Mode::Strict, Mode::Lenient] {
            for (there, has_body, create) in
                (0..64u8).flat_map(|there| [(there, false, false), (there, true, false), (there, true, true)])
            {
                let is_there = |field: Field| there & 1 << field as u8 != 0;
                let mut request = Request::post("/orders").header("host", "shop");
                for (field, value) in values.into_iter().filter(|(field, _)| is_there(*field)) {
                    request = request.header(names.name(field), value);
                }
                let request = request.body(()).unwrap();
                let head = Head::parse(RawHead { has_body, ..RawHead::from(&request) }, &names, "gate").unwrap();
                let rules = HeaderRules::of(mode);
                let (whole, presence) =
                    (rules.check(&head, create).map(drop), rules.check_presence(is_there, has_body, create));
                assert_eq!(presence, whole, "{mode:?} {there:06b} {has_body} {create}");
            }
        }
    }
}
