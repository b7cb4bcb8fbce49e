//! First answers to calls with an Idempotency-Key, so that a call that comes again gets the answer of the first.
//!
//! Bounded three ways: by keys of a session, by bytes of all answers, and by time. A key whose call has no known outcome is
//! remembered until its session ends, for only with it that call may be repeated.

use std::collections::VecDeque;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;

use super::memory::Spread;
use crate::policy::ids::SessionKey;
use crate::policy::time::Timestamp;

/// Most keys of one session that are remembered.
pub const KEYS_MAX: usize = 16;

/// Most bytes of all answers together.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a request is told from others by: a digest of its method, target and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A digest of an Idempotency-Key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub [u8; 16]);

/// An answer that is kept.
#[derive(Debug)]
pub struct Kept {
    /// Its status.
    pub status: http::StatusCode,
    /// The fields that are kept.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: Bytes,
}

impl Kept {
    fn cost(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| name.as_str().len() + value.len());
        self.body.len() + fields.sum::<usize>()
    }
}

/// What is known of the call with a key. A fingerprint is missing if the request never came whole; then any is taken for
/// it.
#[derive(Debug, Clone)]
pub enum Memory {
    /// Nobody knows what came of it.
    Unknown(Option<Fingerprint>),
    /// It had its effect. Its answer, unless that could not be kept.
    Done(Option<Fingerprint>, Option<Arc<Kept>>),
}

#[derive(Debug)]
struct Entry {
    key: KeyDigest,
    /// None while the call runs.
    memory: Option<Memory>,
    until: Timestamp,
}

/// What a key stands for.
#[derive(Debug)]
pub enum Begun<'g> {
    /// For nothing yet: this call is the first.
    First(Claim<'g>),
    /// For a call that runs.
    InFlight,
    /// For a call whose outcome nobody knows: this one may find out.
    Again(Claim<'g>, Option<Fingerprint>),
    /// For a call that had its effect.
    Done(Option<Fingerprint>, Option<Arc<Kept>>),
}

/// All answers.
#[derive(Debug, Default)]
pub struct Answers {
    sessions: DashMap<SessionKey, Vec<Entry>, BuildHasherDefault<Spread>>,
    /// Sessions by the time at which they are looked after next; each that has a key is in here once.
    due: Mutex<VecDeque<(Timestamp, SessionKey)>>,
    bytes: AtomicUsize,
}

impl Answers {
    /// A call with a key begins at `now`. What comes of it is remembered for `ttl`; a doubt until the session ends, at
    /// `end`.
    pub fn begin(
        &self,
        session: SessionKey,
        key: KeyDigest,
        now: Timestamp,
        ttl: Duration,
        end: Timestamp,
    ) -> Begun<'_> {
        let claim = |otherwise| Claim { answers: self, session, key, until: now.after(ttl), end, otherwise };
        let mut place = match self.sessions.entry(session) {
            Place::Occupied(known) => known,
            Place::Vacant(free) => {
                self.due.lock().push_back((now.after(ttl), session));
                free.insert_entry(Vec::with_capacity(1))
            }
        };
        let entries = place.get_mut();
        self.forget(entries, now);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) {
            return match entry.memory.clone() {
                None => Begun::InFlight,
                Some(Memory::Done(first, kept)) => Begun::Done(first, kept),
                Some(Memory::Unknown(first)) => {
                    entry.memory = None;
                    Begun::Again(claim(Some(Memory::Unknown(first))), first)
                }
            };
        }
        if entries.len() >= KEYS_MAX {
            // The oldest one that is over makes room.
            let over = entries.iter().position(|entry| matches!(entry.memory, Some(Memory::Done(..))));
            let Some(over) = over else { return Begun::InFlight };
            self.release(&entries.remove(over));
        }
        entries.push(Entry { key, memory: None, until: end });
        Begun::First(claim(None))
    }

    /// Forgets what is old, of at most `limit` sessions; says whether more is waiting.
    pub fn sweep(&self, now: Timestamp, ttl: Duration, limit: usize) -> bool {
        for _ in 0..limit {
            let mut due = self.due.lock();
            let Some((at, session)) = due.front().copied().filter(|(at, _)| *at <= now) else { return false };
            debug_assert!(at <= now, "only what is due");
            due.pop_front();
            drop(due);
            let Place::Occupied(mut known) = self.sessions.entry(session) else { continue };
            self.forget(known.get_mut(), now);
            if known.get().is_empty() {
                known.remove();
            } else {
                self.due.lock().push_back((now.after(ttl), session));
            }
        }
        true
    }

    /// Bytes of all answers that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn forget(&self, entries: &mut Vec<Entry>, now: Timestamp) {
        entries.retain(|entry| {
            let stays = entry.memory.is_none() || now < entry.until;
            if !stays {
                self.release(entry);
            }
            stays
        });
    }

    fn release(&self, entry: &Entry) {
        if let Some(Memory::Done(_, Some(kept))) = &entry.memory {
            self.bytes.fetch_sub(kept.cost(), Ordering::Relaxed);
        }
    }

    fn settle(&self, claim: &mut Claim<'_>) {
        let Place::Occupied(mut known) = self.sessions.entry(claim.session) else { return };
        let entries = known.get_mut();
        let Some(place) = entries.iter().position(|entry| entry.key == claim.key) else { return };
        match claim.otherwise.take() {
            None => _ = entries.remove(place),
            Some(memory) => {
                let until = if let Memory::Unknown(_) = memory { claim.end } else { claim.until };
                if let Some(entry) = entries.get_mut(place) {
                    (entry.memory, entry.until) = (Some(memory), until);
                }
            }
        }
    }
}

