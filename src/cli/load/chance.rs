//! Chance that can be repeated: the same seed gives the same walks on any machine and any number of threads.

use std::time::Duration;

/// A generator of numbers that look random (SplitMix64). It is for choices of virtual clients, never for secrets.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The chance of one walk: it depends on the seed and the number of the walk, and on nothing else.
    pub fn of_walk(seed: u64, walk: u64) -> Self {
        let mut mixed = Self(seed);
        let salt = mixed.next();
        let mut own = Self(salt ^ walk.wrapping_mul(0xD1B5_4A32_D192_ED03));
        own.next();
        own
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to but not including 1.
    pub fn share(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability >= 1.0 || self.share() < probability
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low + ((u128::from(self.next()) * u128::from(span)) >> 64) as u64
    }

    /// A number with an exponential distribution of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.share()).ln()
    }

    /// The place of a choice among weights; the last one if rounding leaves none.
    pub fn choose(&mut self, weights: impl ExactSizeIterator<Item = f64> + Clone) -> usize {
        let last = weights.len().saturating_sub(1);
        if last == 0 {
            return 0;
        }
        let mut left = self.share() * weights.clone().sum::<f64>();
        for (place, weight) in weights.enumerate() {
            if left < weight {
                return place;
            }
            left -= weight;
        }
        last
    }
}

/// How long a virtual client thinks before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    /// Always so long.
    Fixed(Duration),
    /// Anything between the two.
    Uniform(Duration, Duration),
    /// Exponentially distributed around this mean, as pauses of independent people are; at most ten times the mean.
    Exponential(Duration),
}

impl Think {
    /// A pause.
    pub fn draw(self, chance: &mut Chance) -> Duration {
        match self {
            Self::Fixed(pause) => pause,
            Self::Uniform(low, high) => low + high.saturating_sub(low).mul_f64(chance.share()),
            Self::Exponential(mean) => mean.mul_f64(chance.exponential().min(10.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_walk_has_the_same_chance_whoever_asks() {
        let draw = |seed, walk| Chance::of_walk(seed, walk).next();
        assert_eq!(draw(7, 3), draw(7, 3));
        let all: std::collections::HashSet<u64> =
            (0..100).flat_map(|seed| (0..100).map(move |walk| draw(seed, walk))).collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn shares_come_out_as_asked() {
        let mut chance = Chance::of_walk(1, 1);
        let times = (0..10_000).filter(|_| chance.happens(0.3)).count();
        assert!((2_800..3_200).contains(&times), "{times}");
        let mut chosen = [0; 3];
        (0..10_000).for_each(|_| chosen[chance.choose([1.0, 0.0, 3.0].into_iter())] += 1);
        assert!((2_300..2_700).contains(&chosen[0]) && chosen[1] == 0, "{chosen:?}");
        let mean = (0..10_000).map(|_| chance.exponential()).sum::<f64>() / 10_000.0;
        assert!((0.95..1.05).contains(&mean), "{mean}");
    }

    proptest! {
        #[test]
        fn pauses_stay_in_their_bounds(seed: u64, low in 0u64..5_000, more in 0u64..5_000) {
            let (low, high) = (Duration::from_millis(low), Duration::from_millis(low + more));
            let mut chance = Chance::of_walk(seed, 0);
            let uniform = Think::Uniform(low, high).draw(&mut chance);
            prop_assert!(low <= uniform && uniform <= high);
            prop_assert!(Think::Exponential(high).draw(&mut chance) <= high * 10);
            prop_assert_eq!(Think::Fixed(low).draw(&mut chance), low);
        }

        #[test]
        fn whole_numbers_stay_in_their_bounds(seed: u64, low: u32, more: u32) {
            let (low, high) = (u64::from(low), u64::from(low) + u64::from(more));
            let drawn = Chance::of_walk(seed, 0).between(low, high);
            prop_assert!(low <= drawn && drawn <= high);
        }
    }
}
