//! A second opinion: a model that keeps the whole history of a session and answers every question by reading it, beside
//! sets of bits that forget it. Both see the same calls, outcomes, reloads and clocks, and must never disagree.

use proptest::prelude::*;

use super::*;
use crate::policy::ids::{ClientId, Owner, SessionId};
use crate::policy::session::{Lifetimes, Session};
use crate::policy::time::Timestamp;

/// What a session lives through.
#[derive(Debug, Clone)]
enum Event {
    /// A call of a step comes.
    Call { route: usize, writes: bool, has_key: bool, is_retry: bool },
    /// One of the running calls ends.
    End { which: usize, outcome: Outcome },
    /// Time passes.
    Wait { secs: u64 },
    /// Another configuration comes into force.
    Reload { to: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..6_usize, prop::bool::weighted(0.8), prop::bool::weighted(0.8), prop::bool::weighted(0.2))
            .prop_map(|(route, writes, has_key, is_retry)| Event::Call { route, writes, has_key, is_retry }),
        5 => (0..4_usize, prop::sample::select(Outcome::ALL.to_vec()))
            .prop_map(|(which, outcome)| Event::End { which, outcome }),
        2 => (0..12_u64).prop_map(|secs| Event::Wait { secs }),
        1 => (0..3_usize).prop_map(|to| Event::Reload { to }),
    ]
}

/// Steps with rules at random; each may wait for those before it.
fn flow() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        (prop::bits::u8::masked(0b11_1111), prop::bits::u8::masked(0b11_1111), any::<bool>(), any::<bool>()),
        (prop::option::weighted(0.3, 1..4_u8), prop::option::weighted(0.2, 1..6_u64)),
        (prop::option::weighted(0.2, 4..15_u64), prop::bool::weighted(0.15)),
        (
            0..3_usize,
            prop::sample::select(vec![Severity::Enforce, Severity::Enforce, Severity::Enforce, Severity::Observe]),
        ),
    );
    prop::collection::vec(step, 1..=6).prop_map(|drawn| {
        let count = drawn.len();
        let after = |bits: u8, place: usize| -> StepSet {
            (0..count).filter(|other| other < &place && bits & 1 << other != 0).map(id).collect()
        };
        let mut steps = Vec::with_capacity(count);
        for (place, drawn) in drawn.into_iter().enumerate() {
            let ((all, any, repeat, exclusive), (most, least), (longest, terminal), (key, severity)) = drawn;
            steps.push(Step {
                after_all: after(all & any, place),
                after_any: after(any & !all, place),
                repeat: repeat && !terminal,
                exclusive,
                max_attempts: most.map(|most| MaxAttempts { counter: u8::try_from(place).unwrap(), most }),
                min_gap: least.map(secs),
                max_gap: longest.map(secs),
                terminal: terminal.then(|| secs(8)),
                idempotency: [Idempotency::Required, Idempotency::Optional, Idempotency::Off][key],
                severity,
                ..super::step(&format!("s{place}"), &[])
            });
        }
        steps
    })
}

/// A running call, as the model sees it.
#[derive(Debug, Clone, Copy)]
struct Running {
    step: usize,
    writes: bool,
    /// Whether it was the only one of its step when it came.
    alone: bool,
}

/// What has ended, in order.
#[derive(Debug, Clone, Copy)]
struct Ended {
    call: Running,
    outcome: Outcome,
    at: u64,
}

#[derive(Debug, Default)]
struct Model {
    entered: Vec<usize>,
    running: Vec<Running>,
    ended: Vec<Ended>,
}

impl Model {
    fn is_single(steps: &[Step], step: usize) -> bool {
        !steps[step].repeat || steps[step].exclusive
    }

    /// The commits that count: none after a terminal one.
    fn commits(&self, steps: &[Step]) -> Vec<(usize, u64)> {
        let mut commits: Vec<(usize, u64)> = Vec::new();
        for ended in self.ended.iter().filter(|ended| ended.outcome == Outcome::Committed) {
            if commits.last().is_none_or(|(last, _)| steps[*last].terminal.is_none()) {
                commits.push((ended.call.step, ended.at));
            }
        }
        commits
    }

