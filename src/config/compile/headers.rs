//! The names of the ruled fields, and their rules: the mode, then the file's changes, then the route's.

use std::collections::HashMap;
use std::ops::Range;

use http::header::HeaderName;
use regex::bytes::{Regex, RegexBuilder};

use crate::config::raw::{At, ConfigMode, Headers, MissingAction, Requirement, RuleSeverity, RuledHeader, Table};
use crate::policy::credentials::TOKEN_MAX;
use crate::policy::fields::{FieldNames, OWN_PREFIX, Role, RuledName};
use crate::policy::headers::{CORRELATION_MAX, HeaderRules, IfMissing, Mode, When};
use crate::policy::ids::{CLIENT_ID_MAX, SessionId};
use crate::policy::media::MediaPattern;
use crate::policy::severity::Severity;
use crate::policy::violation::Field;

use super::context::Context;

/// Longest media field whose length can be asked for.
const MEDIA_MAX: usize = 8 * 1024;

/// The fields and their tables, in the order of [`Field`].
fn tables(headers: &Headers) -> [(Field, &'static str, Option<&Table<RuledHeader>>); 7] {
    [
        (Field::Authorization, "authorization", headers.authorization.as_ref()),
        (Field::ClientId, "client-id", headers.client_id.as_ref()),
        (Field::SessionId, "session-id", headers.session_id.as_ref()),
        (Field::Correlation, "correlation-id", headers.correlation_id.as_ref()),
        (Field::ContentType, "content-type", headers.content_type.as_ref()),
        (Field::Accept, "accept", headers.accept.as_ref()),
        (Field::IdempotencyKey, "idempotency-key", headers.idempotency_key.as_ref()),
    ]
}

/// The names of the fields, for the whole gateway.
pub(super) fn names(cx: &mut Context<'_>, headers: &Headers) -> FieldNames {
    let mut ruled = FieldNames::defaults();
    for (field, _, table) in tables(headers) {
        let Some(table) = table else { continue };
        let own = &mut ruled[field as usize];
        if let Some(name) = table.name.as_ref().and_then(|text| field_name(cx, text)) {
            own.name = name;
        }
        if let Some(aliases) = &table.aliases {
            own.aliases = aliases.iter().filter_map(|text| field_name(cx, text)).collect();
        }
    }
    check_unique(cx, headers, &ruled);
    let mut identity: Vec<HeaderName> =
        headers.identity.iter().filter_map(|text| identity_name(cx, text, &ruled)).collect();
    // Whoever still reads the usual name of a renamed field must not get what nobody checked.
    let usual = FieldNames::defaults();
    let renamed = [Field::Authorization, Field::ClientId, Field::SessionId].map(|field| &usual[field as usize].name);
    let in_use = |name: &HeaderName| ruled.iter().any(|one| one.name == *name || one.aliases.contains(name));
    identity.extend(renamed.into_iter().filter(|name| !in_use(name)).cloned());
    FieldNames::new(ruled, &identity)
}

fn header_name(cx: &mut Context<'_>, text: &At<String>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes());
    if name.is_err() {
        cx.mistake(text.span(), format!("{:?} is not a header name", &**text));
    }
    name.ok()
}

/// A name that a client may send a ruled field under.
fn field_name(cx: &mut Context<'_>, text: &At<String>) -> Option<HeaderName> {
    let name = header_name(cx, text)?;
    let why = match FieldNames::default().role(&name) {
        // Two fields under one name are found later, when all names are known.
        Role::Ruled(field, _) if field != Field::Host => return Some(name),
        Role::Other => return Some(name),
        // `client_id` is only the twin of a name; as the name itself it is as good as any other.
        Role::Reserved if name.as_str().contains('_') && !name.as_str().starts_with(OWN_PREFIX) => return Some(name),
        Role::Reserved if name.as_str().starts_with(OWN_PREFIX) => "x-sg-* are the gateway's own",
        Role::Reserved => "upstreams believe it, so it is removed from every call",
        Role::Forwarded | Role::ForwardedFor | Role::ForwardedProto | Role::ForwardedHost => {
            "it says who the client is, and only proxies may set it"
        }
        _ => "HTTP or the gateway itself uses it",
    };
    cx.mistake(text.span(), format!("{name:?} cannot be the name of this field: {why}"));
    None
}

fn identity_name(cx: &mut Context<'_>, text: &At<String>, ruled: &[RuledName]) -> Option<HeaderName> {
    let name = header_name(cx, text)?;
    let is_ruled = ruled.iter().any(|one| one.name == name || one.aliases.contains(&name));
    let why = match FieldNames::default().role(&name) {
        _ if is_ruled => "it is one of the fields with a rule",
        // A default name that was given up is a field like any other.
        Role::Other | Role::Reserved | Role::Ruled(..) => return Some(name),
        Role::Forwarded | Role::ForwardedFor | Role::ForwardedProto | Role::ForwardedHost => {
            "it is removed anyway, unless a trusted proxy sent it"
        }
        _ => "HTTP or the gateway itself uses it",
    };
    cx.mistake(text.span(), format!("{name:?} cannot be an identity field: {why}"));
    None
}

/// No name may mean two fields.
fn check_unique(cx: &mut Context<'_>, headers: &Headers, ruled: &[RuledName]) {
    let mut owners: HashMap<&HeaderName, &str> = HashMap::new();
    let host = (Field::Host, "host", None);
    for (field, key, table) in tables(headers).into_iter().chain([host]) {
        let own = &ruled[field as usize];
        for name in std::iter::once(&own.name).chain(&own.aliases) {
            let Some(owner) = owners.insert(name, key) else { continue };
            if owner == key {
                cx.mistake(place_of(table, name).unwrap_or_default(), format!("{name:?} is there twice"));
                continue;
            }
            // One of the two was written: the other may be a default.
            let (at, other) = match place_of(table, name) {
                Some(at) => (at, owner),
                None => {
                    let written = tables(headers).into_iter().find(|(_, key, _)| *key == owner);
                    (written.and_then(|(_, _, table)| place_of(table, name)).unwrap_or_default(), key)
                }
            };
            cx.mistake(at, format!("{name:?} is already a name of {other}"));
        }
    }
}

/// Where a name is written, the last time.
fn place_of(table: Option<&Table<RuledHeader>>, name: &HeaderName) -> Option<Range<usize>> {
    let table = table?;
    let written = table.name.iter().chain(table.aliases.iter().flatten());
    written.filter(|text| text.eq_ignore_ascii_case(name.as_str())).last().map(At::span)
}

/// The mode, or the default of a file.
pub(super) fn mode(headers: &Headers) -> Mode {
    match headers.mode.unwrap_or_default() {
        ConfigMode::Strict => Mode::Strict,
        ConfigMode::Lenient => Mode::Lenient,
    }
}

/// The changes that one `headers` table makes to the rules of a mode.
#[derive(Default)]
pub(super) struct Changes(Vec<(Field, Change)>);

#[derive(Default)]
struct Change {
    when: Option<When>,
    pattern: Option<Regex>,
    max_len: Option<usize>,
    if_missing: Option<IfMissing>,
    severity: Option<Severity>,
    allow: Option<Vec<MediaPattern>>,
}

impl Changes {
    pub(super) fn compile(cx: &mut Context<'_>, headers: &Headers) -> Self {
        let tables = tables(headers).into_iter();
        Self(tables.filter_map(|(field, key, table)| Some((field, Change::compile(cx, field, key, table?)))).collect())
    }

    pub(super) fn apply(&self, rules: &mut HeaderRules) {
        for (field, change) in self.0.iter().filter(|(field, _)| *field != Field::IdempotencyKey) {
            if let Some(allow) = change.allow.clone() {
                match field {
                    Field::ContentType => rules.set_content_types(allow),
                    _ => rules.set_offered(allow),
                }
            }
            let rule = rules.rule_mut(*field);
            rule.when = change.when.unwrap_or(rule.when);
            rule.max_len = change.max_len.unwrap_or(rule.max_len);
            rule.if_missing = change.if_missing.unwrap_or(rule.if_missing);
            rule.severity = change.severity.unwrap_or(rule.severity);
            rule.pattern = change.pattern.clone().or_else(|| rule.pattern.take());
        }
    }
}

impl Change {
    fn compile(cx: &mut Context<'_>, field: Field, key: &str, table: &Table<RuledHeader>) -> Self {
        let proof = matches!(field, Field::Authorization | Field::ClientId | Field::SessionId);
        let media = matches!(field, Field::ContentType | Field::Accept);
        if field == Field::IdempotencyKey {
            refuse_rules(cx, table);
            return Self::default();
        }
        let usual = if field == Field::SessionId { Requirement::ExceptCreate } else { Requirement::Always };
        if let Some(at) = table.required_on.as_ref().filter(|at| proof && ***at != usual) {
            let calls = if field == Field::SessionId { "every call but POST /session" } else { "every call" };
            cx.mistake(at.span(), format!("{key} is required on {calls}; this cannot be changed"));
        }
        if let Some(at) = table.severity.as_ref().filter(|at| proof && ***at != RuleSeverity::Enforce) {
            cx.mistake(at.span(), format!("the rule of {key} is always enforced; this cannot be changed"));
        }
        if let Some(at) = &table.if_missing
            && **at == MissingAction::Generate
            && field != Field::Correlation
        {
            cx.mistake(at.span(), format!("the gateway cannot make a value of {key}, only of correlation-id"));
        }
        if let Some(allow) = table.allow.as_ref().filter(|_| !media) {
            cx.mistake(allow.span(), format!("{key} is not a media type; only content-type and accept have \"allow\""));
        }
        let most = match field {
            Field::Authorization => 1..=TOKEN_MAX,
            Field::ClientId => 1..=CLIENT_ID_MAX,
            Field::SessionId => SessionId::TEXT_LEN..=SessionId::TEXT_LEN,
            Field::Correlation => 1..=CORRELATION_MAX,
            Field::ContentType | Field::Accept | Field::IdempotencyKey | Field::Host => 1..=MEDIA_MAX,
        };
        Self {
            when: table.required_on.as_ref().map(|at| when(**at)),
            pattern: table.pattern.as_ref().and_then(|text| pattern(cx, text)),
            max_len: table.max_len.as_ref().map(|len| cx.within(len, most)),
            if_missing: table.if_missing.as_ref().map(|at| match **at {
                MissingAction::Reject => IfMissing::Reject,
                MissingAction::Generate => IfMissing::Generate,
            }),
            severity: table.severity.as_ref().map(|at| severity(**at)),
            allow: table.allow.as_ref().filter(|_| media).map(|allow| media_patterns(cx, allow, table.span())),
        }
    }
}

/// The rules of a route cannot rename what the gateway reads before it knows the route.
pub(super) fn refuse_names(cx: &mut Context<'_>, headers: &Headers) {
    let hint = "move it to [headers]";
    if let Some(identity) = headers.identity.first() {
        cx.mistake_hint(identity.span(), "identity fields are the same for all routes", hint);
    }
    for (_, key, table) in tables(headers) {
        let Some(table) = table else { continue };
        for name in table.name.iter().chain(table.aliases.iter().flatten()) {
            cx.mistake_hint(name.span(), format!("the name of {key} is the same for all routes"), hint);
        }
    }
}

fn refuse_rules(cx: &mut Context<'_>, table: &RuledHeader) {
    let spans = [
        table.required_on.as_ref().map(At::span),
        table.pattern.as_ref().map(At::span),
        table.max_len.as_ref().map(At::span),
        table.if_missing.as_ref().map(At::span),
        table.severity.as_ref().map(At::span),
        table.allow.as_ref().map(At::span),
    ];
    for at in spans.into_iter().flatten() {
        cx.mistake(at, "idempotency-key has no rule of its own; only \"name\" and \"aliases\" can be set");
    }
}

/// A pattern for the whole value. Values are bytes, so `.` is a byte and classes like `\d` are ASCII.
fn pattern(cx: &mut Context<'_>, text: &At<String>) -> Option<Regex> {
    let compiled = |pattern: &str| RegexBuilder::new(pattern).unicode(false).build();
    // On its own first: an unclosed group must not close with ours.
    let whole = compiled(text).and_then(|_| compiled(&format!("\\A(?:{})\\z", &**text)));
    match whole {
        Ok(regex) => Some(regex),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            cx.mistake(text.span(), format!("this is not a regular expression: {reason}"));
            None
        }
    }
}

fn media_patterns(cx: &mut Context<'_>, allow: &At<Vec<At<String>>>, table: Range<usize>) -> Vec<MediaPattern> {
    if allow.is_empty() && !cx.is_touched(table, "allow") {
        cx.mistake(allow.span(), "no media type is allowed");
    }
    let mut patterns = Vec::with_capacity(allow.len());
    for text in allow.iter() {
        let pattern = MediaPattern::parse(text);
        if pattern.is_none() {
            let message = format!("{:?} is not a media type", &**text);
            cx.mistake_hint(text.span(), message, "write it like \"application/json\" or \"application/*+json\"");
        }
        patterns.extend(pattern);
    }
    patterns
}

const fn when(requirement: Requirement) -> When {
    match requirement {
        Requirement::Always => When::Always,
        Requirement::ExceptCreate => When::ExceptCreate,
        Requirement::WithBody => When::WithBody,
        Requirement::Never => When::Never,
    }
}

pub(super) const fn severity(severity: RuleSeverity) -> Severity {
    match severity {
        RuleSeverity::Off => Severity::Off,
        RuleSeverity::Observe => Severity::Observe,
        RuleSeverity::Warn => Severity::Warn,
        RuleSeverity::Enforce => Severity::Enforce,
    }
}
