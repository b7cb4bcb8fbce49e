//! In turn. With unequal shares the turns are spread evenly too: of shares 2 and 1 it is a, b, a and not a, a, b.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::View;

#[derive(Debug)]
pub(in crate::upstream) struct RoundRobin {
    turn: AtomicUsize,
    /// What each has saved up; in balance they are 0 in sum.
    credit: Mutex<Vec<i64>>,
}

impl RoundRobin {
    pub(super) fn new(count: usize) -> Self {
        // Workers do not begin with the same endpoint.
        let turn = usize::from_ne_bytes(crate::random::bytes()) >> 1;
        Self { turn: AtomicUsize::new(turn), credit: Mutex::new(vec![0; count]) }
    }

    pub(super) fn pick(&self, view: &impl View) -> Option<usize> {
        if view.is_even() {
            return self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(view.count());
        }
        let mut credit = self.credit.lock();
        let (mut best, mut total) = (None, 0);
        for (place, credit) in credit.iter_mut().enumerate() {
            let share = i64::from(view.share(place));
            if share == 0 {
                continue;
            }
            total += share;
            *credit += share;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((place, *credit));
            }
        }
        let (place, _) = best?;
        if let Some(credit) = credit.get_mut(place) {
            *credit -= total;
        }
        Some(place)
    }
}
