//! Service level objectives, and the search for the highest rate that meets them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

use super::measure::StepCounts;
use crate::cli::words::millis;

/// What must hold: `p99=20ms,errors=0.1%`.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    text: String,
    /// Shares of calls, and the latency they must stay within.
    latencies: Vec<(f64, Duration)>,
    /// Most calls that may come out otherwise than expected, as a share.
    errors: f64,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut slo = Self { text: text.to_owned(), latencies: Vec::new(), errors: 0.0 };
        for part in text.split(',').map(str::trim) {
            let how = || format!("{part:?} is no objective; write them like p99=20ms,errors=0.1%");
            let (name, value) = part.split_once('=').ok_or_else(how)?;
            if name == "errors" {
                slo.errors = parse_share(value).map_err(|_| how())?;
            } else {
                let percent: f64 = name.strip_prefix('p').and_then(|digits| digits.parse().ok()).ok_or_else(how)?;
                let within = SpanParser::new().parse_unsigned_duration(value).map_err(|_| how())?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err(how());
                }
                slo.latencies.push((percent / 100.0, within));
            }
        }
        if slo.latencies.is_empty() { Err("a latency is needed, like p99=20ms".into()) } else { Ok(slo) }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A share of all: `0.5%`.
///
/// # Errors
/// How to write one.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent.filter(|percent| (0.0..=100.0).contains(percent)) {
        Some(percent) => Ok(percent / 100.0),
        None => Err("write a share of all calls, such as 0.1%".into()),
    }
}

impl Slo {
    /// What of it does not hold; nothing if all does. Without a single answer nothing holds.
    pub fn misses(&self, total: &StepCounts) -> Vec<String> {
        let calls = total.answered() + total.unanswered();
        if calls == 0 {
            return vec!["no call ended".into()];
        }
        let slow = self.latencies.iter().filter_map(|(share, within)| {
            let found = total.latency.at(*share);
            (found > *within).then(|| format!("p{} {}", share * 100.0, millis(found)))
        });
        let mut misses: Vec<String> = slow.collect();
        let share = total.bad() as f64 / calls as f64;
        if share > self.errors {
            misses.push(format!("errors {:.2}%", share * 100.0));
        }
        misses
    }
}

/// The search: doubles the rate until the objective is missed, then halves the gap until it is small.
#[derive(Debug, Clone)]
pub struct Search {
    held: Option<f64>,
    missed: Option<f64>,
    start: f64,
    tries: u32,
}

impl Search {
    /// The gap between what held and what did not, relative to what held, at which it ends.
    pub const PRECISION: f64 = 0.05;

    /// Most tries.
    pub const TRIES: u32 = 40;

    /// Begins with this rate.
    pub fn new(start: f64) -> Self {
        Self { held: None, missed: None, start, tries: 0 }
    }

    /// The rate to try next; none if the search is over.
    pub fn next(&self) -> Option<f64> {
        if self.tries >= Self::TRIES {
            return None;
        }
        match (self.held, self.missed) {
            (None, None) => Some(self.start),
            // The objective is not met at the rate that was asked for; there is nothing to search.
            (None, Some(_)) => None,
            (Some(held), None) => Some(held * 2.0),
            (Some(held), Some(missed)) if missed / held - 1.0 <= Self::PRECISION => None,
            (Some(held), Some(missed)) => Some((held + missed) / 2.0),
        }
    }

    /// Notes what came of a rate.
    pub fn note(&mut self, rate: f64, holds: bool) {
        self.tries += 1;
        *if holds { &mut self.held } else { &mut self.missed } = Some(rate);
    }

    /// The highest rate at which the objective held.
    pub const fn found(&self) -> Option<f64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objectives_are_read() {
        let slo: Slo = "p99=20ms, p50=1ms,errors=0.1%".parse().unwrap();
        assert_eq!(slo.latencies, [(0.99, Duration::from_millis(20)), (0.5, Duration::from_millis(1))]);
        assert!((slo.errors - 0.001).abs() < 1e-9);
        for wrong in ["", "p99", "p99=20", "p101=1s", "errors=1%", "p99=20ms,errors=1", "q=1ms"] {
            assert!(wrong.parse::<Slo>().is_err(), "{wrong}");
        }
    }

    proptest! {
        /// A service that holds up to some rate is searched, and the answer is within the precision.
        #[test]
        fn the_search_finds_what_a_service_holds(limit in 1.0f64..1_000_000.0, start in 0.5f64..100.0) {
            let mut search = Search::new(start);
            while let Some(rate) = search.next() {
                search.note(rate, rate <= limit);
            }
            match search.found() {
                Some(found) => prop_assert!(found <= limit && limit <= found * (1.0 + Search::PRECISION) + 1e-6),
                None => prop_assert!(start > limit),
            }
        }
    }
}
