//! How many calls may come in a time: the generic cell rate algorithm (GCRA, ITU-T I.371), in whole nanoseconds.
//!
//! A bucket is one number: the time at which it will be full again (its theoretical arrival time). So a bucket that has
//! been left alone long enough is the same as none, and one word per bucket can be changed without a lock.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::rejection::Wait;
use super::severity::Severity;
use super::time::Timestamp;

/// A rate and how far calls may run ahead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// From one call to the next at the steady rate, in nanoseconds.
    interval: u64,
    /// Calls that may come at once.
    burst: u32,
}

/// What a bucket has left after a call was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spare {
    /// Calls that may come now.
    pub calls: u32,
    /// Time until the bucket is full again.
    pub full_in: Duration,
}

/// A bucket that has no call left, and when it will have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty {
    /// Time until then.
    pub wait: Duration,
}

impl Empty {
    /// In whole seconds, rounded up: a client that waits for so long is served.
    #[must_use]
    pub fn retry_after(self) -> Wait {
        let secs = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        Wait(u32::try_from(secs).unwrap_or(u32::MAX).max(1))
    }
}

impl Rate {
    /// So many calls in each `window`, of which at most `burst` at once. None if that is more than one call each nanosecond
    /// or if filling the bucket takes centuries.
    #[must_use]
    pub fn new(requests: NonZeroU32, window: Duration, burst: NonZeroU32) -> Option<Self> {
        let window_nanos = u64::try_from(window.as_nanos()).ok()?;
        let interval = window_nanos / u64::from(requests.get());
        // Far below the end of the range, so that no sum of a time and a bucket overflows.
        let fits = interval.checked_mul(u64::from(burst.get())).is_some_and(|full| full < u64::MAX / 4);
        (interval > 0 && fits).then_some(Self { interval, burst: burst.get() })
    }

    /// Time in which an empty bucket is full again.
    #[must_use]
    pub const fn full_in(self) -> Duration {
        Duration::from_nanos(self.interval * self.burst as u64)
    }

    /// Calls that may come at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Takes one call at `now` (steady time) from a bucket that will be full at `full_at` (nanoseconds of steady time; 0 for
    /// a new one). Gives the new time and what is left.
    ///
    /// # Errors
    /// [`Empty`]; the bucket stays as it is.
    pub fn take(self, full_at: u64, now: Timestamp) -> Result<(u64, Spare), Empty> {
        let (now, capacity) = (nanos(now), self.interval * u64::from(self.burst));
        // Under another rate, before a reload, it may have been further off.
        let full_at = full_at.clamp(now, now + capacity) + self.interval;
        let used = full_at - now;
        if used > capacity {
            return Err(Empty { wait: Duration::from_nanos(used - capacity) });
        }
        let calls = u32::try_from((capacity - used) / self.interval).unwrap_or(u32::MAX);
        Ok((full_at, Spare { calls, full_in: Duration::from_nanos(used) }))
    }

    /// Gives back a call that was taken, because another rule refused it.
    #[must_use]
    pub const fn give_back(self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.interval)
    }
}

/// A steady time in nanoseconds.
#[must_use]
pub const fn nanos(now: Timestamp) -> u64 {
    now.as_millis().saturating_mul(1_000_000)
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// The calls of one session.
    Session,
    /// Those of one client.
    Client,
    /// Those from one address; of IPv6 from one network of 64 bits.
    Address,
    /// Those on one route.
    Route,
    /// All.
    All,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRule {
    /// Its name.
    pub name: Arc<str>,
    /// Who shares a bucket.
    pub per: Per,
    /// What a bucket holds.
    pub rate: Rate,
    /// What happens to calls for which there is nothing left.
    pub severity: Severity,
}

/// Which rule: one of [`RateRules`], or one that has no number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleId {
    /// The rule of this number.
    Numbered(u16),
    /// The client's own rate, in the registry.
    OwnRate,
    /// The calls or bytes that a session has in its life.
    Budget,
}

impl RuleId {
    /// The name of [`Self::OwnRate`].
    pub const OWN_RATE: &str = "client-registry";
    /// That of [`Self::Budget`].
    pub const BUDGET: &str = "session-budget";
}

/// What rate rules made of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rated {
    /// The rule with the fewest calls left, for the client to see.
    pub tightest: Option<Shown>,
    /// A rule that had none left, and what that leads to. Of several the one with the gravest consequence.
    pub exceeded: Option<(RuleId, Severity)>,
}

/// What clients are shown of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Which one.
    pub rule: RuleId,
    /// Its rate.
    pub rate: Rate,
    /// What is left.
    pub spare: Spare,
}

impl Rated {
    /// Notes what a rule had left.
    pub fn note(&mut self, rule: RuleId, rate: Rate, spare: Spare) {
        if self.tightest.is_none_or(|tightest| spare.calls < tightest.spare.calls) {
            self.tightest = Some(Shown { rule, rate, spare });
        }
    }

    /// Notes that a rule had nothing left.
    pub fn exceed(&mut self, rule: RuleId, severity: Severity) {
        if self.exceeded.is_none_or(|(_, known)| known < severity) {
            self.exceeded = Some((rule, severity));
        }
    }
}

/// All rules, and which of them a route has.
#[derive(Debug, Clone, Default)]
pub struct RateRules {
    rules: Box<[RateRule]>,
    by_route: Box<[Box<[u16]>]>,
}

