//! The only reader of time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::policy::time::{Now, Timestamp};

/// Gives both readings of time. One per process, shared.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    started_wall: Timestamp,
    /// Milliseconds by which tests have moved the wall clock.
    wall_shift: AtomicI64,
    /// Milliseconds by which tests have moved both readings.
    shift: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { started: Instant::now(), started_wall: wall(), wall_shift: AtomicI64::new(0), shift: AtomicI64::new(0) }
    }
}

impl Clock {
    /// Both readings at this moment.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { wall: self.wall(), steady: self.steady(Instant::now()) }
    }

    /// Wall time.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        moved(wall(), self.wall_shift.load(Ordering::Relaxed) + self.shift.load(Ordering::Relaxed))
    }

    /// Steady time at `instant`: wall time at start plus what passed since.
    #[must_use]
    pub fn steady(&self, instant: Instant) -> Timestamp {
        moved(
            self.started_wall.after(instant.saturating_duration_since(self.started)),
            self.shift.load(Ordering::Relaxed),
        )
    }

    /// Lets time pass at once, for tests of what happens with age.
    pub fn advance(&self, span: Duration) {
        self.shift.fetch_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Makes the wall clock jump, for tests of what must not depend on it.
    pub fn jump_wall(&self, millis: i64) {
        self.wall_shift.fetch_add(millis, Ordering::Relaxed);
    }
}

fn wall() -> Timestamp {
    Timestamp::EPOCH.after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn moved(time: Timestamp, millis: i64) -> Timestamp {
    let span = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { time.before(span) } else { time.after(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_reading_ignores_jumps_of_the_wall() {
        let clock = Clock::default();
        let before = clock.now();
        clock.jump_wall(-3_600_000);
        let after = clock.now();
        assert!(after.wall < before.wall);
        assert!(after.steady >= before.steady && after.steady.since(before.steady) < Duration::from_secs(60));
        clock.advance(Duration::from_secs(5));
        assert!(clock.now().steady.since(before.steady) >= Duration::from_secs(5));
    }
}
