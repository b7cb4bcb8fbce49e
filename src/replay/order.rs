//! Records in the order in which calls began. Files have them in the order in which calls ended.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Recorded;

/// For so long a record waits for others of calls that began before it and took longer. It bounds the memory, too: that
/// many seconds of calls.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Puts records in order.
#[derive(Debug, Default)]
pub struct InOrder {
    waiting: BinaryHeap<Reverse<Waiting>>,
    latest: u64,
    taken: u64,
    given: u64,
    /// Records that came too late for their place: of calls that took longer than a minute.
    pub late: u64,
}

#[derive(Debug)]
struct Waiting {
    place: (u64, u32, u64),
    call: Box<Recorded>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl InOrder {
    /// Takes a record.
    pub fn push(&mut self, call: Box<Recorded>) {
        let at = call.time.as_millis();
        self.late += u64::from(at < self.given);
        self.latest = self.latest.max(at);
        self.taken += 1;
        self.waiting.push(Reverse(Waiting { place: (at, call.number, self.taken), call }));
    }

    /// The next record for which no other has to be waited for; at the `end`, for none.
    pub fn pop(&mut self, end: bool) -> Option<Box<Recorded>> {
        let Reverse(next) = self.waiting.peek()?;
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        if !end && next.place.0.saturating_add(window) > self.latest {
            return None;
        }
        let Reverse(Waiting { place, call }) = self.waiting.pop()?;
        self.given = self.given.max(place.0);
        Some(call)
    }
}
