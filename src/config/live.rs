//! The snapshot in force, shared by all who serve calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::Snapshot;

/// Holds the snapshot in force. Readers keep an `Arc` of their own and compare the generation, which costs one load of
/// a number that hardly ever changes.
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
}

impl Live {
    /// Begins with this snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        let generation = AtomicU64::new(snapshot.generation);
        Self { snapshot: ArcSwap::from_pointee(snapshot), generation }
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts another snapshot in force. Calls under way finish with the one they began with.
    pub fn swap(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.snapshot.store(Arc::new(snapshot));
        self.generation.store(generation, Ordering::Release);
    }
}
