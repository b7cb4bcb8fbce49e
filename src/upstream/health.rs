//! Whether an endpoint gets calls: what probes and calls say of it.
//!
//! An endpoint without trouble costs a call one load of a flag. All else is behind a lock, in a state machine that takes
//! the time as an argument.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::config::{EjectionConfig, ProbeConfig};

/// The whole share of an endpoint.
pub(super) const FULL: u32 = 256;

/// The smallest share in a slow start, so that it gets on.
const SMALLEST: u32 = FULL / 16;

/// What an endpoint is to an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It gets calls.
    Healthy,
    /// It came back, and its share grows.
    SlowStart,
    /// Probes fail.
    Unhealthy,
    /// Calls failed.
    Ejected,
}

impl Standing {
    /// Name in answers of the admin listener.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::SlowStart => "slow-start",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
        }
    }

    /// Whether it gets calls.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Healthy | Self::SlowStart)
    }
}

/// What an operator is told of the health of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// What it is.
    pub standing: Standing,
    /// How long it has been that; none: from the beginning.
    pub since: Option<Duration>,
    /// Why.
    pub reason: &'static str,
}

/// What an endpoint takes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// So much of its share, of [`FULL`].
    Share(u32),
    /// One call, to see whether it is back.
    Trial,
    /// Nothing: calls failed.
    Ejected,
    /// Nothing: probes fail.
    Unhealthy,
}

/// A change that is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It gets calls again.
    Up,
    /// Probes fail.
    Unhealthy,
    /// Calls failed: out for so long.
    Ejected(Duration),
}

/// The health of one endpoint.
#[derive(Debug)]
pub(super) struct Health {
    /// Nothing was ever wrong, or it is long over.
    calm: AtomicBool,
    machine: Mutex<Machine>,
}

impl Default for Health {
    fn default() -> Self {
        Self { calm: AtomicBool::new(true), machine: Mutex::default() }
    }
}

impl Health {
    /// Whether there is nothing to ask.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// What the endpoint takes now.
    pub(super) fn offer(&self, slow_start: Duration, now: Instant) -> Offer {
        if self.is_calm() {
            return Offer::Share(FULL);
        }
        let machine = self.machine.lock();
        self.calm.store(machine.is_calm(slow_start, now), Ordering::Relaxed);
        machine.offer(slow_start, now)
    }

    /// Takes the one trial that [`Offer::Trial`] offers; none: another call was faster. The trial ends with a verdict, or
    /// when it is given back. If it takes longer than the moment this gives, another may begin.
    pub(super) fn begin_trial(&self, ejection: Option<&EjectionConfig>, now: Instant) -> Option<Instant> {
        let mut machine = self.machine.lock();
        if machine.offer(Duration::ZERO, now) != Offer::Trial {
            return None;
        }
        let patience = now + ejection.map_or(Duration::ZERO, |rules| rules.base);
        machine.trial = Some(patience);
        Some(patience)
    }

    /// The trial that began with this patience is over. If there was no verdict, the next call may try.
    pub(super) fn end_trial(&self, patience: Instant) {
        let mut machine = self.machine.lock();
        machine.trial = machine.trial.filter(|running| *running != patience);
    }

    /// A probe has come back.
    pub(super) fn probed(
        &self,
        outcome: Result<(), &'static str>,
        rules: &ProbeConfig,
        now: Instant,
    ) -> Option<Change> {
        let mut machine = self.machine.lock();
        let change = machine.probed(outcome, rules, now);
        self.calm.store(false, Ordering::Relaxed);
        change
    }

    /// A call has failed: a trial, or another one.
    pub(super) fn failed(
        &self,
        reason: &'static str,
        trial: bool,
        rules: &EjectionConfig,
        room: impl FnOnce() -> bool,
        now: Instant,
    ) -> Option<Change> {
        let mut machine = self.machine.lock();
        self.calm.store(false, Ordering::Relaxed);
        machine.failed(reason, trial, rules, room, now)
    }

    /// A call has been answered.
    pub(super) fn succeeded(&self, now: impl FnOnce() -> Instant) -> Option<Change> {
        if self.is_calm() { None } else { self.machine.lock().succeeded(now()) }
    }

    /// Drops what nothing would change any more: verdicts of probes or calls that are no longer configured to be heard.
    pub(super) fn forget(&self, probes: bool, calls: bool) {
        let mut machine = self.machine.lock();
        if probes {
            machine.verdict = None;
            machine.streak = 0;
        }
        if calls {
            (machine.failures, machine.ejected, machine.trial) = (0, None, None);
        }
        self.calm.store(false, Ordering::Relaxed);
    }

    /// What an operator is told.
    pub(super) fn report(&self, slow_start: Duration, now: Instant) -> Report {
        self.machine.lock().report(slow_start, now)
    }
}

