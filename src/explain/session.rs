//! A session as somebody tells it: as the admin listener shows one, as its owner sees it, or a few words about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny};

use crate::config::Snapshot;
use crate::config::raw::Period;
use crate::policy::claims::Caller;
use crate::policy::flow::{Flow, StepId, StepSet, Steps};
use crate::policy::ids::{ClientId, Owner, SessionId, SessionKey};
use crate::policy::session::{Session, Standing};
use crate::policy::time::{Now, Timestamp};

/// A session in JSON, with the names that `GET /sessions/{name}` of the admin listener and `GET /session` have. All but
/// `client_id` may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSnapshot {
    client_id: String,
    #[serde(default)]
    key: Option<String>,
    /// Left out: the caller's, whatever it is; so is the subject.
    #[serde(default, deserialize_with = "told")]
    issuer: Option<Option<Arc<str>>>,
    #[serde(default, deserialize_with = "told")]
    subject: Option<Option<Box<str>>>,
    /// Left out: live.
    #[serde(default)]
    state: Option<String>,
    /// Left out: the flow of the client.
    #[serde(default, deserialize_with = "told")]
    flow: Option<Option<String>>,
    /// The step that was done last, and when.
    #[serde(default)]
    step: Option<String>,
    #[serde(default)]
    step_at: Option<Moment>,
    /// Left out: the last step and all that it needs.
    #[serde(default)]
    done: Option<Vec<String>>,
    #[serde(default)]
    running: Vec<String>,
    #[serde(default)]
    unknown: Vec<String>,
    /// By step, of those that limit them.
    #[serde(default)]
    attempts: BTreeMap<String, u8>,
    #[serde(default)]
    created_at: Option<Moment>,
    #[serde(default)]
    last_seen_at: Option<Moment>,
    #[serde(default)]
    calls: u32,
    /// What both views show beyond that is not looked at.
    #[serde(default, rename = "session_id")]
    _session_id: IgnoredAny,
    #[serde(default, rename = "scope")]
    _scope: IgnoredAny,
    #[serde(default, rename = "allowed_next")]
    _allowed_next: IgnoredAny,
    #[serde(default, rename = "idle_expires_at")]
    _idle_expires_at: IgnoredAny,
    #[serde(default, rename = "expires_at")]
    _expires_at: IgnoredAny,
    #[serde(default, rename = "trail")]
    _trail: IgnoredAny,
    #[serde(default, rename = "access_token")]
    _access_token: IgnoredAny,
    #[serde(default, rename = "token_type")]
    _token_type: IgnoredAny,
    #[serde(default, rename = "expires_in")]
    _expires_in: IgnoredAny,
}

/// Tells `null` from what is left out.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A time: RFC 3339, or a span like `12m ago`.
#[derive(Debug, Clone, Copy)]
enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(span) = text.strip_suffix(" ago") {
            return Period::deserialize(StrDeserializer::new(span.trim())).map(|span| Self::Ago(span.0));
        }
        let moment: jiff::Timestamp =
            text.parse().map_err(|_| D::Error::custom("a time is RFC 3339, or a span like \"12m ago\""))?;
        Ok(Self::At(Timestamp::from_millis(u64::try_from(moment.as_millisecond()).unwrap_or(0))))
    }
}

impl Moment {
    /// As steady time.
    const fn steady(self, now: Now) -> Timestamp {
        match self {
            Self::At(time) => now.steady.before(now.wall.since(time)),
            Self::Ago(span) => now.steady.before(span),
        }
    }
}

/// A session that was told and can be: its flow, steps and state are such that there are.
#[derive(Debug)]
pub struct ToldSession {
    key: Option<SessionKey>,
    client: ClientId,
    issuer: Option<Option<Arc<str>>>,
    subject: Option<Option<Box<str>>>,
    standing: Standing,
    flow: Option<Arc<Flow>>,
    steps: Steps,
    opened: Timestamp,
    last_seen: Timestamp,
    calls: u32,
    /// What was not told and is taken for granted.
    pub(super) assumed: Vec<String>,
}

