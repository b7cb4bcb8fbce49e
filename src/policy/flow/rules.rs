//! What a call may do in a flow, and what is written down of it.

use std::time::Duration;

use super::{COUNTERS_MAX, Flow, Idempotency, Step, StepId, StepSet};
use crate::policy::method::Verb;
use crate::policy::rejection::{Rejection, Wait};
use crate::policy::severity::Severity;

/// Where a session stands in its flow. Times count from its opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    /// Steps that were done.
    done: StepSet,
    /// Steps under way that no second call may do beside.
    running: StepSet,
    /// Steps of which nobody knows whether they were done.
    unknown: StepSet,
    /// Running calls of steps that may change something.
    writes: u16,
    /// The step that was done last.
    last: Option<StepId>,
    /// When that was, in milliseconds; until then, the opening.
    at: u32,
    /// Attempts of the steps that limit them.
    attempts: [u8; COUNTERS_MAX],
}

impl Steps {
    /// The step that was done last.
    #[must_use]
    pub const fn last(&self) -> Option<StepId> {
        self.last
    }

    /// Steps that were done.
    #[must_use]
    pub const fn done(&self) -> StepSet {
        self.done
    }

    /// Steps of which nobody knows whether they were done.
    #[must_use]
    pub const fn unknown(&self) -> StepSet {
        self.unknown
    }

    /// Steps under way that no second call may do beside.
    #[must_use]
    pub const fn running(&self) -> StepSet {
        self.running
    }

    /// When the last step was done, as time since the opening of the session; until then, the opening.
    #[must_use]
    pub const fn last_at(&self) -> Duration {
        Duration::from_millis(self.at as u64)
    }

    /// How often a step was tried, if it limits that.
    #[must_use]
    pub fn attempts(&self, step: &Step) -> Option<u8> {
        step.max_attempts.map(|limit| attempts(self, limit.counter))
    }

    /// The same, after a step was tried so often.
    #[must_use]
    pub fn with_attempts(mut self, step: &Step, tried: u8) -> Self {
        if let Some(count) = counter(&mut self, step) {
            *count = tried;
        }
        self
    }

    /// Where a session stands by somebody's account: steps that were done, that run, whose outcome is unknown; and the
    /// last one with the time of it since the opening.
    #[must_use]
    pub fn told(done: StepSet, running: StepSet, unknown: StepSet, last: Option<(StepId, Duration)>) -> Self {
        let writes = u16::try_from(running.iter().count()).unwrap_or(u16::MAX);
        let at = last.map_or(0, |(_, at)| millis(at));
        Self { done, running, unknown, writes, last: last.map(|(step, _)| step), at, attempts: [0; COUNTERS_MAX] }
    }
}

/// A call that wants to do a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The step.
    pub step: StepId,
    /// Whether its method may change something.
    pub writes: bool,
    /// Whether it brings an Idempotency-Key.
    pub has_key: bool,
    /// Whether it repeats, with the same key, a call of the step whose outcome nobody knows.
    pub is_retry: bool,
}

/// The rule that speaks against a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// It needs an Idempotency-Key and has none.
    KeyMissing,
    /// The flow is over.
    Over,
    /// A step that must come before was not done.
    Order,
    /// It was done and may not be done again.
    Repeat,
    /// It runs, or one that suffers nothing beside it does.
    InProgress,
    /// Nobody knows whether it, or one that suffers nothing beside it, was done.
    Indeterminate,
    /// It was tried as often as it may be.
    Attempts,
    /// It comes too soon after the step before. So many seconds are to wait.
    TooEarly(Wait),
    /// It comes too late after the step before.
    TooLate,
}

impl Denial {
    /// Number of rules.
    pub const COUNT: usize = 9;

    /// Their names in metrics, logs and response fields, in the order of [`Self::index`].
    pub const NAMES: [&'static str; Self::COUNT] = [
        "idempotency-key",
        "terminal",
        "after",
        "repeat",
        "in-progress",
        "indeterminate",
        "max_attempts",
        "min_gap",
        "max_gap",
    ];

