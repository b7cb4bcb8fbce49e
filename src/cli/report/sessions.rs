//! How far each session came. Sessions are kept only as long as more of their calls may come, so files may be larger
//! than memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use sessiongate::policy::ids::SessionKey;

use super::funnel::Funnel;
use super::model::{FunnelReport, Sessions, Spread, Step};
use crate::cli::times::Times;

/// A session without a call for so long is over, in milliseconds.
const OVER: u64 = 24 * 3600 * 1000;

/// Records of several workers are mixed within a tenth of a second, and files of several gates within a bit more: so
/// long calls wait for others that began before them, in milliseconds.
const MIXED: u64 = 5000;

/// How often sessions that are over are looked for, in milliseconds of the trail.
const SWEEP: u64 = 3600 * 1000;

/// Most steps, and most routes, that are told apart where none are given.
const STEPS_MAX: usize = 64;

/// The name of what comes before all steps.
const OPENED: &str = "opened";

/// What a call did for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// It opened it.
    Open,
    /// It reached a step.
    Reach(u8),
    /// Nothing that counts.
    Nothing,
    /// It closed it.
    Close,
}

/// A call of a session; the order is that of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: u64,
    number: u32,
    deed: Deed,
    session: SessionKey,
}

/// A session that may have more calls.
#[derive(Debug, Default)]
struct Live {
    last: u64,
    opened: Option<u64>,
    closed: bool,
    /// Steps in the order in which they were reached first.
    reached: Vec<(u8, u64)>,
}

/// What a step of the funnel is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Calls on a route, or whatever was given.
    Route,
    /// A step of the flow that its session follows.
    Step,
}

/// What is counted of a step.
struct Counted {
    name: String,
    kind: Kind,
    sessions: u64,
    left: u64,
    since_opening: Times,
    since_previous: Times,
    /// How often it was reached before each other one.
    before: Vec<u64>,
}

impl Counted {
    fn new(name: &str, kind: Kind) -> Self {
        let times = Times::coarse;
        Self {
            name: name.to_owned(),
            kind,
            sessions: 0,
            left: 0,
            since_opening: times(),
            since_previous: times(),
            before: Vec::new(),
        }
    }
}

/// All sessions.
pub struct SessionTable {
    funnel: Option<Funnel>,
    idle: u64,
    steps: Vec<Counted>,
    /// By route, or whatever was given.
    step_of: HashMap<String, u8>,
    /// By step of a flow, where none were given.
    flow_step_of: HashMap<String, u8>,
    waiting: BinaryHeap<Reverse<Event>>,
    live: HashMap<SessionKey, Live>,
    latest: u64,
    swept: u64,
    totals: Sessions,
    /// Sessions that reached no step, and were not under way at the end.
    left_at_once: u64,
}

impl SessionTable {
    /// No sessions yet.
    pub fn new(funnel: Option<Funnel>, idle: Duration) -> Self {
        let (mut steps, mut step_of) = (Vec::new(), HashMap::new());
        if let Some(funnel) = &funnel {
            steps.extend(funnel.names.iter().map(|name| Counted::new(name, Kind::Route)));
            let known = |(route, place): (&String, &usize)| Some((route.clone(), u8::try_from(*place).ok()?));
            step_of.extend(funnel.step_of.iter().filter_map(known));
        }
        Self {
            funnel,
            idle: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
            steps,
            step_of,
            flow_step_of: HashMap::new(),
            waiting: BinaryHeap::new(),
            live: HashMap::new(),
            latest: 0,
            swept: 0,
            totals: Sessions::default(),
            left_at_once: 0,
        }
    }

    /// The step that a successful call on this route reaches.
    pub fn step(&mut self, route: &str) -> Option<u8> {
        if let Some(step) = self.step_of.get(route) {
            return Some(*step);
        }
        if self.funnel.is_some() || self.step_of.len() >= STEPS_MAX {
            return None;
        }
        let step = self.add_step(route, Kind::Route)?;
        self.step_of.insert(route.to_owned(), step);
        Some(step)
    }

    /// The step that a call reaches which did this step of its session's flow.
    pub fn flow_step(&mut self, name: &str) -> Option<u8> {
        let known = if self.funnel.is_some() { &self.step_of } else { &self.flow_step_of };
        if let Some(step) = known.get(name) {
            return Some(*step);
        }
        if self.funnel.is_some() || self.flow_step_of.len() >= STEPS_MAX {
            return None;
        }
        let step = self.add_step(name, Kind::Step)?;
        self.flow_step_of.insert(name.to_owned(), step);
        Some(step)
    }

    fn add_step(&mut self, name: &str, kind: Kind) -> Option<u8> {
        let step = u8::try_from(self.steps.len()).ok()?;
        self.steps.push(Counted::new(name, kind));
        Some(step)
    }

    /// What the funnel is made of: steps of flows as soon as there are any, since they are what sessions are about.
    fn kind(&self) -> Kind {
        if self.flow_step_of.is_empty() { Kind::Route } else { Kind::Step }
    }