impl SessionSnapshot {
    /// The session in the terms of a configuration, at a moment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn understand(self, live: &Snapshot, now: Now) -> Result<ToldSession, String> {
        let mut assumed = Vec::new();
        let client = ClientId::parse(&self.client_id).map_err(|_| "client_id is not a client-id".to_owned())?;
        let key = self.key.as_deref().map(SessionKey::parse_id_or_key).transpose();
        let key = key.map_err(|_| "key is 32 hex digits".to_owned())?;
        let standing = match &self.state {
            None => Standing::Live,
            Some(state) => Standing::ALL
                .into_iter()
                .find(|standing| standing.as_str() == state)
                .ok_or("state is live, suspended, expired, closed or revoked")?,
        };
        let flow = match &self.flow {
            None => live.flows.of_client(client.as_str()).cloned(),
            Some(None) => None,
            Some(Some(name)) => {
                let known = live.flows.iter().find(|flow| **flow.name() == **name);
                Some(Arc::clone(known.ok_or_else(|| format!("the configuration has no flow {name:?}"))?))
            }
        };
        let opened = self.created_at.map_or(now.steady, |moment| moment.steady(now));
        let last_seen = self.last_seen_at.map_or(opened, |moment| moment.steady(now)).max(opened);
        let steps = match &flow {
            Some(flow) => self.steps(flow, (opened, last_seen), now, &mut assumed)?,
            None if self.step.is_some() || self.done.is_some() => return Err("it has steps, and no flow".into()),
            None => Steps::default(),
        };
        let (issuer, subject, calls) = (self.issuer, self.subject, self.calls);
        Ok(ToldSession { key, client, issuer, subject, standing, flow, steps, opened, last_seen, calls, assumed })
    }

    fn steps(
        &self,
        flow: &Flow,
        (opened, last_seen): (Timestamp, Timestamp),
        now: Now,
        assumed: &mut Vec<String>,
    ) -> Result<Steps, String> {
        let find = |name: &String| {
            let names = || flow.steps().iter().map(|step| &*step.name).collect::<Vec<_>>().join(", ");
            flow.named(name).ok_or_else(|| format!("flow {} has no step {name:?}; its steps: {}", flow.name(), names()))
        };
        let set = |names: &[String]| names.iter().map(find).collect::<Result<StepSet, String>>();
        let last = self.step.as_ref().map(find).transpose()?;
        let done = match (&self.done, last) {
            (Some(done), last) => last.map_or_else(|| set(done), |last| Ok(set(done)?.with(last)))?,
            (None, None) => StepSet::NONE,
            (None, Some(last)) => {
                let done = needed(flow, last);
                let names: Vec<_> = done.iter().map(|step| flow.step_name(step)).collect();
                assumed
                    .push(format!("which steps were done is not told, so these are taken to be: {}", names.join(", ")));
                done
            }
        };
        let at = self.step_at.map_or(last_seen, |moment| moment.steady(now)).since(opened);
        let steps = Steps::told(done, set(&self.running)?, set(&self.unknown)?, last.map(|last| (last, at)));
        self.attempts.iter().try_fold(steps, |steps, (name, tried)| {
            let step = find(name)?;
            Ok(flow.step(step).map_or(steps, |step| steps.with_attempts(step, *tried)))
        })
    }
}

/// A step and all steps that it needs, directly or not. Where one of several is enough, none of them is sure.
fn needed(flow: &Flow, last: StepId) -> StepSet {
    let (mut found, mut more) = (StepSet::NONE, StepSet::NONE.with(last));
    while !more.is_within(found) {
        found = found.union(more);
        let before = found.iter().filter_map(|step| flow.step(step)).map(|step| step.after_all);
        more = before.fold(StepSet::NONE, StepSet::union);
    }
    found
}

impl ToldSession {
    /// The session, for a call of `caller` with the session-id `id`.
    pub(super) fn session(self, caller: &Caller, id: SessionId, live: &Snapshot) -> Arc<Session> {
        let asks = caller.owner();
        let owner = Owner {
            issuer: self.issuer.unwrap_or_else(|| asks.issuer.clone()),
            subject: self.subject.unwrap_or_else(|| asks.subject.clone()),
            client: self.client,
            binding: asks.binding,
        };
        let key = self.key.unwrap_or_else(|| id.key());
        let session = Session::open(key, Arc::new(owner), "".into(), live.sessions.lifetimes, self.opened);
        Arc::new(session.following(self.flow).as_seen(self.last_seen, self.calls, self.standing, self.steps))
    }
}
