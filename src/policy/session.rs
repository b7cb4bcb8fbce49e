//! One session: what was fixed when it was opened, and what changes with its calls.
//!
//! A [`Session`] is shared by all who look at it. The fast parts (last call, count, standing) are atomics, so that an
//! admitted call writes two words and takes no lock; everything that must change as one goes through
//! [`Session::visit`].

mod barred;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::barred::Barred;
use self::barred::Waiting;

use super::flow::{Flow, StepSet, Steps};
use super::ids::{Owner, SessionKey};
use super::rejection::{Rejection, Wait};
use super::severity::Severity;
use super::time::Timestamp;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndCause {
    /// Idle for too long, or at its absolute end.
    Expired,
    /// Closed by its owner.
    Closed,
    /// Revoked by the operator.
    Revoked,
}

impl EndCause {
    /// All causes.
    pub const ALL: [Self; 3] = [Self::Expired, Self::Closed, Self::Revoked];

    /// The name in state objects and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
        }
    }
}

/// Whether a session may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Live,
    /// Not until the operator resumes it.
    Suspended,
    /// Never again.
    Ended(EndCause),
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Live,
        Self::Suspended,
        Self::Ended(EndCause::Expired),
        Self::Ended(EndCause::Closed),
        Self::Ended(EndCause::Revoked),
    ];

    /// The `state` of a state object.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Suspended => "suspended",
            Self::Ended(cause) => cause.as_str(),
        }
    }

    /// What a call in such a session is refused with.
    #[must_use]
    pub const fn rejection(self) -> Option<Rejection> {
        match self {
            Self::Live => None,
            Self::Suspended => Some(Rejection::SessionSuspended),
            Self::Ended(EndCause::Expired) => Some(Rejection::SessionExpired),
            Self::Ended(EndCause::Closed) => Some(Rejection::SessionClosed),
            Self::Ended(EndCause::Revoked) => Some(Rejection::SessionRevoked),
        }
    }

    const fn to_bits(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Suspended => 1,
            Self::Ended(cause) => 2 + cause as u8,
        }
    }

    const fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Live,
            1 => Self::Suspended,
            2 => Self::Ended(EndCause::Expired),
            3 => Self::Ended(EndCause::Closed),
            _ => Self::Ended(EndCause::Revoked),
        }
    }
}

/// How long sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Longest time between two admitted calls.
    pub idle: Duration,
    /// Longest time from opening to end.
    pub absolute: Duration,
}

/// What a session may use up in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Calls that are forwarded; none: any number. Calls of the session endpoint count, and are never refused.
    pub calls: Option<NonZeroU32>,
    /// Bytes of bodies, both ways together; none: any number. Judged when a call comes, so the last one may go beyond.
    pub bytes: Option<NonZeroU64>,
    /// What happens to calls beyond it.
    pub severity: Severity,
}

/// When a session that others try to use is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignUseRule {
    /// At this many foreign uses,
    pub after: u16,
    /// counted for so long from the first one on.
    pub within: Duration,
}

/// Foreign uses of a session since the first one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForeignUses {
    /// When that was.
    since: Timestamp,
    count: u16,
}

/// The part of a session that changes as one: a visit edits a copy, and the version tells two visits apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Grows by one with every change.
    pub version: u32,
    /// Whether the session may be used.
    pub standing: Standing,
    /// Uses by others.
    pub foreign: ForeignUses,
    /// Where it stands in its flow. Of a session without one nothing is kept here.
    pub steps: Steps,
}

impl Progress {
    /// Counts a use by somebody else. Says whether the session is suspended for it.
    pub fn note_foreign_use(&mut self, rule: ForeignUseRule, now: Timestamp) -> bool {
        if self.standing != Standing::Live {
            return false;
        }
        if self.foreign.count == 0 || self.foreign.since.after(rule.within) <= now {
            self.foreign = ForeignUses { since: now, count: 0 };
        }
        self.foreign.count = self.foreign.count.saturating_add(1);
        let suspended = self.foreign.count >= rule.after;
        if suspended {
            (self.standing, self.foreign) = (Standing::Suspended, ForeignUses::default());
        }
        suspended
    }
}

/// A flow and where a session stands in it.
struct Flowing {
    flow: Arc<Flow>,
    /// Locked only by who has locked what else changes: it is a part of that, kept here so that a session without a flow
    /// pays nothing for it.
    steps: Mutex<Steps>,
}

