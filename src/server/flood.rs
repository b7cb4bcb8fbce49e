//! Ends HTTP/2 connections that send much and ask for nothing: floods of PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty
//! DATA or unknown frames (CVE-2019-9512, 9513, 9515, 9518), whatever they are made of.
//!
//! Every byte that arrives is taken from a budget. A call, a piece of its body and a piece of its answer fill it again; so
//! does time, for the few frames that keep a long stream alive.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes without a call. More than fits into the receive window of a connection, whose content waits for its reader.
pub(super) const BUDGET: u64 = 2 * 1024 * 1024;

/// After so long the budget is full again.
const REFILL: Duration = Duration::from_secs(60);

/// What was received since a call made progress. Clones are the same budget.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Budget {
    /// Something was received or sent that calls are made of.
    pub(super) fn fill(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether it was used up.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) > BUDGET
    }
}

/// Takes what a connection receives from its budget.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    filled: Instant,
}

impl Meter {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, filled: Instant::now() }
    }

    /// So many bytes were received.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn spend(&mut self, bytes: usize) -> io::Result<()> {
        let before = self.budget.0.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 <= BUDGET {
            return Ok(());
        }
        // The clock is read only here, not for every piece.
        if self.filled.elapsed() < REFILL {
            return Err(io::Error::other("much HTTP/2 and no calls"));
        }
        self.filled = Instant::now();
        self.budget.fill();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_time_fill_the_budget() {
        let budget = Budget::default();
        let mut meter = Meter::new(budget.clone());
        let whole = usize::try_from(BUDGET).expect("a size");
        meter.spend(whole).expect("within the budget");
        budget.fill();
        meter.spend(whole).expect("a call came between");
        meter.filled = Instant::now().checked_sub(REFILL).expect("a machine that runs for a minute");
        meter.spend(1).expect("a minute went by");
        assert!(!budget.is_spent());
        meter.spend(whole).expect("within the budget");
        meter.spend(1).expect_err("a flood");
        assert!(budget.is_spent());
    }
}
