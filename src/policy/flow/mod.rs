//! The order of a session's steps.
//!
//! A [`Flow`] is a graph of named steps, compiled once; [`Steps`] is where one session stands in it, small enough to be
//! copied. `rules` decides what a call may do and writes down what became of it; `graph` finds steps that no session could
//! ever reach. A session keeps the flow that it was opened with, whatever is configured later.
//!
//! # Why sets of steps that are done, and no single position
//! Customers go back: they look at offers again after they have configured one. What a step needs is that others *were*
//! done, so a session holds the set of these, and going back undoes nothing. The cost: a flow that wants an earlier step
//! to make a later one void must say so with `max_gap`.

pub mod graph;
mod rules;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::rules::{Attempt, Denial, Entered, Grant, Outcome, StepMark, Steps};

use super::method::{MethodSet, Verb};
use super::severity::Severity;

/// Most steps of a flow.
pub const STEPS_MAX: usize = 32;

/// Most steps of a flow that limit their attempts: each needs a counter in every session.
pub const COUNTERS_MAX: usize = 8;

/// The place of a step in its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepId(u8);

impl StepId {
    /// The step at this place; none beyond [`STEPS_MAX`].
    #[must_use]
    pub fn at(place: usize) -> Option<Self> {
        u8::try_from(place).ok().filter(|_| place < STEPS_MAX).map(Self)
    }

    /// Its place.
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// A set of steps of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepSet(u32);

impl StepSet {
    /// No step.
    pub const NONE: Self = Self(0);

    /// The set with one more.
    #[must_use]
    pub const fn with(self, step: StepId) -> Self {
        Self(self.0 | 1 << step.0)
    }

    /// The set with one less.
    #[must_use]
    pub const fn without(self, step: StepId) -> Self {
        Self(self.0 & !(1 << step.0))
    }

    /// Whether a step is a member.
    #[must_use]
    pub const fn contains(self, step: StepId) -> bool {
        self.0 & 1 << step.0 != 0
    }

    /// Whether every member is one of `other`.
    #[must_use]
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether there is a common member.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Members of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is no member.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, in order.
    pub fn iter(self) -> impl Iterator<Item = StepId> {
        (0..u8::MAX).take(STEPS_MAX).map(StepId).filter(move |step| self.contains(*step))
    }
}

impl FromIterator<StepId> for StepSet {
    fn from_iter<I: IntoIterator<Item = StepId>>(steps: I) -> Self {
        steps.into_iter().fold(Self::NONE, Self::with)
    }
}

/// What a step has to do with an Idempotency-Key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// There must be one.
    Required,
    /// There may be one.
    Optional,
    /// It is the upstream's business.
    Off,
}

/// How often a step may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAttempts {
    /// Which counter of a session counts them: below [`COUNTERS_MAX`].
    pub counter: u8,
    /// Most of them.
    pub most: u8,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: Arc<str>,
    /// Steps that must all have been done.
    pub after_all: StepSet,
    /// Steps of which one must have been done, unless there are none.
    pub after_any: StepSet,
    /// Whether it may be done again.
    pub repeat: bool,
    /// Whether nothing else may be changed in the session while it runs.
    pub exclusive: bool,
    /// How often it may be tried, failures included; none: any number.
    pub max_attempts: Option<MaxAttempts>,
    /// Shortest time since the step before.
    pub min_gap: Option<Duration>,
    /// Longest time since the step before.
    pub max_gap: Option<Duration>,
    /// Whether it is the last one, and for how long calls of the flow that only read are taken after it.
    pub terminal: Option<Duration>,
    /// What it has to do with an Idempotency-Key.
    pub idempotency: Idempotency,
    /// What a call that breaks its rules leads to.
    pub severity: Severity,
}

impl Step {
    /// Whether two calls may not do it side by side: it is to happen once, or alone.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.exclusive || !self.repeat
    }
}

/// Calls that are a step: these methods of this route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Name of the route. Numbers change from one configuration to the next, names stay.
    pub route: Arc<str>,
    /// The methods.
    pub methods: MethodSet,
    /// The step.
    pub step: StepId,
}

/// A flow, whole and consistent.
#[derive(Debug, PartialEq, Eq)]
pub struct Flow {
    name: Arc<str>,
    steps: Box<[Step]>,
    bindings: Box<[Binding]>,
}

impl Flow {
    /// A flow of these steps, at most [`STEPS_MAX`]. Names of steps and bindings of a route and method are unique.
    #[must_use]
    pub fn new(name: Arc<str>, steps: Vec<Step>, bindings: Vec<Binding>) -> Self {
        debug_assert!(steps.len() <= STEPS_MAX, "a set has a bit for each step");
        Self { name, steps: steps.into(), bindings: bindings.into() }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its steps, in the order of their places.
    #[must_use]
    pub const fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Which calls are steps.
    #[must_use]
    pub const fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The step at a place.
    #[must_use]
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.steps.get(id.place())
    }

    /// The name of a step.
    #[must_use]
    pub fn step_name(&self, id: StepId) -> &str {
        self.step(id).map_or("-", |step| &step.name)
    }

    /// The step that a call of this route and method is.
    #[must_use]
    pub fn step_of(&self, route: &str, verb: Verb) -> Option<StepId> {
        let bound = |bound: &&Binding| bound.methods.contains(verb) && *bound.route == *route;
        self.bindings.iter().find(bound).map(|bound| bound.step)
    }

    /// The step of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<StepId> {
        StepId::at(self.steps.iter().position(|step| *step.name == *name)?)
    }
}

/// Which flow new sessions follow.
#[derive(Debug, Clone, Default)]
pub struct Flows(Vec<(Vec<Box<str>>, Arc<Flow>)>);

impl Flows {
    /// Flows with the clients that each is for; one that names none is for all others.
    #[must_use]
    pub const fn new(flows: Vec<(Vec<Box<str>>, Arc<Flow>)>) -> Self {
        Self(flows)
    }

    /// The flow of a client's sessions.
    #[must_use]
    pub fn of_client(&self, client: &str) -> Option<&Arc<Flow>> {
        let own = self.0.iter().find(|(clients, _)| clients.iter().any(|named| **named == *client));
        own.or_else(|| self.0.iter().find(|(clients, _)| clients.is_empty())).map(|(_, flow)| flow)
    }

    /// The step that a call is in a session that follows `pinned`. A route that got another name since the session was
    /// opened is still the step that it is now, if the flow of the session has one of that name.
    #[must_use]
    pub fn step_of(&self, pinned: &Arc<Flow>, route: &str, verb: Verb) -> Option<StepId> {
        pinned.step_of(route, verb).or_else(|| {
            let (_, live) = self.0.iter().find(|(_, live)| live.name == pinned.name)?;
            if Arc::ptr_eq(live, pinned) {
                return None;
            }
            pinned.named(live.step_name(live.step_of(route, verb)?))
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Flow>> {
        self.0.iter().map(|(_, flow)| flow)
    }
}

/// `eligibility → offer`: for operators.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.steps.iter().map(|step| &*step.name).collect();
        write!(f, "{}: {}", self.name, names.join(", "))
    }
}

#[cfg(test)]
mod tests;