struct Shared {
    version: u32,
    standing: Standing,
    foreign: ForeignUses,
    /// Those who wait until it may not be used. Few sessions have any, so the list is made when the first one comes.
    waiting: Option<Box<Waiting>>,
}

/// A session and its life.
pub struct Session {
    key: SessionKey,
    owner: Arc<Owner>,
    scope: Arc<str>,
    opened: Timestamp,
    idle_secs: u32,
    absolute_secs: u32,
    last_seen: AtomicU64,
    /// Of bodies, where a budget counts them.
    bytes: AtomicU64,
    calls: AtomicU32,
    /// Calls that were given a number for the trail.
    numbered: AtomicU32,
    standing: AtomicU8,
    shared: Mutex<Shared>,
    flow: Option<Box<Flowing>>,
}

impl Session {
    /// A session that begins now. `now` is steady time.
    #[must_use]
    pub fn open(key: SessionKey, owner: Arc<Owner>, scope: Arc<str>, lifetimes: Lifetimes, now: Timestamp) -> Self {
        let shared = Shared { version: 0, standing: Standing::Live, foreign: ForeignUses::default(), waiting: None };
        Self {
            key,
            owner,
            scope,
            opened: now,
            idle_secs: whole_secs(lifetimes.idle),
            absolute_secs: whole_secs(lifetimes.absolute),
            last_seen: AtomicU64::new(now.as_millis()),
            bytes: AtomicU64::new(0),
            calls: AtomicU32::new(0),
            numbered: AtomicU32::new(0),
            standing: AtomicU8::new(shared.standing.to_bits()),
            shared: Mutex::new(shared),
            flow: None,
        }
    }

    /// The session with a flow that it follows to its end, whatever is configured later.
    #[must_use]
    pub fn following(self, flow: Option<Arc<Flow>>) -> Self {
        let flow = flow.map(|flow| Box::new(Flowing { flow, steps: Mutex::default() }));
        Self { flow, ..self }
    }

    /// The session as it was seen once, to be judged and not to be kept.
    #[must_use]
    pub fn as_seen(self, last_seen: Timestamp, calls: u32, standing: Standing, steps: Steps) -> Self {
        self.last_seen.store(last_seen.as_millis(), Ordering::Relaxed);
        self.calls.store(calls, Ordering::Relaxed);
        let changed: Result<(), std::convert::Infallible> = self.visit(|progress| {
            (progress.standing, progress.steps) = (standing, steps);
            Ok(())
        });
        match changed {
            Ok(()) => self,
        }
    }

    /// The flow it follows.
    #[must_use]
    pub fn flow(&self) -> Option<&Arc<Flow>> {
        self.flow.as_ref().map(|flowing| &flowing.flow)
    }

    /// The flow it follows, and where it stands in it.
    #[must_use]
    pub fn steps(&self) -> Option<(&Arc<Flow>, Steps)> {
        let flowing = self.flow.as_ref()?;
        let _shared = self.lock();
        Some((&flowing.flow, *flowing.lock()))
    }

    /// Where it stands in its flow, and the steps that may be called next; none of a session that may not be used.
    #[must_use]
    pub fn outlook(&self, now: Timestamp) -> Option<(&Arc<Flow>, Steps, StepSet)> {
        let (flow, steps) = self.steps()?;
        let next = match self.standing(now) {
            Standing::Live => flow.allowed(&steps, now.since(self.opened)),
            Standing::Suspended | Standing::Ended(_) => StepSet::NONE,
        };
        Some((flow, steps, next))
    }

    /// The digest that names it.
    #[must_use]
    pub const fn key(&self) -> SessionKey {
        self.key
    }

    /// Who opened it.
    #[must_use]
    pub const fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// The scopes of the token it was opened with.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// When it was opened.
    #[must_use]
    pub const fn opened(&self) -> Timestamp {
        self.opened
    }