impl RateRules {
    /// These rules. `applies` says whether the calls on the route of that number count for a rule.
    #[must_use]
    pub fn new(rules: Vec<RateRule>, routes: usize, applies: impl Fn(usize, usize) -> bool) -> Self {
        let of = |route| {
            let numbers = (0..rules.len()).filter(|rule| applies(*rule, route));
            numbers.filter_map(|rule| u16::try_from(rule).ok()).collect()
        };
        // Without a rule there is no list to look through.
        let routes = if rules.is_empty() { 0 } else { routes };
        Self { by_route: (0..routes).map(of).collect(), rules: rules.into() }
    }

    /// All of them.
    #[must_use]
    pub const fn rules(&self) -> &[RateRule] {
        &self.rules
    }

    /// The name of a rule.
    #[must_use]
    pub fn name(&self, rule: RuleId) -> &str {
        match rule {
            RuleId::Numbered(number) => self.rules.get(usize::from(number)).map_or("-", |rule| &rule.name),
            RuleId::OwnRate => RuleId::OWN_RATE,
            RuleId::Budget => RuleId::BUDGET,
        }
    }

    /// Whether the route of this number has none.
    #[must_use]
    pub fn is_free(&self, route: u16) -> bool {
        self.by_route.get(usize::from(route)).is_none_or(|rules| rules.is_empty())
    }

    /// Those of the route of this number, with their numbers.
    pub fn of(&self, route: u16) -> impl Iterator<Item = (u16, &RateRule)> {
        let numbers = self.by_route.get(usize::from(route)).map_or(&[][..], |numbers| numbers);
        numbers.iter().filter_map(|number| Some((*number, self.rules.get(usize::from(*number))?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u32, window: Duration, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(requests).unwrap(), window, NonZeroU32::new(burst).unwrap()).unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_one_call_each_interval() {
        let (rate, at) = (rate(10, Duration::from_secs(1), 3), |millis: u64| Timestamp::from_millis(5_000 + millis));
        let mut bucket = 0;
        for left in [2, 1, 0] {
            let (next, spare) = rate.take(bucket, at(0)).unwrap();
            assert_eq!(spare.calls, left);
            bucket = next;
        }
        assert_eq!(rate.take(bucket, at(0)), Err(Empty { wait: Duration::from_millis(100) }));
        assert_eq!(rate.take(bucket, at(99)).unwrap_err().retry_after(), Wait(1));
        let (next, spare) = rate.take(bucket, at(100)).unwrap();
        assert_eq!((spare.calls, spare.full_in), (0, Duration::from_millis(300)));
        assert!(rate.take(next, at(199)).is_err() && rate.take(next, at(200)).is_ok());
        assert_eq!(rate.take(next, at(60_000)).unwrap().1.calls, 2, "full again, and no fuller");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (rate, now) = (rate(1, Duration::from_secs(60), 1), Timestamp::from_secs(100));
        let (taken, _) = rate.take(0, now).unwrap();
        assert!(rate.take(taken, now).is_err());
        assert!(rate.take(rate.give_back(taken), now).is_ok());
    }

    #[test]
    fn a_bucket_of_a_slower_rate_is_no_burden_to_a_faster_one() {
        let now = Timestamp::from_secs(100);
        let (far, _) = rate(1, Duration::from_secs(86_400), 1).take(0, now).unwrap();
        let waits = rate(10, Duration::from_secs(1), 10).take(far, now).unwrap_err();
        assert_eq!(waits.wait, Duration::from_millis(100));
    }

    #[test]
    fn rates_that_cannot_be_counted_are_none() {
        let new = |requests, window, burst| {
            Rate::new(NonZeroU32::new(requests).unwrap(), window, NonZeroU32::new(burst).unwrap())
        };
        assert!(new(1, Duration::from_nanos(1), 1).is_some());
        assert!(new(2, Duration::from_nanos(1), 1).is_none());
        assert!(new(1, Duration::from_secs(86_400), u32::MAX).is_none());
        assert!(new(1, Duration::MAX, 1).is_none());
    }

    proptest! {
        /// In no span of time are more calls taken than the burst and what the rate gives in it.
        #[test]
        fn no_span_has_more_than_its_share(
            requests in 1..50u32, burst in 1..20u32, gaps in prop::collection::vec(0..400u64, 1..200)
        ) {
            let rate = rate(requests, Duration::from_secs(1), burst);
            let (mut bucket, mut now, mut taken) = (0, 10_000, Vec::new());
            for gap in gaps {
                now += gap;
                if let Ok((next, _)) = rate.take(bucket, Timestamp::from_millis(now)) {
                    bucket = next;
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let share = u64::from(burst) + (to - from) * 1_000_000 / (1_000_000_000 / u64::from(requests));
                    prop_assert!((last - first + 1) as u64 <= share, "{from} to {to}");
                }
            }
        }

        /// Who waits as long as told is served.
        #[test]
        fn the_wait_is_enough(requests in 1..2_000u32, burst in 1..20u32, calls in 1..60usize) {
            let rate = rate(requests, Duration::from_secs(1), burst);
            let (mut bucket, now) = (0, Timestamp::from_secs(10));
            for _ in 0..calls {
                match rate.take(bucket, now) {
                    Ok((next, _)) => bucket = next,
                    Err(empty) => {
                        let later = now.after(Duration::from_secs(u64::from(empty.retry_after().0)));
                        prop_assert!(rate.take(bucket, later).is_ok());
                    }
                }
            }
        }
    }
}
