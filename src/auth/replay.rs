//! The memory of proofs that were used (RFC 9449 section 11.1): bounded, in this process, kept over a reload.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;

use super::dpop::ProofName;
use crate::policy::time::Timestamp;

const SHARDS: usize = 16;

/// No room for one more proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Proofs in two generations: what is in the older one is forgotten when the younger one is a window old, so each is
/// remembered for at least a window and at most two.
#[derive(Debug, Default)]
struct Shard {
    younger: HashSet<[u8; 16]>,
    older: HashSet<[u8; 16]>,
    /// When the younger generation began.
    since: Timestamp,
}

/// The proofs that were used.
#[derive(Debug, Default)]
pub struct Replays([Mutex<Shard>; SHARDS]);

impl Replays {
    /// Notes that a proof is used at `now` (steady time), and says whether it is the first time within `window`.
    ///
    /// # Errors
    /// [`Full`] with `most` proofs in mind: none is forgotten early, since its second use would pass then.
    pub fn first_use(
        &self,
        ProofName(name): ProofName,
        window: Duration,
        most: usize,
        now: Timestamp,
    ) -> Result<bool, Full> {
        let [first, ..] = name;
        let Some(shard) = self.0.get(usize::from(first) % SHARDS) else { return Err(Full) };
        let mut shard = shard.lock();
        let age = now.since(shard.since);
        if age >= window {
            let younger = std::mem::take(&mut shard.younger);
            // After a long silence both generations are over.
            shard.older = if age >= window.saturating_mul(2) { HashSet::new() } else { younger };
            shard.since = now;
        }
        if shard.older.contains(&name) {
            return Ok(false);
        }
        if shard.older.len() + shard.younger.len() >= (most / SHARDS).max(1) && !shard.younger.contains(&name) {
            return Err(Full);
        }
        Ok(shard.younger.insert(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(65);

    fn name(number: u8) -> ProofName {
        // All in one shard.
        ProofName([SHARDS as u8 * 2, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    #[test]
    fn a_proof_is_remembered_for_its_window_whenever_it_came() {
        for start in 0..130 {
            let replays = Replays::default();
            let at = |secs: u64| Timestamp::from_secs(1_000 + secs);
            assert_eq!(replays.first_use(name(9), WINDOW, 100, at(0)), Ok(true));
            assert_eq!(replays.first_use(name(1), WINDOW, 100, at(start)), Ok(true));
            for later in 0..65 {
                assert_eq!(replays.first_use(name(1), WINDOW, 100, at(start + later)), Ok(false), "{start} {later}");
            }
            assert_eq!(replays.first_use(name(1), WINDOW, 100, at(start + 200)), Ok(true));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_is_forgotten_early() {
        let replays = Replays::default();
        let at = Timestamp::from_secs;
        for number in 0..4 {
            assert_eq!(replays.first_use(name(number), WINDOW, 4 * SHARDS, at(1_000)), Ok(true));
        }
        assert_eq!(replays.first_use(name(4), WINDOW, 4 * SHARDS, at(1_000)), Err(Full));
        assert_eq!(replays.first_use(name(0), WINDOW, 4 * SHARDS, at(1_001)), Ok(false));
        assert_eq!(replays.first_use(name(4), WINDOW, 4 * SHARDS, at(1_130)), Ok(true));
    }
}
