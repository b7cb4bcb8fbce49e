//! The signal to finish: stop accepting, let calls end, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Tells workers and connections to finish. Clones share the signal; each of its two steps happens once.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// The first step once more, to be looked at for every call: the token would take a lock.
    has_begun: Arc<AtomicBool>,
    begun: CancellationToken,
    ended: CancellationToken,
}

impl Drain {
    /// A signal that was not given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal for one worker: it follows this one, and its connections wait on it without touching memory that other
    /// workers write.
    #[must_use]
    pub fn child(&self) -> Self {
        let has_begun = Arc::clone(&self.has_begun);
        Self { has_begun, begun: self.begun.child_token(), ended: self.ended.child_token() }
    }

    /// Begins the drain: nothing more is accepted, idle connections close, running calls end with `connection: close`
    /// or GOAWAY.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.begun.cancel();
    }

    /// Ends it at once: connections that are left are dropped.
    pub fn end(&self) {
        self.begin();
        self.ended.cancel();
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Waits for [`begin`](Self::begin).
    pub fn begun(&self) -> WaitForCancellationFutureOwned {
        self.begun.clone().cancelled_owned()
    }

    /// Waits for [`end`](Self::end).
    pub fn ended(&self) -> WaitForCancellationFutureOwned {
        self.ended.clone().cancelled_owned()
    }
}