    /// Place in [`Self::NAMES`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::KeyMissing => 0,
            Self::Over => 1,
            Self::Order => 2,
            Self::Repeat => 3,
            Self::InProgress => 4,
            Self::Indeterminate => 5,
            Self::Attempts => 6,
            Self::TooEarly(_) => 7,
            Self::TooLate => 8,
        }
    }

    /// Name of the rule.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// What the caller is told.
    #[must_use]
    pub const fn rejection(self) -> Rejection {
        match self {
            Self::KeyMissing => Rejection::IdempotencyKeyMissing,
            Self::Over => Rejection::FlowOver,
            Self::Order => Rejection::StepOutOfOrder,
            Self::Repeat => Rejection::StepRepeated,
            Self::InProgress => Rejection::StepInProgress,
            Self::Indeterminate => Rejection::StepIndeterminate,
            Self::Attempts => Rejection::StepAttempts,
            Self::TooEarly(wait) => Rejection::StepTooEarly(wait),
            Self::TooLate => Rejection::StepTooLate,
        }
    }
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Committed,
    /// It was refused, or failed: as if it had not been tried.
    RolledBack,
    /// It never reached the upstream: not even an attempt.
    Unsent,
    /// It was sent, and nobody knows what came of it.
    Indeterminate,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Committed, Self::RolledBack, Self::Unsent, Self::Indeterminate];

    /// Name in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Unsent => "unsent",
            Self::Indeterminate => "indeterminate",
        }
    }

    /// What an upstream's answer says. A success is one, and so are `303`, which sends the client to what was made, and
    /// `304`, which says that it has it already. `502` and `504` are the words of a gateway that does not know; any other
    /// error says that the step was not done.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            101 | 200..=299 | 303 | 304 => Self::Committed,
            502 | 504 => Self::Indeterminate,
            _ => Self::RolledBack,
        }
    }
}

/// Proof that the step rules let a call pass. Made only where they were asked.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Grant(());

impl Grant {
    /// For a call that gets the answer of the one that it repeats, which the rules had let pass.
    pub const fn repeated() -> Self {
        Self(())
    }

    /// For a call that is no step of its session's flow.
    pub(in crate::policy) const fn no_step() -> Self {
        Self(())
    }
}

/// What a call that does a step holds until it is known what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    step: StepId,
    writes: bool,
    /// Whether it is the one that runs.
    holds: bool,
    counted: bool,
}

/// What is told of a call and its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMark {
    /// The step that the call is.
    pub step: StepId,
    /// The step that was done last when it came.
    pub before: Option<StepId>,
    /// The step that was done last when its outcome was known.
    pub after: Option<StepId>,
    /// The rule that it broke, and what that led to.
    pub broken: Option<(Denial, Severity)>,
    /// What became of it, once that is known.
    pub outcome: Option<Outcome>,
    /// Time between the step before, or the opening, and this one, if it was done.
    pub gap: Option<Duration>,
}

impl StepMark {
    /// Of a call of which no rule was asked.
    #[must_use]
    pub const fn of(step: StepId, steps: &Steps) -> Self {
        Self { step, before: steps.last, after: steps.last, broken: None, outcome: None, gap: None }
    }
}

impl Flow {
    /// Lets a call into its step, or says which rule speaks against it. Where rules are broken that refuse nothing, it
    /// enters all the same. A call that only reads after the last step passes without entering. `since` is the time since
    /// the opening of the session.
    ///
    /// # Errors
    /// The mark of a call that is refused.
    pub fn enter(
        &self,
        steps: &mut Steps,
        attempt: Attempt,
        since: Duration,
    ) -> Result<(StepMark, Option<Entered>, Grant), StepMark> {
        let mut mark = StepMark::of(attempt.step, steps);
        let Some(step) = self.step(attempt.step) else { return Ok((mark, None, Grant(()))) };
        if step.severity != Severity::Off
            && let Err(denial) = self.judge(steps, step, attempt, since)
        {
            mark.broken = Some((denial, step.severity));
            if step.severity == Severity::Enforce {
                return Err(mark);
            }
        }
        if self.over(steps).is_some() {
            return Ok((mark, None, Grant(())));
        }
        let holds = attempt.writes && step.is_single() && !steps.running.contains(attempt.step);
        if holds {
            steps.running = steps.running.with(attempt.step);
        }
        if attempt.writes {
            steps.writes = steps.writes.saturating_add(1);
        }
        let counter = counter(steps, step);
        let counted = counter.as_ref().is_some_and(|count| **count < u8::MAX);
        if counted && let Some(count) = counter {
            *count += 1;
        }
        Ok((mark, Some(Entered { step: attempt.step, writes: attempt.writes, holds, counted }), Grant(())))
    }

