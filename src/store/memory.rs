//! Sessions in a concurrent map, and their expiry.
//!
//! An ended session stays in the map as its own tombstone, so that its owner can be told how it ended. The sweeper
//! never walks the map: every session waits in the bucket of the second in which it may have to end, and ended ones
//! queue in the order they ended. No lock is held for more than a stated number of entries: the map has many small
//! shards, and a sweep takes a bounded bite.

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use super::{IdempotentOpening, Opened, Opening, Selector, SessionStore};
use crate::policy::ids::{ClientId, Owner, SessionId, SessionKey};
use crate::policy::rejection::{Rejection, Wait};
use crate::policy::session::{EndCause, Progress, Session, Standing};
use crate::policy::time::Timestamp;

/// Shards of the map. At ten million sessions a shard holds eighty thousand: the most entries one lock ever covers. More
/// shards would not fit the cache together with what a call needs, and each look-up reads one.
const SHARDS: usize = 128;

/// What a client at its cap is told to wait before it asks again, in seconds.
const CAP_WAIT: Wait = Wait(60);

/// Takes a part of what is spread evenly already, such as a [`SessionKey`] that a gate made: a digest needs no second one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() >= 8, "a digest has more than {} bytes", bytes.len());
        self.0 = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A client as the cap counts it: the same name at two issuers is two clients.
type ClientKey = (Option<Arc<str>>, ClientId);

#[derive(Debug, Clone, Copy)]
struct Remembered {
    opening: IdempotentOpening,
    /// The one place where an id is kept: a repeated opening must return it. For ten minutes, in memory only.
    id: SessionId,
}

/// How long what has ended is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How long an ended session is remembered.
    pub tombstone_ttl: Duration,
    /// Most ended sessions that are remembered.
    pub tombstone_max: usize,
}

/// Upper bounds of the buckets of the ages that sessions reach, in seconds.
pub const AGES: [u64; 15] = [1, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400];

/// How old sessions were when they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ages {
    /// Sessions per bucket, the last one beyond all bounds.
    pub counts: [u64; AGES.len() + 1],
    /// Seconds of all together.
    pub sum: u64,
}

impl Ages {
    fn note(&mut self, age: Duration) {
        let secs = age.as_secs();
        let bucket = AGES.iter().position(|bound| secs <= *bound).unwrap_or(AGES.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += secs;
    }
}

/// Totals since start, and what is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreCounts {
    /// Sessions opened.
    pub opened: u64,
    /// Sessions ended, by cause, in the order of [`EndCause::ALL`].
    pub ended: [u64; 3],
    /// How old they were then, likewise.
    pub ages: [Ages; 3],
    /// Sessions live or suspended now.
    pub live: u64,
    /// Ended sessions still remembered.
    pub tombstones: u64,
}

/// Sessions in this process.
#[derive(Debug)]
pub struct MemoryStore {
    sessions: DashMap<SessionKey, Arc<Session>, BuildHasherDefault<Spread>>,
    live_by_client: DashMap<ClientKey, u32>,
    openings: DashMap<[u8; 32], Remembered>,
    /// Keys by the second in which their session may have to end.
    due: Mutex<BTreeMap<u64, Vec<SessionKey>>>,
    /// Ended sessions, first ended first.
    ended: Mutex<VecDeque<(Timestamp, SessionKey)>>,
    /// Names of openings, first made first.
    opening_names: Mutex<VecDeque<(Timestamp, [u8; 32])>>,
    opened_total: AtomicU64,
    ended_total: [AtomicU64; 3],
    ages: Mutex<[Ages; 3]>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            sessions: DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), SHARDS),
            live_by_client: DashMap::new(),
            openings: DashMap::new(),
            due: Mutex::default(),
            ended: Mutex::default(),
            opening_names: Mutex::default(),
            opened_total: AtomicU64::new(0),
            ended_total: Default::default(),
            ages: Mutex::default(),
        }
    }
}

impl MemoryStore {
    /// Ends what is due and forgets what is old, at most `limit` entries of each; says whether more is waiting.
    pub fn sweep(&self, now: Timestamp, retention: Retention, limit: usize) -> bool {
        let due = self.take_due(now, limit);
        let mut more = due.len() == limit;
        for key in due {
            let Some(session) = self.get(key) else { continue };
            match session.standing(now) {
                Standing::Ended(EndCause::Expired) => _ = self.finish(&session, EndCause::Expired, now),
                Standing::Ended(_) => {}
                Standing::Live | Standing::Suspended => self.wait_for_end(&session),
            }
        }
        more |= self.forget_ended(now, retention, limit);
        more | self.forget_openings(now, limit)
    }