    /// Takes a call that began at this millisecond.
    pub fn add(&mut self, session: SessionKey, at: u64, number: u32, deed: Deed) {
        self.waiting.push(Reverse(Event { at, number, deed, session }));
        self.latest = self.latest.max(at);
        while let Some(Reverse(event)) = self.waiting.peek().copied() {
            if event.at.saturating_add(MIXED) > self.latest {
                break;
            }
            self.waiting.pop();
            self.apply(event);
        }
        if self.latest.saturating_sub(self.swept) >= SWEEP {
            self.swept = self.latest;
            self.sweep(self.latest.saturating_sub(OVER));
        }
    }

    fn apply(&mut self, event: Event) {
        let live = self.live.entry(event.session).or_default();
        live.last = live.last.max(event.at);
        match event.deed {
            Deed::Nothing => {}
            Deed::Open => live.opened = Some(live.opened.unwrap_or(event.at)),
            Deed::Close => live.closed = true,
            Deed::Reach(step) => {
                let next = match &self.funnel {
                    Some(_) => usize::from(step) == live.reached.len(),
                    None => live.reached.iter().all(|(known, _)| *known != step),
                };
                if next {
                    live.reached.push((step, event.at));
                }
            }
        }
    }

    /// Counts the sessions without a call since `before`, and forgets them.
    fn sweep(&mut self, before: u64) {
        let over: Vec<_> = self.live.extract_if(|_, live| live.last < before).map(|(_, live)| live).collect();
        over.iter().for_each(|live| self.count(live, false));
    }

    fn count(&mut self, live: &Live, under_way: bool) {
        self.totals.count += 1;
        self.totals.opened += u64::from(live.opened.is_some());
        self.totals.closed += u64::from(live.closed);
        self.totals.under_way += u64::from(under_way);
        let kind = self.kind();
        let is_shown = |step: &u8| self.steps.get(usize::from(*step)).is_some_and(|counted| counted.kind == kind);
        let reached: Vec<_> = live.reached.iter().copied().filter(|(step, _)| is_shown(step)).collect();
        let mut previous = live.opened;
        for (place, (step, at)) in reached.iter().enumerate() {
            let Some(counted) = self.steps.get_mut(usize::from(*step)) else { continue };
            counted.sessions += 1;
            let since = |then: u64| Duration::from_millis(at.saturating_sub(then));
            live.opened.into_iter().for_each(|then| counted.since_opening.add(since(then)));
            previous.replace(*at).into_iter().for_each(|then| counted.since_previous.add(since(then)));
            for (later, _) in reached.iter().skip(place + 1) {
                let later = usize::from(*later);
                if counted.before.len() <= later {
                    counted.before.resize(later + 1, 0);
                }
                if let Some(times) = counted.before.get_mut(later) {
                    *times += 1;
                }
            }
        }
        match reached.last() {
            _ if under_way => {}
            None => self.left_at_once += 1,
            Some((step, _)) => {
                if let Some(counted) = self.steps.get_mut(usize::from(*step)) {
                    counted.left += 1;
                }
            }
        }
    }

    /// What came out.
    pub fn finish(mut self) -> (Sessions, FunnelReport) {
        while let Some(Reverse(event)) = self.waiting.pop() {
            self.apply(event);
        }
        let recent = self.latest.saturating_sub(self.idle);
        for live in std::mem::take(&mut self.live).into_values() {
            self.count(&live, !live.closed && live.last > recent);
        }
        let all = self.totals.count;
        let share = |sessions: u64| if all == 0 { 0.0 } else { sessions as f64 / all as f64 };
        let opened = Step {
            name: OPENED.into(),
            sessions: all,
            share: share(all),
            left: self.left_at_once,
            since_opening_ms: None,
            since_previous_ms: None,
        };
        let order = self.order();
        let steps = order.into_iter().filter_map(|place| self.steps.get(place)).map(|counted| Step {
            name: counted.name.clone(),
            sessions: counted.sessions,
            share: share(counted.sessions),
            left: counted.left,
            since_opening_ms: Spread::of(&counted.since_opening),
            since_previous_ms: Spread::of(&counted.since_previous),
        });
        let steps = std::iter::once(opened).chain(steps).collect();
        let of_flow = self.kind() == Kind::Step;
        (self.totals, FunnelReport { in_order: self.funnel.is_some(), of_flow, steps })
    }

    /// The steps as they are shown: as they were given, or each before those that it was reached before more often.
    fn order(&self) -> Vec<usize> {
        let kind = self.kind();
        let shown = self.steps.iter().enumerate().filter(|(_, counted)| counted.kind == kind);
        let mut order: Vec<usize> = shown.map(|(place, _)| place).collect();
        if self.funnel.is_some() {
            return order;
        }
        let before = |a: usize, b: usize| self.steps.get(a).and_then(|step| step.before.get(b)).copied().unwrap_or(0);
        let wins = |a: usize| (0..self.steps.len()).filter(|b| before(a, *b) > before(*b, a)).count();
        let sessions = |a: usize| self.steps.get(a).map_or(0, |step| step.sessions);
        order.sort_by_key(|place| (Reverse(wins(*place)), Reverse(sessions(*place))));
        order
    }
}

#[cfg(test)]
mod tests;