    fn is_done(&self, step: usize) -> bool {
        self.ended.iter().any(|ended| ended.call.step == step && ended.outcome == Outcome::Committed)
    }

    /// Whether the last word on a step is that nobody knows.
    fn is_unknown(&self, steps: &[Step], step: usize) -> bool {
        let words = self.ended.iter().filter(|ended| ended.call.step == step);
        let mut words = words.filter_map(|ended| match ended.outcome {
            Outcome::Committed => Some(false),
            Outcome::Indeterminate => (ended.call.writes && Self::is_single(steps, step)).then_some(true),
            Outcome::RolledBack => ended.call.alone.then_some(false),
            Outcome::Unsent => None,
        });
        words.next_back().unwrap_or(false)
    }

    fn runs(&self, step: usize) -> bool {
        self.running.iter().any(|call| call.step == step && call.alone)
    }

    fn judge(&self, steps: &[Step], step: usize, attempt: Attempt, now: u64) -> Result<(), Denial> {
        let rules = &steps[step];
        if rules.idempotency == Idempotency::Required && !attempt.has_key {
            return Err(Denial::KeyMissing);
        }
        let last = self.commits(steps).last().copied();
        let gap = secs(now - last.map_or(0, |(_, at)| at));
        if let Some(grace) = last.and_then(|(last, _)| steps[last].terminal) {
            return if attempt.writes || gap >= grace { Err(Denial::Over) } else { Ok(()) };
        }
        let all = |steps: StepSet| steps.iter().all(|before| self.is_done(before.place()));
        let any = |steps: StepSet| steps.iter().any(|before| self.is_done(before.place()));
        if !all(rules.after_all) || !rules.after_any.is_empty() && !any(rules.after_any) {
            return Err(Denial::Order);
        }
        if !rules.repeat && self.is_done(step) {
            return Err(Denial::Repeat);
        }
        if attempt.writes {
            let exclusive = |other: &usize| steps[*other].exclusive;
            let others = || (0..steps.len()).filter(exclusive);
            if Self::is_single(steps, step) && self.runs(step)
                || others().any(|other| self.runs(other))
                || rules.exclusive && self.running.iter().any(|call| call.writes)
            {
                return Err(Denial::InProgress);
            }
            if others().any(|other| other != step && self.is_unknown(steps, other)) {
                return Err(Denial::Indeterminate);
            }
            if self.is_unknown(steps, step) {
                return if attempt.is_retry { Ok(()) } else { Err(Denial::Indeterminate) };
            }
        }
        let unsent = self.ended.iter().filter(|ended| ended.call.step == step && ended.outcome == Outcome::Unsent);
        let tries = self.entered.iter().filter(|entered| **entered == step).count() - unsent.count();
        if rules.max_attempts.is_some_and(|limit| tries >= usize::from(limit.most)) {
            return Err(Denial::Attempts);
        }
        match (rules.min_gap, rules.max_gap) {
            (Some(least), _) if gap < least => {
                Err(Denial::TooEarly(Wait(u32::try_from((least - gap).as_secs()).unwrap())))
            }
            (_, Some(most)) if gap > most => Err(Denial::TooLate),
            _ => Ok(()),
        }
    }

    fn enter(&mut self, steps: &[Step], step: usize, writes: bool) -> Option<Running> {
        let is_over = self.commits(steps).last().is_some_and(|(last, _)| steps[*last].terminal.is_some());
        if is_over {
            return None;
        }
        let call = Running { step, writes, alone: writes && Self::is_single(steps, step) && !self.runs(step) };
        self.entered.push(step);
        self.running.push(call);
        Some(call)
    }
}

/// One configuration: the steps, and the names that its routes have.
fn configured(steps: &[Step], routes: &str) -> Arc<Flow> {
    let methods = MethodSet::NONE.with(Verb::Post).with(Verb::Get);
    let binding = |place| Binding { route: format!("{routes}{place}").into(), methods, step: id(place) };
    Arc::new(Flow::new("flow".into(), steps.to_vec(), (0..steps.len()).map(binding).collect()))
}

