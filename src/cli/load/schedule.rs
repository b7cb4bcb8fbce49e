//! When walks begin in an open loop: decided beforehand, whatever the answers do.

use std::time::Duration;

use super::chance::Chance;

/// How arrivals are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// As independent clients come: exponential gaps
    Poisson,
    /// At even gaps
    Constant,
}

/// Arrivals per second over time: `from` during the warm-up, then in a straight line to `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At the start, arrivals per second; above 0.
    pub from: f64,
    /// At the end; above 0.
    pub to: f64,
}

impl Rate {
    /// The same all the time.
    pub const fn steady(rate: f64) -> Self {
        Self { from: rate, to: rate }
    }
}

/// All arrivals of a run, as offsets from its start. Two schedules with the same values give the same arrivals.
#[derive(Debug, Clone)]
pub struct Schedule {
    rate: Rate,
    warm_up: f64,
    measured: f64,
    arrivals: Arrivals,
    chance: Chance,
    /// How many arrivals are expected up to the last one; a whole number if they are constant.
    mass: f64,
    next: u64,
}

impl Schedule {
    /// Arrivals through a warm-up and the measured time after it.
    pub fn new(rate: Rate, arrivals: Arrivals, warm_up: Duration, measured: Duration, seed: u64) -> Self {
        let (warm_up, measured) = (warm_up.as_secs_f64(), measured.as_secs_f64());
        Self { rate, warm_up, measured, arrivals, chance: Chance::of_walk(seed, u64::MAX), mass: 0.0, next: 0 }
    }

    /// The moment by which `mass` arrivals are expected, in seconds: the inverse of the integral of the rate.
    fn moment(&self, mass: f64) -> f64 {
        let Rate { from, to } = self.rate;
        let before = from * self.warm_up;
        if mass <= before {
            return mass / from;
        }
        let (rest, slope) = (mass - before, (to - from) / self.measured);
        // rest = from·t + slope·t²/2. This form of the root stays exact for a slope near zero.
        let root = (from * from + 2.0 * slope * rest).max(0.0).sqrt();
        self.warm_up + 2.0 * rest / (from + root)
    }

    /// How many arrivals are expected in all.
    fn total(&self) -> f64 {
        self.rate.from * self.warm_up + (self.rate.from + self.rate.to) / 2.0 * self.measured
    }
}

/// The number of each arrival, from 0, and its offset.
impl Iterator for Schedule {
    type Item = (u64, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        match self.arrivals {
            Arrivals::Constant if self.next > 0 => self.mass += 1.0,
            Arrivals::Constant => {}
            Arrivals::Poisson => self.mass += self.chance.exponential(),
        }
        // A hair less, so that rounding adds no arrival at the very end.
        if self.mass >= self.total() - 1e-9 {
            return None;
        }
        let number = self.next;
        self.next += 1;
        Some((number, Duration::from_secs_f64(self.moment(self.mass))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn offsets(rate: Rate, arrivals: Arrivals, warm_up: f64, measured: f64) -> Vec<f64> {
        let schedule = Schedule::new(rate, arrivals, secs(warm_up), secs(measured), 5);
        schedule.map(|(_, offset)| offset.as_secs_f64()).collect()
    }

    #[test]
    fn constant_arrivals_are_even_and_exactly_as_many_as_asked() {
        assert_eq!(offsets(Rate::steady(4.0), Arrivals::Constant, 0.0, 1.0), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(offsets(Rate::steady(2.0), Arrivals::Constant, 1.0, 1.0), [0.0, 0.5, 1.0, 1.5]);
        assert_eq!(offsets(Rate::steady(2000.0), Arrivals::Constant, 0.0, 30.0).len(), 60_000);
    }

    #[test]
    fn poisson_arrivals_come_at_the_rate_in_uneven_gaps() {
        let offsets = offsets(Rate::steady(1000.0), Arrivals::Poisson, 0.0, 10.0);
        assert!((9_600..10_400).contains(&offsets.len()), "{}", offsets.len());
        let gaps: Vec<f64> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The deviation of an exponential distribution is its mean.
        assert!((0.9..1.1).contains(&(variance.sqrt() / mean)));
    }

    #[test]
    fn a_ramp_begins_slowly_and_has_the_mean_of_both_rates() {
        let offsets = offsets(Rate { from: 100.0, to: 300.0 }, Arrivals::Constant, 0.0, 10.0);
        assert_eq!(offsets.len(), 2_000);
        let within = |from: f64, to: f64| offsets.iter().filter(|at| (from..to).contains(*at)).count();
        assert_eq!((within(0.0, 1.0), within(9.0, 10.0)), (110, 290));
    }

    proptest! {
        #[test]
        fn arrivals_are_in_order_and_within_the_run(
            from in 0.5f64..500.0, to in 0.5f64..500.0, warm_up in 0.0f64..3.0, measured in 0.1f64..5.0, poisson: bool,
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let offsets = offsets(Rate { from, to }, arrivals, warm_up, measured);
            prop_assert!(offsets.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(offsets.iter().all(|at| *at <= warm_up + measured + 1e-6));
        }
    }
}
