//! How many calls may be sent a second time. Retries help against a single fault and make an outage worse: so they are a
//! share of what is sent anyway, and a few.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::config::BudgetConfig;

/// Seconds that are looked back on.
const SECONDS: usize = 10;

/// The share of one worker. Calls are counted elsewhere anyway; here is what they were when a second began.
#[derive(Debug)]
pub(super) struct Budget(Mutex<Window>);

#[derive(Debug)]
struct Window {
    /// Calls and retries per second, the one that runs first.
    seconds: [(u64, u64); SECONDS],
    began: Instant,
    /// Calls that are in `seconds`, or older.
    seen: u64,
}

/// What there is in any case, for all workers.
#[derive(Debug)]
pub(super) struct Reserve(Mutex<(Instant, u32)>);

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Window { seconds: [(0, 0); SECONDS], began: now, seen: 0 }))
    }

    /// Notes how many calls there have been; to be told about once a second.
    pub(super) fn tick(&self, calls: u64, now: Instant) {
        self.0.lock().advance(calls, now);
    }

    /// Takes one retry.
    pub(super) fn take(&self, config: &BudgetConfig, calls: u64, reserve: &Reserve, now: Instant) -> bool {
        let mut window = self.0.lock();
        window.advance(calls, now);
        let (calls, retries) =
            window.seconds.iter().fold((0, 0), |(calls, retries), more| (calls + more.0, retries + more.1));
        let allowed = (retries + 1) * 100 <= calls * u64::from(config.percent);
        if allowed {
            window.seconds[0].1 += 1;
        }
        allowed || reserve.take(config.min_per_second, now)
    }
}

impl Window {
    fn advance(&mut self, calls: u64, now: Instant) {
        let passed = usize::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(SECONDS);
        if passed > 0 {
            let shift = passed.min(SECONDS);
            self.seconds.rotate_right(shift % SECONDS);
            self.seconds[..shift].fill((0, 0));
            self.began = now;
        }
        self.seconds[0].0 += calls.saturating_sub(self.seen);
        self.seen = calls.max(self.seen);
    }
}

impl Reserve {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new((now, 0)))
    }

    fn take(&self, per_second: u32, now: Instant) -> bool {
        let mut reserve = self.0.lock();
        if now.saturating_duration_since(reserve.0) >= Duration::from_secs(1) {
            *reserve = (now, 0);
        }
        let allowed = reserve.1 < per_second;
        reserve.1 += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: BudgetConfig = BudgetConfig { percent: 20, min_per_second: 0 };

    #[test]
    fn retries_are_a_share_of_recent_calls() {
        let now = Instant::now();
        let (budget, reserve) = (Budget::new(now), Reserve::new(now));
        let taken = |calls, now| (0..1000).filter(|_| budget.take(&CONFIG, calls, &reserve, now)).count();
        assert_eq!(taken(100, now), 20);
        assert_eq!(taken(200, now + Duration::from_secs(5)), 20);
        assert_eq!(taken(200, now + Duration::from_secs(60)), 0, "what is long ago gives nothing");
        assert_eq!(taken(210, now + Duration::from_secs(61)), 2);
    }

    #[test]
    fn a_few_are_allowed_in_any_case() {
        let now = Instant::now();
        let (budget, reserve) = (Budget::new(now), Reserve::new(now));
        let config = BudgetConfig { percent: 0, min_per_second: 3 };
        let taken = |now| (0..10).filter(|_| budget.take(&config, 0, &reserve, now)).count();
        assert_eq!((taken(now), taken(now), taken(now + Duration::from_secs(1))), (3, 0, 3));
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_of_all_calls(steps in prop::collection::vec((0_u64..50, 0_u64..3000, 0_usize..20), 0..60)) {
            let mut now = Instant::now();
            let (budget, reserve) = (Budget::new(now), Reserve::new(now));
            let (mut calls, mut taken) = (0, 0);
            for (more, millis, tries) in steps {
                calls += more;
                now += Duration::from_millis(millis);
                taken += (0..tries).filter(|_| budget.take(&CONFIG, calls, &reserve, now)).count() as u64;
                prop_assert!(taken * 100 <= calls * 20);
            }
        }
    }
}