fn session(flow: &Arc<Flow>) -> Session {
    let owner = Owner { issuer: None, client: ClientId::parse("a").unwrap(), subject: None, binding: None };
    let lifetimes = Lifetimes { idle: secs(100_000), absolute: secs(100_000) };
    let key = SessionId::from_random([1; 16]).key();
    Session::open(key, Arc::new(owner), "".into(), lifetimes, Timestamp::EPOCH).following(Some(Arc::clone(flow)))
}

fn cases() -> u32 {
    let scale = std::env::var("SESSIONGATE_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    10_000_u32.saturating_mul(scale)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_history_makes_the_rules_and_the_model_disagree(
        steps in flow(),
        // What later configurations say of steps that a running session has.
        other in flow(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let pinned = configured(&steps, "old-");
        let later = [Arc::clone(&pinned), configured(&steps, "new-"), configured(&other, "old-")];
        let names = ["old-", "new-", "old-"];
        let session = session(&pinned);
        let (mut model, mut live, mut now) = (Model::default(), 0, 0);
        let mut running: Vec<(Running, StepMark, Entered)> = Vec::new();
        for event in events {
            match event {
                Event::Wait { secs } => now += secs,
                Event::Reload { to } => live = to,
                Event::Call { route, writes, has_key, is_retry } => {
                    let flows = Flows::new(vec![(vec![], Arc::clone(&later[live]))]);
                    let verb = if writes { Verb::Post } else { Verb::Get };
                    let place = flows.step_of(&pinned, &format!("{}{route}", names[live]), verb);
                    prop_assert_eq!(place, (route < steps.len()).then(|| id(route)), "a reload changes no rule");
                    let Some(step) = place else { continue };
                    let attempt = Attempt { step, writes, has_key, is_retry };
                    let expected = model.judge(&steps, route, attempt, now);
                    let enforced = steps[route].severity == Severity::Enforce;
                    let found = session.visit(|progress| {
                        Ok::<_, ()>(pinned.enter(&mut progress.steps, attempt, secs(now)))
                    }).unwrap();
                    match found {
                        Err(mark) => {
                            prop_assert!(enforced);
                            prop_assert_eq!(mark.broken.map(|(denial, _)| denial), expected.err());
                        }
                        Ok((mark, entered, _)) => {
                            prop_assert_eq!(mark.broken.map(|(denial, _)| denial), expected.err());
                            prop_assert!(expected.is_ok() || !enforced);
                            let call = model.enter(&steps, route, writes);
                            prop_assert_eq!(call.is_some(), entered.is_some());
                            running.extend(call.zip(entered).map(|(call, entered)| (call, mark, entered)));
                        }
                    }
                }
                Event::End { which, outcome } => {
                    if which >= running.len() {
                        continue;
                    }
                    let (call, mut mark, entered) = running.remove(which);
                    session.visit(|progress| {
                        pinned.settle(&mut progress.steps, &mut mark, entered, outcome, secs(now));
                        Ok::<_, ()>(())
                    }).unwrap();
                    model.running.remove(which);
                    let gap = now - model.commits(&steps).last().map_or(0, |(_, at)| *at);
                    model.ended.push(Ended { call, outcome, at: now });
                    prop_assert_eq!(mark.gap, (outcome == Outcome::Committed).then(|| secs(gap)));
                }
            }
            let (_, found) = session.steps().unwrap();
            let places = || 0..steps.len();
            prop_assert_eq!(found.done(), places().filter(|step| model.is_done(*step)).map(id).collect());
            let unknown: StepSet = places().filter(|step| model.is_unknown(&steps, *step)).map(id).collect();
            prop_assert_eq!(found.unknown(), unknown);
            prop_assert_eq!(found.last().map(StepId::place), model.commits(&steps).last().map(|(step, _)| *step));
            let exclusive = model.running.iter().filter(|call| call.writes && steps[call.step].exclusive
                && steps[call.step].severity == Severity::Enforce);
            let by_rule = model.running.iter().filter(|call| call.writes && steps[call.step].severity == Severity::Enforce);
            prop_assert!(exclusive.count() == 0 || by_rule.count() == 1, "an exclusive step runs alone");
        }
    }
}