    /// Totals and levels.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        let opened = self.opened_total.load(Ordering::Relaxed);
        let ended = [0, 1, 2].map(|cause: usize| self.ended_total[cause].load(Ordering::Relaxed));
        let tombstones = self.ended.lock().len() as u64;
        let (live, ages) = (opened.saturating_sub(ended.iter().sum()), *self.ages.lock());
        StoreCounts { opened, ended, ages, live, tombstones }
    }

    /// Live sessions of the clients that `wanted` names, by client, whatever issuer named it.
    pub fn live_of(&self, wanted: impl Fn(&str) -> bool) -> HashMap<ClientId, u64> {
        let mut found: HashMap<ClientId, u64> = HashMap::new();
        for live in self.live_by_client.iter().filter(|live| wanted(live.key().1.as_str())) {
            *found.entry(live.key().1.clone()).or_insert(0) += u64::from(*live.value());
        }
        found
    }

    fn get(&self, key: SessionKey) -> Option<Arc<Session>> {
        self.sessions.get(&key).map(|session| Arc::clone(&session))
    }

    fn take_due(&self, now: Timestamp, limit: usize) -> Vec<SessionKey> {
        let (mut due, mut taken) = (self.due.lock(), Vec::new());
        while taken.len() < limit {
            let Some(mut bucket) = due.first_entry().filter(|bucket| *bucket.key() <= now.as_secs()) else { break };
            let (keys, room) = (bucket.get_mut(), limit - taken.len());
            if keys.len() > room {
                taken.extend(keys.drain(keys.len() - room..));
            } else {
                taken.append(&mut bucket.remove());
            }
        }
        taken
    }

    /// Queues a session for the first full second in which it may have to end.
    fn wait_for_end(&self, session: &Session) {
        self.due.lock().entry(session.deadline().as_secs() + 1).or_default().push(session.key());
    }

    fn forget_ended(&self, now: Timestamp, retention: Retention, limit: usize) -> bool {
        for _ in 0..limit {
            let mut ended = self.ended.lock();
            let over = ended.len() > retention.tombstone_max;
            match ended.front() {
                Some((at, key)) if over || at.after(retention.tombstone_ttl) <= now => {
                    let key = *key;
                    ended.pop_front();
                    drop(ended);
                    self.sessions.remove(&key);
                }
                _ => return false,
            }
        }
        true
    }

    fn forget_openings(&self, now: Timestamp, limit: usize) -> bool {
        for _ in 0..limit {
            let mut names = self.opening_names.lock();
            match names.front() {
                Some((until, name)) if *until <= now => {
                    let name = *name;
                    names.pop_front();
                    drop(names);
                    // The name may have been taken again since.
                    self.openings.remove_if(&name, |_, remembered| remembered.opening.until <= now);
                }
                _ => return false,
            }
        }
        true
    }

    /// Counts a new live session of `owner`'s client, unless that would exceed the cap.
    fn count_live(&self, owner: &Owner, cap: Option<u32>) -> Result<(), Rejection> {
        let mut live = self.live_by_client.entry(client_key(owner)).or_insert(0);
        if cap.is_some_and(|cap| *live >= cap) {
            return Err(Rejection::SessionLimit(CAP_WAIT));
        }
        *live += 1;
        Ok(())
    }

    fn count_ended(&self, owner: &Owner) {
        if let Entry::Occupied(mut live) = self.live_by_client.entry(client_key(owner)) {
            if *live.get() > 1 {
                *live.get_mut() -= 1;
            } else {
                live.remove();
            }
        }
    }

    fn insert(&self, opening: &Opening, now: Timestamp) -> Result<Arc<Session>, Rejection> {
        self.count_live(&opening.owner, opening.cap)?;
        let (owner, scope) = (Arc::clone(&opening.owner), Arc::clone(&opening.scope));
        let session = Session::open(opening.id.key(), owner, scope, opening.lifetimes, now);
        let session = Arc::new(session.following(opening.flow.clone()));
        self.sessions.insert(session.key(), Arc::clone(&session));
        self.wait_for_end(&session);
        self.opened_total.fetch_add(1, Ordering::Relaxed);
        Ok(session)
    }

    /// Ends a session that has not ended: exactly one caller does, and accounts for it.
    fn finish(&self, session: &Session, cause: EndCause, now: Timestamp) -> bool {
        let ended = session.visit(|progress| match progress.standing {
            Standing::Ended(_) => Err(()),
            Standing::Live | Standing::Suspended => {
                progress.standing = Standing::Ended(cause);
                Ok(())
            }
        });
        if ended.is_ok() {
            self.account_end(session, cause, now);
        }
        ended.is_ok()
    }

    fn account_end(&self, session: &Session, cause: EndCause, now: Timestamp) {
        self.count_ended(session.owner());
        self.ended_total[cause as usize].fetch_add(1, Ordering::Relaxed);
        self.ages.lock()[cause as usize].note(now.since(session.opened()));
        self.ended.lock().push_back((now, session.key()));
    }
}