/// Everything that is known, without the time.
#[derive(Debug, Default)]
struct Machine {
    /// What probes say; none: nothing yet.
    verdict: Option<bool>,
    /// Probes in a row that say otherwise.
    streak: u32,
    /// Calls in a row that failed.
    failures: u32,
    /// Out until then; after that one trial at a time, until it succeeds.
    ejected: Option<Instant>,
    /// A trial runs; if nothing is heard of it, another may begin then.
    trial: Option<Instant>,
    /// How long the last ejection was.
    lasted: Duration,
    /// When it came back.
    recovered: Option<Instant>,
    /// When and why the standing changed last.
    changed: Option<(Instant, &'static str)>,
}

impl Machine {
    fn is_calm(&self, slow_start: Duration, now: Instant) -> bool {
        self.failures == 0 && self.offer(slow_start, now) == Offer::Share(FULL) && self.ejected.is_none()
    }

    fn offer(&self, slow_start: Duration, now: Instant) -> Offer {
        if self.verdict == Some(false) {
            return Offer::Unhealthy;
        }
        match (self.ejected, self.trial) {
            (Some(until), _) if now < until => Offer::Ejected,
            (Some(_), Some(patience)) if now < patience => Offer::Ejected,
            (Some(_), _) => Offer::Trial,
            (None, _) => Offer::Share(self.share(slow_start, now)),
        }
    }

    fn share(&self, slow_start: Duration, now: Instant) -> u32 {
        let Some(recovered) = self.recovered else { return FULL };
        let passed = now.saturating_duration_since(recovered);
        if passed >= slow_start {
            return FULL;
        }
        let share = passed.as_millis() * u128::from(FULL) / slow_start.as_millis().max(1);
        u32::try_from(share).map_or(FULL, |share| share.clamp(SMALLEST, FULL))
    }

    fn probed(&mut self, outcome: Result<(), &'static str>, rules: &ProbeConfig, now: Instant) -> Option<Change> {
        let passed = outcome.is_ok();
        let needed = match self.verdict {
            // The first probe decides: there is no history to outweigh.
            None => 1,
            Some(known) if known == passed => {
                self.streak = 0;
                return None;
            }
            Some(true) => rules.fall,
            Some(false) => rules.rise,
        };
        self.streak += 1;
        if self.streak < needed {
            return None;
        }
        let before = self.verdict.replace(passed);
        self.streak = 0;
        match outcome {
            Err(reason) => {
                self.changed = Some((now, reason));
                Some(Change::Unhealthy)
            }
            Ok(()) if before.is_none() => None,
            Ok(()) => {
                (self.failures, self.ejected, self.trial) = (0, None, None);
                self.recover(now, "probes pass")
            }
        }
    }

    fn failed(
        &mut self,
        reason: &'static str,
        trial: bool,
        rules: &EjectionConfig,
        room: impl FnOnce() -> bool,
        now: Instant,
    ) -> Option<Change> {
        match self.ejected {
            // A call that began before the ejection says nothing new, however late it fails; only a trial does.
            Some(until) if now < until || !trial => return None,
            Some(_) => {}
            None => {
                self.failures = self.failures.saturating_add(1);
                if self.failures < rules.failures || !room() {
                    return None;
                }
            }
        }
        let healed = self.recovered.is_none_or(|recovered| now.saturating_duration_since(recovered) > rules.max);
        let fresh = self.ejected.is_none() && healed;
        let lasts = if fresh || self.lasted.is_zero() { rules.base } else { (self.lasted * 2).min(rules.max) };
        (self.failures, self.ejected, self.trial, self.lasted) = (0, Some(now + lasts), None, lasts);
        self.changed = Some((now, reason));
        Some(Change::Ejected(lasts))
    }

    fn succeeded(&mut self, now: Instant) -> Option<Change> {
        self.failures = 0;
        match self.ejected {
            Some(until) if now >= until => {
                (self.ejected, self.trial) = (None, None);
                self.recover(now, "a trial call was answered")
            }
            Some(_) | None => None,
        }
    }

    fn recover(&mut self, now: Instant, reason: &'static str) -> Option<Change> {
        self.recovered = Some(now);
        self.changed = Some((now, reason));
        Some(Change::Up)
    }

    fn report(&self, slow_start: Duration, now: Instant) -> Report {
        let standing = match self.offer(slow_start, now) {
            Offer::Share(FULL) => Standing::Healthy,
            Offer::Share(_) => Standing::SlowStart,
            Offer::Trial | Offer::Ejected => Standing::Ejected,
            Offer::Unhealthy => Standing::Unhealthy,
        };
        let since = self.changed.map(|(at, _)| now.saturating_duration_since(at));
        Report { standing, since, reason: self.changed.map_or("no trouble so far", |(_, reason)| reason) }
    }
}

#[cfg(test)]
mod tests;
