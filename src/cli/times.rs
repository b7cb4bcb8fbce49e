//! Many times, and how they are spread.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest time that is told apart, in microseconds; what takes longer counts as this.
const LONGEST: u64 = 3_600_000_000;

/// A histogram of times in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Times(Histogram<u64>);

impl Times {
    fn new(digits: u8) -> Self {
        // It fails for bounds and digits out of range only, and these are in it.
        let made = Histogram::new_with_bounds(1, LONGEST, digits);
        Self(made.unwrap_or_else(|_| unreachable!("the bounds of a histogram are valid")))
    }

    /// For reports: three digits are exact.
    pub fn exact() -> Self {
        Self::new(3)
    }

    /// For the many of a timeline: two digits are exact.
    pub fn coarse() -> Self {
        Self::new(2)
    }

    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST).max(1));
    }

    /// Adds all times of another.
    pub fn merge(&mut self, other: &Self) {
        // It fails for times out of bounds only, and all have the same bounds.
        _ = self.0.add(&other.0);
    }

    /// The time below which this share of all lies; zero if there are none.
    pub fn at(&self, share: f64) -> Duration {
        if self.count() == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Their mean.
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean().max(0.0) / 1e6)
    }

    /// The shortest.
    pub fn min(&self) -> Duration {
        Duration::from_micros(if self.count() == 0 { 0 } else { self.0.min() })
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_apart_to_their_digits() {
        let mut times = Times::exact();
        assert_eq!((times.at(0.5), times.min(), times.mean()), (Duration::ZERO, Duration::ZERO, Duration::ZERO));
        (1..=1_000).for_each(|micros| times.add(Duration::from_micros(micros)));
        assert_eq!((times.at(0.5), times.at(0.99)), (Duration::from_micros(500), Duration::from_micros(990)));
        assert_eq!(
            (times.count(), times.min(), times.max()),
            (1_000, Duration::from_micros(1), Duration::from_micros(1_000))
        );
        times.add(Duration::from_secs(100_000));
        assert!(times.max() >= Duration::from_secs(3_600), "longer than an hour counts as an hour");
    }
}