fn client_key(owner: &Owner) -> ClientKey {
    (owner.issuer.clone(), owner.client.clone())
}

impl SessionStore for MemoryStore {
    async fn open(&self, opening: Opening, now: Timestamp) -> Result<Opened, Rejection> {
        let Some(idempotent) = opening.idempotent else {
            let session = self.insert(&opening, now)?;
            return Ok(Opened { id: opening.id, session, replayed: false });
        };
        // The entry stays locked until the session is there: of two equal openings, one opens and the other finds.
        let entry = self.openings.entry(idempotent.name);
        if let Entry::Occupied(remembered) = &entry {
            let Remembered { opening: first, id } = *remembered.get();
            if first.until > now {
                if first.payload != idempotent.payload {
                    return Err(Rejection::IdempotencyKeyReused);
                }
                if let Some(session) = self.get(id.key()) {
                    return Ok(Opened { id, session, replayed: true });
                }
            }
        }
        let session = self.insert(&opening, now)?;
        entry.insert(Remembered { opening: idempotent, id: opening.id });
        self.opening_names.lock().push_back((idempotent.until, idempotent.name));
        Ok(Opened { id: opening.id, session, replayed: false })
    }

    async fn find(&self, key: SessionKey) -> Result<Option<Arc<Session>>, Rejection> {
        Ok(self.get(key))
    }

    async fn transact<T: Send>(
        &self,
        key: SessionKey,
        visit: impl Fn(&mut Progress) -> Result<T, Rejection> + Send,
        now: Timestamp,
    ) -> Result<T, Rejection> {
        let session = self.get(key).ok_or(Rejection::SessionUnknown)?;
        let mut ended = None;
        let outcome = session.visit(|progress| {
            let before = progress.standing;
            let outcome = visit(progress)?;
            if let (Standing::Live | Standing::Suspended, Standing::Ended(cause)) = (before, progress.standing) {
                ended = Some(cause);
            }
            Ok(outcome)
        });
        if let Some(cause) = ended {
            self.account_end(&session, cause, now);
        }
        outcome
    }

    fn settle(&self, session: &Session, visit: impl FnOnce(&mut Progress) + Send) {
        let settled: Result<(), std::convert::Infallible> = session.visit(|progress| {
            visit(progress);
            Ok(())
        });
        debug_assert!(settled.is_ok(), "it agrees always");
    }

    async fn end(&self, key: SessionKey, cause: EndCause, now: Timestamp) -> Result<bool, Rejection> {
        Ok(self.get(key).is_some_and(|session| self.finish(&session, cause, now)))
    }

    async fn list(
        &self,
        selector: &Selector,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<Arc<Session>>, Rejection> {
        if let Some(key) = selector.key {
            return Ok(self.get(key).filter(|session| selector.selects(session)).into_iter().collect());
        }
        // The smallest `limit` keys behind `after`, however many there are.
        let mut first: BinaryHeap<SessionKey> = BinaryHeap::with_capacity(limit.saturating_add(1).min(1024));
        for session in &self.sessions {
            let key = *session.key();
            let wanted = after.is_none_or(|after| key > after)
                && first.peek().is_none_or(|last| first.len() < limit || key < *last);
            if wanted && selector.selects(&session) {
                first.push(key);
                if first.len() > limit {
                    first.pop();
                }
            }
        }
        Ok(first.into_sorted_vec().into_iter().filter_map(|key| self.get(key)).collect())
    }
}