    /// Writes down what became of a step.
    pub fn settle(&self, steps: &mut Steps, mark: &mut StepMark, entered: Entered, outcome: Outcome, since: Duration) {
        let Entered { step: id, writes, holds, counted } = entered;
        let is_over = self.over(steps).is_some();
        if writes {
            steps.writes = steps.writes.saturating_sub(1);
        }
        if holds {
            steps.running = steps.running.without(id);
        }
        let single = self.step(id).is_some_and(Step::is_single);
        // To do again what may be done again harms nobody; what only reads has no outcome that matters.
        let outcome = match outcome {
            Outcome::Indeterminate if !(single && writes) => Outcome::RolledBack,
            outcome => outcome,
        };
        match outcome {
            Outcome::Committed => {
                (steps.done, steps.unknown) = (steps.done.with(id), steps.unknown.without(id));
                let at = millis(since).max(steps.at);
                mark.gap = Some(Duration::from_millis(u64::from(at - steps.at)));
                // What ends after the end changes nothing of it.
                if !is_over {
                    (steps.last, steps.at) = (Some(id), at);
                }
            }
            Outcome::RolledBack => steps.unknown = if holds { steps.unknown.without(id) } else { steps.unknown },
            Outcome::Indeterminate => steps.unknown = steps.unknown.with(id),
            Outcome::Unsent => {
                if counted && let Some(count) = self.step(id).and_then(|step| counter(steps, step)) {
                    *count = count.saturating_sub(1);
                }
            }
        }
        (mark.after, mark.outcome) = (steps.last, Some(outcome));
    }

    /// Steps that may be called next, those included that must wait a little.
    #[must_use]
    pub fn allowed(&self, steps: &Steps, since: Duration) -> StepSet {
        let allowed = |id: &StepId| {
            let Some(step) = self.step(*id) else { return false };
            let is_retry = step.idempotency != Idempotency::Off;
            let writes = self.bindings().iter().any(|bound| bound.step == *id && bound.writes());
            let attempt = Attempt { step: *id, writes, has_key: true, is_retry };
            match self.judge(steps, step, attempt, since) {
                Ok(()) | Err(Denial::TooEarly(_)) => self.over(steps).is_none(),
                Err(_) => step.severity != Severity::Enforce && self.over(steps).is_none(),
            }
        };
        (0..self.steps().len()).filter_map(StepId::at).filter(allowed).collect()
    }

    /// For how long after it calls are taken that only read, if the last step was done.
    fn over(&self, steps: &Steps) -> Option<Duration> {
        steps.last.and_then(|last| self.step(last)).and_then(|last| last.terminal)
    }

    fn judge(&self, steps: &Steps, step: &Step, attempt: Attempt, since: Duration) -> Result<(), Denial> {
        let Attempt { step: id, writes, has_key, is_retry } = attempt;
        if step.idempotency == Idempotency::Required && !has_key {
            return Err(Denial::KeyMissing);
        }
        let gap = since.saturating_sub(Duration::from_millis(u64::from(steps.at)));
        if let Some(grace) = self.over(steps) {
            return if !writes && gap < grace { Ok(()) } else { Err(Denial::Over) };
        }
        if !step.after_all.is_within(steps.done) || !(step.after_any.is_empty() || step.after_any.meets(steps.done)) {
            return Err(Denial::Order);
        }
        if !step.repeat && steps.done.contains(id) {
            return Err(Denial::Repeat);
        }
        if writes {
            self.judge_beside(steps, step, id)?;
            if steps.unknown.contains(id) {
                // What was tried once already is not held against its repetition.
                return if is_retry { Ok(()) } else { Err(Denial::Indeterminate) };
            }
        }
        if step.max_attempts.is_some_and(|limit| attempts(steps, limit.counter) >= limit.most) {
            return Err(Denial::Attempts);
        }
        match (step.min_gap, step.max_gap) {
            (Some(least), _) if gap < least => {
                let left = least.saturating_sub(gap).as_millis().div_ceil(1000);
                Err(Denial::TooEarly(Wait(u32::try_from(left).unwrap_or(u32::MAX))))
            }
            (_, Some(most)) if gap > most => Err(Denial::TooLate),
            _ => Ok(()),
        }
    }

    /// Whether a call that changes something may run beside those that do.
    fn judge_beside(&self, steps: &Steps, step: &Step, id: StepId) -> Result<(), Denial> {
        let alone = |set: StepSet| set.iter().any(|other| self.step(other).is_some_and(|step| step.exclusive));
        if steps.running.contains(id) || alone(steps.running) || step.exclusive && steps.writes > 0 {
            return Err(Denial::InProgress);
        }
        if alone(steps.unknown.without(id)) { Err(Denial::Indeterminate) } else { Ok(()) }
    }
}

impl super::Binding {
    /// Whether one of its methods may change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        Verb::ALL.into_iter().any(|verb| !verb.is_safe() && self.methods.contains(verb))
    }
}

fn attempts(steps: &Steps, counter: u8) -> u8 {
    steps.attempts.get(usize::from(counter)).copied().unwrap_or(u8::MAX)
}

fn counter<'s>(steps: &'s mut Steps, step: &Step) -> Option<&'s mut u8> {
    step.max_attempts.and_then(|limit| steps.attempts.get_mut(usize::from(limit.counter)))
}

/// Saturates after 49 days.
fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