    /// When its last admitted call came.
    #[must_use]
    pub fn last_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.last_seen.load(Ordering::Relaxed))
    }

    /// How many calls were admitted.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The number of one more call of its owner, from 1, refused ones included.
    #[must_use]
    pub fn number_call(&self) -> u32 {
        self.numbered.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// When it ends unless another call is admitted.
    #[must_use]
    pub fn idle_expires(&self) -> Timestamp {
        self.last_seen().after(Duration::from_secs(u64::from(self.idle_secs)))
    }

    /// When it ends whatever happens.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.opened.after(Duration::from_secs(self.absolute_secs as u64))
    }

    /// The earlier of the two ends.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.idle_expires().min(self.expires())
    }

    /// Whole seconds until [`Self::deadline`]; none are left once it has ended.
    #[must_use]
    pub fn expires_in(&self, now: Timestamp) -> u64 {
        match self.standing(now) {
            Standing::Ended(_) => 0,
            Standing::Live | Standing::Suspended => self.deadline().since(now).as_secs(),
        }
    }

    /// Whether it may be used at `now`, exactly, whether or not the sweeper has come by.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        match Standing::from_bits(self.standing.load(Ordering::Acquire)) {
            Standing::Live | Standing::Suspended if self.deadline() <= now => Standing::Ended(EndCause::Expired),
            standing => standing,
        }
    }

    /// The standing that was last settled; an expiry that nobody has noticed yet is not in it.
    #[must_use]
    pub fn settled_standing(&self) -> Standing {
        Standing::from_bits(self.standing.load(Ordering::Acquire))
    }

    /// Counts bytes of bodies. Only sessions with a budget of bytes are told of them.
    pub fn spend(&self, bytes: u64) {
        // It never wraps: that would take centuries.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether [`Self::take_call`] would find a call left.
    #[must_use]
    pub fn has_call_left(&self, budget: &Budget) -> bool {
        budget.bytes.is_none_or(|most| self.bytes.load(Ordering::Relaxed) < most.get())
            && budget.calls.is_none_or(|most| self.calls() < most.get())
    }

    /// Takes one call out of `budget`, however many ask at once. Says whether there was one left, and fewer bytes moved
    /// than may be.
    pub fn take_call(&self, budget: &Budget) -> bool {
        if budget.bytes.is_some_and(|most| self.bytes.load(Ordering::Relaxed) >= most.get()) {
            return false;
        }
        let Some(most) = budget.calls else {
            self.calls.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let next = |calls: u32| (calls < most.get()).then(|| calls + 1);
        self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// What a call is refused with that no budget has room for: it gets room only with the end of the session.
    #[must_use]
    pub fn spent(&self, now: Timestamp) -> Rejection {
        let left = u32::try_from(self.expires().since(now).as_secs()).unwrap_or(u32::MAX);
        Rejection::BudgetSpent(Wait(left.max(1)))
    }

    /// Notes an admitted call: it extends the idle time.
    pub fn touch(&self, now: Timestamp) {
        self.extend(now);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Extends the idle time, for a call that was counted by [`Self::take_call`].
    pub fn extend(&self, now: Timestamp) {
        // Two calls may race; the later time wins unless both stores interleave within the same instant, which costs
        // at most the microseconds between them.
        if self.last_seen.load(Ordering::Relaxed) < now.as_millis() {
            self.last_seen.store(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// Changes what must change as one. `change` edits a copy that replaces the original only if it agrees; visits to
    /// one session take effect one after another. Whoever waits until the session may not be used is woken by the visit that
    /// brings that about.
    ///
    /// # Errors
    /// Whatever `change` refuses with; then nothing has changed.
    pub fn visit<T, E>(&self, change: impl FnOnce(&mut Progress) -> Result<T, E>) -> Result<T, E> {
        let mut shared = self.lock();
        let mut steps = self.flow.as_ref().map(|flowing| flowing.lock());
        let before = Progress {
            version: shared.version,
            standing: shared.standing,
            foreign: shared.foreign,
            steps: steps.as_deref().copied().unwrap_or_default(),
        };
        let mut progress = before;
        let outcome = change(&mut progress)?;
        if progress != before {
            shared.version = before.version.wrapping_add(1);
            (shared.standing, shared.foreign) = (progress.standing, progress.foreign);
            if let Some(steps) = &mut steps {
                **steps = progress.steps;
            }
            self.standing.store(progress.standing.to_bits(), Ordering::Release);
            if progress.standing != Standing::Live {
                let waiting = shared.waiting.take();
                drop((steps, shared));
                if let Some(waiting) = waiting {
                    waiting.wake();
                }
            }
        }
        Ok(outcome)
    }

    /// Waits until the session may not be used any more; long-lived streams do.
    #[must_use]
    pub const fn barred(self: Arc<Self>) -> Barred {
        Barred::by(self)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No visit panics half way: it edits a copy.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flowing {
    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("key", &format_args!("{}", self.key))
            .field("standing", &self.settled_standing())
            .finish_non_exhaustive()
    }
}

fn whole_secs(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