/// A call that runs under its key. Dropped, it leaves behind what was last said of it.
#[derive(Debug)]
#[must_use]
pub struct Claim<'g> {
    answers: &'g Answers,
    session: SessionKey,
    key: KeyDigest,
    until: Timestamp,
    end: Timestamp,
    /// What is remembered; none: nothing, as if it had not been.
    otherwise: Option<Memory>,
}

impl Claim<'_> {
    /// Says what is to be remembered.
    pub fn leave(&mut self, memory: Option<Memory>) {
        self.otherwise = memory;
    }

    /// Keeps the answer, if there is room.
    pub fn keep(mut self, kept: Kept) {
        let (cost, bytes) = (kept.cost(), &self.answers.bytes);
        let fits = |held: usize| held.checked_add(cost).filter(|held| *held <= BYTES_MAX);
        if let Some(Memory::Done(first, None)) = self.otherwise
            && bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
        {
            self.otherwise = Some(Memory::Done(first, Some(Arc::new(kept))));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let answers = self.answers;
        answers.settle(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ids::SessionId;

    const TTL: Duration = Duration::from_secs(600);
    const END: Timestamp = Timestamp::from_secs(5000);
    const PRINT: Option<Fingerprint> = Some(Fingerprint([7; 32]));

    fn session(number: u8) -> SessionKey {
        SessionId::from_random([number; 16]).key()
    }

    fn begin(answers: &Answers, key: u8, secs: u64) -> Begun<'_> {
        answers.begin(session(1), KeyDigest([key; 16]), Timestamp::from_secs(secs), TTL, END)
    }

    fn kept(length: usize) -> Kept {
        Kept { status: http::StatusCode::CREATED, fields: vec![], body: vec![0; length].into() }
    }

    fn answer(answers: &Answers, key: u8, secs: u64, length: usize) {
        let Begun::First(mut claim) = begin(answers, key, secs) else { panic!("{key} is known") };
        claim.leave(Some(Memory::Done(PRINT, None)));
        claim.keep(kept(length));
    }

    #[test]
    fn the_first_answer_is_that_of_all() {
        let answers = Answers::default();
        let Begun::First(first) = begin(&answers, 1, 0) else { panic!() };
        assert!(matches!(begin(&answers, 1, 1), Begun::InFlight));
        drop(first);
        answer(&answers, 1, 2, 5);
        let Begun::Done(PRINT, Some(found)) = begin(&answers, 1, 601) else { panic!() };
        assert_eq!((found.body.len(), answers.bytes()), (5, 5));
        assert!(matches!(begin(&answers, 1, 602), Begun::First(_)), "its time is over");
        assert_eq!(answers.bytes(), 0);
    }

    #[test]
    fn a_doubt_stays_until_the_session_ends() {
        let answers = Answers::default();
        let Begun::First(mut claim) = begin(&answers, 1, 0) else { panic!() };
        claim.leave(Some(Memory::Unknown(PRINT)));
        drop(claim);
        assert!(!answers.sweep(Timestamp::from_secs(700), TTL, 10));
        let Begun::Again(claim, PRINT) = begin(&answers, 1, 4000) else { panic!() };
        assert!(matches!(begin(&answers, 1, 4000), Begun::InFlight));
        drop(claim);
        assert!(matches!(begin(&answers, 1, 4000), Begun::Again(..)), "nothing was learned");
        assert!(!answers.sweep(END, TTL, 10));
        assert!(answers.sessions.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let answers = Answers::default();
        for key in 0..40 {
            answer(&answers, key, 0, 10);
        }
        assert_eq!(answers.bytes(), KEYS_MAX * 10, "the oldest of a session make room");
        answer(&answers, 40, 0, BYTES_MAX);
        assert!(matches!(begin(&answers, 40, 0), Begun::Done(PRINT, None)), "it was done, and its answer was not kept");
        assert!(!answers.sweep(Timestamp::from_secs(600), TTL, 10));
        assert_eq!((answers.bytes(), answers.sessions.len(), answers.due.lock().len()), (0, 0, 0));
    }
}
