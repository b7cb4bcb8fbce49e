//! The last calls of every session, within one bound of memory.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::record::{Batch, Ring};
use crate::policy::ids::SessionKey;
use crate::policy::time::Timestamp;

/// What a session costs beside its calls: its places in the map and in the queue.
const OVERHEAD: usize = 256;

/// Rings by session. When memory runs out, those sessions make room that have not called for the longest time.
#[derive(Debug, Default)]
pub(super) struct Rings {
    by_session: HashMap<SessionKey, Kept>,
    /// Sessions by the time of a call of theirs; which one that was may have changed since.
    idle: VecDeque<(SessionKey, Timestamp)>,
    bytes: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Kept {
    ring: Ring,
    last: Timestamp,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) memory: usize,
    pub(super) calls: usize,
    pub(super) keep: Duration,
}

impl Rings {
    /// Takes the calls of several workers that belong to sessions. Calls of one session may have come to different
    /// workers: their numbers say which was first.
    pub(super) fn take<'b>(&mut self, batches: impl IntoIterator<Item = &'b Batch>, bounds: Bounds, now: Timestamp) {
        let calls = batches.into_iter().flat_map(Batch::iter);
        let mut calls: Vec<_> = calls.filter_map(|(entry, texts)| Some((entry.session?, entry, texts))).collect();
        calls.sort_by_key(|(_, entry, _)| entry.number);
        for (session, entry, texts) in calls {
            let kept = self.by_session.entry(session).or_insert_with(|| {
                self.idle.push_back((session, now));
                self.bytes += OVERHEAD;
                Kept { ring: Ring::default(), last: now }
            });
            let before = kept.ring.bytes();
            kept.ring.push(entry, texts, bounds.calls);
            kept.last = now;
            self.bytes = (self.bytes + kept.ring.bytes()).saturating_sub(before);
            if self.bytes > bounds.memory {
                self.make_room(bounds, now);
            }
        }
    }

    /// Forgets sessions that have not called for too long, and, while memory is short, others behind them.
    pub(super) fn make_room(&mut self, bounds: Bounds, now: Timestamp) {
        while let Some((session, noted)) = self.idle.front().copied() {
            let over = self.bytes > bounds.memory;
            if !over && noted.after(bounds.keep) > now {
                return;
            }
            self.idle.pop_front();
            let Some(kept) = self.by_session.get(&session) else { continue };
            // It has called since: it goes to the end, unless it is the only one.
            if kept.last > noted && !self.idle.is_empty() {
                self.idle.push_back((session, kept.last));
                continue;
            }
            if let Some(kept) = self.by_session.remove(&session) {
                self.bytes = self.bytes.saturating_sub(OVERHEAD + kept.ring.bytes());
                self.evicted += u64::from(over);
            }
        }
    }

    /// The calls of a session.
    pub(super) fn get(&self, session: SessionKey) -> Option<&Ring> {
        self.by_session.get(&session).map(|kept| &kept.ring)
    }

    /// Bytes of memory, sessions, and sessions that had to make room.
    pub(super) fn counts(&self) -> (usize, usize, u64) {
        (self.bytes, self.by_session.len(), self.evicted)
    }
}

#[cfg(test)]
mod tests;
