//! Counts what becomes of calls.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sessiongate::policy::time::Timestamp;
use sessiongate::replay::{Change, Gap, Judgment, Kind, Recorded};

use super::model::{Calls, Changed, Client, Example, NotReplayable, Report};
use crate::cli::damage::Damage;

/// How many examples each change has.
const EXAMPLES: usize = 3;

/// Most changes, and most clients of one, that are told apart: a file may hold anything.
const NAMES_MAX: usize = 10_000;

/// Under what further ones are counted.
const OTHER: &str = "(others)";

/// What was counted so far.
#[derive(Debug)]
pub struct Tally {
    calls: Calls,
    changes: HashMap<Key, Counted>,
    gaps: HashMap<Gap, u64>,
    first: u64,
    last: u64,
}

/// What makes two changes the same.
type Key = (Kind, &'static str, &'static str, Arc<str>);

#[derive(Debug, Default)]
struct Counted {
    calls: u64,
    in_part: u64,
    clients: HashMap<Arc<str>, u64>,
    examples: Vec<Example>,
}

impl Default for Tally {
    fn default() -> Self {
        let (calls, changes, gaps) = (Calls::default(), HashMap::new(), HashMap::new());
        Self { calls, changes, gaps, first: u64::MAX, last: 0 }
    }
}

impl Tally {
    /// How many calls there were.
    pub const fn calls(&self) -> u64 {
        self.calls.count
    }

    /// How many of them have another verdict.
    pub const fn changed(&self) -> u64 {
        self.calls.changed
    }

    /// Counts a record that cannot be placed among the others.
    pub fn unplaced(&mut self, gap: Gap) {
        self.calls.count += 1;
        self.not_replayable(gap);
    }

    /// Counts a call.
    pub fn add(&mut self, call: &Recorded, judgment: Judgment) {
        self.calls.count += 1;
        let at = call.time.as_millis();
        (self.first, self.last) = (self.first.min(at), self.last.max(at));
        match judgment {
            Judgment::Same => self.calls.unchanged += 1,
            Judgment::Unknown(gap) => self.not_replayable(gap),
            Judgment::Changed(change) => self.change(call, change),
        }
    }

    fn not_replayable(&mut self, gap: Gap) {
        self.calls.not_replayable += 1;
        *self.gaps.entry(gap).or_insert(0) += 1;
    }

    fn change(&mut self, call: &Recorded, change: Change) {
        self.calls.changed += 1;
        match change.kind {
            Kind::Refused => self.calls.newly_refused += 1,
            Kind::Admitted => self.calls.newly_admitted += 1,
            Kind::Otherwise => self.calls.refused_otherwise += 1,
        }
        let Change { kind, was, now, rule, in_part } = change;
        let mut key = (kind, was, now, rule);
        if self.changes.len() >= NAMES_MAX && !self.changes.contains_key(&key) {
            key.3 = OTHER.into();
        }
        let counted = self.changes.entry(key).or_default();
        counted.calls += 1;
        counted.in_part += u64::from(in_part);
        let known = counted.clients.contains_key(&call.client);
        let client = if known || counted.clients.len() < NAMES_MAX { Arc::clone(&call.client) } else { OTHER.into() };
        *counted.clients.entry(client).or_insert(0) += 1;
        if counted.examples.len() < EXAMPLES {
            counted.examples.push(example(call));
        }
    }

    /// What came out.
    pub fn report(
        self,
        config: &Path,
        files: usize,
        damage: &Damage,
        out_of_order: u64,
        rate_rules_left_out: Vec<String>,
    ) -> Report {
        let time = |millis: u64| Timestamp::from_millis(millis).precise().to_string();
        let changes = self.changes.into_iter().map(|((kind, was, now, rule), counted)| Changed {
            kind: name(kind),
            was,
            now,
            rule: rule.to_string(),
            calls: counted.calls,
            in_part: counted.in_part,
            clients: clients(counted.clients),
            examples: counted.examples,
        });
        let mut changes: Vec<_> = changes.collect();
        let place = |change: &Changed| (change.kind, change.was, change.now, change.rule.clone());
        changes.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| place(a).cmp(&place(b))));
        let gaps = self.gaps.into_iter();
        let gaps = gaps.map(|(gap, calls)| NotReplayable { reason: gap.as_str(), meaning: gap.meaning(), calls });
        let mut not_replayable: Vec<_> = gaps.collect();
        not_replayable.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.reason.cmp(b.reason)));
        Report {
            version: 1,
            config: config.display().to_string(),
            files,
            damaged: damage.lines(),
            from: time(self.first.min(self.last)),
            to: time(self.last),
            calls: self.calls,
            changes,
            not_replayable,
            rate_rules_left_out,
            out_of_order,
        }
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Refused => "newly_refused",
        Kind::Admitted => "newly_admitted",
        Kind::Otherwise => "refused_otherwise",
    }
}

fn clients(counted: HashMap<Arc<str>, u64>) -> Vec<Client> {
    let clients = counted.into_iter().map(|(client, calls)| Client { client: client.to_string(), calls });
    let mut clients: Vec<_> = clients.collect();
    clients.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.client.cmp(&b.client)));
    clients
}

fn example(call: &Recorded) -> Example {
    Example {
        time: call.time.precise().to_string(),
        session: call.session.map(|session| session.to_string()).unwrap_or_default(),
        request_id: call.request.to_string(),
        client: call.client.to_string(),
        method: call.verb.map_or("-", |verb| verb.as_str()),
        route: call.route.to_string(),
    }
}
