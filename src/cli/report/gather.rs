//! Gathers numbers from records, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sessiongate::policy::flow::Outcome;
use sessiongate::policy::ids::SessionKey;
use sessiongate::policy::time::Timestamp;
use sessiongate::trail::line::{Line, Verdict};

use super::funnel::Funnel;
use super::model::{Calls, Refusal, Report, RouteReport, Slice, Spread};
use super::sessions::{Deed, SessionTable};
use crate::cli::damage::Damage;
use crate::cli::times::Times;

/// Most slices of a timeline; beyond it slices get twice as long.
const SLICES: usize = 240;

/// Most routes, and most pairs of code and client, that are told apart: a file may hold anything.
const NAMES_MAX: usize = 10_000;

/// Under what further ones are counted.
const OTHER: &str = "(others)";

/// The route of the session endpoint.
const SESSION: &str = "session";

/// What was gathered so far.
pub struct Gathered {
    calls: Calls,
    sessions: SessionTable,
    refusals: HashMap<String, HashMap<String, u64>>,
    refusal_names: usize,
    routes: HashMap<String, Route>,
    timeline: Timeline,
    first: u64,
    last: u64,
}

struct Route {
    refused: u64,
    failed: u64,
    total: Times,
}

impl Gathered {
    /// Nothing yet.
    pub fn new(funnel: Option<Funnel>, idle: Duration) -> Self {
        Self {
            calls: Calls::default(),
            sessions: SessionTable::new(funnel, idle),
            refusals: HashMap::new(),
            refusal_names: 0,
            routes: HashMap::new(),
            timeline: Timeline { seconds: 1, slices: BTreeMap::new() },
            first: u64::MAX,
            last: 0,
        }
    }

    /// How many records there were.
    pub const fn records(&self) -> u64 {
        self.calls.count
    }

    /// Takes a record.
    pub fn add(&mut self, line: &Line<'_>) {
        let refused = line.verdict == Verdict::Refused;
        self.calls.count += 1;
        self.calls.refused += u64::from(refused);
        self.calls.bytes_in += line.bytes_in;
        self.calls.bytes_out += line.bytes_out;
        self.add_route(line, refused);
        if refused {
            self.add_refusal(line);
        }
        // A record without a usable time is counted, but not in anything about time.
        let Some(at) = line.moment().and_then(|moment| u64::try_from(moment.as_millisecond()).ok()) else { return };
        (self.first, self.last) = (self.first.min(at), self.last.max(at));
        self.timeline.add(at / 1000, refused);
        if let Ok(session) = SessionKey::parse(&line.session) {
            let deed = self.deed(line, refused);
            self.sessions.add(session, at, line.number, deed);
        }
    }

    fn add_route(&mut self, line: &Line<'_>, refused: bool) {
        let known = self.routes.contains_key(&*line.route);
        let name = if known || self.routes.len() < NAMES_MAX { &*line.route } else { OTHER };
        if !known && !self.routes.contains_key(name) {
            self.routes.insert(name.to_owned(), Route { refused: 0, failed: 0, total: Times::coarse() });
        }
        if let Some(route) = self.routes.get_mut(name) {
            route.refused += u64::from(refused);
            route.failed += u64::from(!refused && line.status >= 500);
            route.total.add(Duration::from_micros(line.total_us));
        }
    }

    fn add_refusal(&mut self, line: &Line<'_>) {
        if let Some(calls) = self.refusals.get_mut(&*line.code).and_then(|clients| clients.get_mut(&*line.client)) {
            *calls += 1;
            return;
        }
        let room = self.refusal_names < NAMES_MAX;
        self.refusal_names += usize::from(room);
        let (code, client) = if room { (&*line.code, &*line.client) } else { (OTHER, OTHER) };
        *self.refusals.entry(code.to_owned()).or_default().entry(client.to_owned()).or_insert(0) += 1;
    }

    fn deed(&mut self, line: &Line<'_>, refused: bool) -> Deed {
        if !line.step.is_empty()
            && line.step_outcome == Outcome::Committed.as_str()
            && let Some(step) = self.sessions.flow_step(&line.step)
        {
            return Deed::Reach(step);
        }
        let succeeded = !refused && matches!(line.status, 101 | 200..400);
        match (&*line.method, &*line.route) {
            _ if !succeeded => Deed::Nothing,
            ("POST", SESSION) => Deed::Open,
            ("DELETE", SESSION) => Deed::Close,
            (_, SESSION | "-") => Deed::Nothing,
            (_, route) => self.sessions.step(route).map_or(Deed::Nothing, Deed::Reach),
        }
    }

    /// What came out.
    pub fn report(self, files: usize, damage: &Damage) -> Report {
        let time = |millis: u64| Timestamp::from_millis(millis).precise().to_string();
        let first = self.first.min(self.last);
        let (sessions, funnel) = self.sessions.finish();
        let refusals = self.refusals.into_iter().flat_map(|(code, clients)| {
            clients.into_iter().map(move |(client, calls)| Refusal { code: code.clone(), client, calls })
        });
        let mut refusals: Vec<_> = refusals.collect();
        refusals.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| (&a.code, &a.client).cmp(&(&b.code, &b.client))));
        let routes = self.routes.into_iter().filter_map(|(name, route)| {
            let Route { refused, failed, total } = route;
            Some(RouteReport { name, calls: total.count(), refused, failed, total_ms: Spread::of(&total)? })
        });
        let mut routes: Vec<_> = routes.collect();
        routes.sort_by(|a, b| b.total_ms.p99.total_cmp(&a.total_ms.p99).then_with(|| a.name.cmp(&b.name)));
        Report {
            version: 1,
            files,
            damaged: damage.lines(),
            from: time(first),
            to: time(self.last),
            calls: self.calls,
            sessions,
            funnel,
            refusals,
            routes,
            timeline: self.timeline.report(first / 1000),
        }
    }
}

/// Calls over time, in slices that get longer as the time does.
struct Timeline {
    seconds: u64,
    /// By number of the slice since the epoch: calls, and refused ones.
    slices: BTreeMap<u64, (u64, u64)>,
}

impl Timeline {
    fn add(&mut self, second: u64, refused: bool) {
        let slice = self.slices.entry(second / self.seconds).or_default();
        slice.0 += 1;
        slice.1 += u64::from(refused);
        while self.slices.len() > SLICES {
            self.seconds *= 2;
            let mut wider: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (number, (calls, refused)) in std::mem::take(&mut self.slices) {
                let slice = wider.entry(number / 2).or_default();
                *slice = (slice.0 + calls, slice.1 + refused);
            }
            self.slices = wider;
        }
    }

    fn report(self, first: u64) -> Vec<Slice> {
        let seconds = self.seconds;
        let begin = first / seconds * seconds;
        let slice = |(number, (calls, refused)): (u64, (u64, u64))| Slice {
            at: (number * seconds).saturating_sub(begin),
            seconds,
            calls,
            refused,
        };
        self.slices.into_iter().map(slice).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_has_few_slices_however_long_it_is() {
        let mut timeline = Timeline { seconds: 1, slices: BTreeMap::new() };
        (0..100_000).for_each(|second| timeline.add(1_000_000 + second, second % 10 == 0));
        let slices = timeline.report(1_000_000);
        assert!((SLICES / 2..=SLICES).contains(&slices.len()), "{}", slices.len());
        assert_eq!(slices.iter().map(|slice| slice.calls).sum::<u64>(), 100_000);
        assert_eq!(slices.iter().map(|slice| slice.refused).sum::<u64>(), 10_000);
    }
}
