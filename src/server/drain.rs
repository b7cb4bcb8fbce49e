//! The signal to finish: stop accepting, let calls end, close.

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Tells workers and connections to finish. Clones share the signal; each of its two steps happens once.
#[derive(Debug, Clone, Default)]
pub struct Drain {
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
        Self { begun: self.begun.child_token(), ended: self.ended.child_token() }
    }

    /// Begins the drain: nothing more is accepted, idle connections close, running calls end with `connection: close`
    /// or GOAWAY.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Ends it at once: connections that are left are dropped.
    pub fn end(&self) {
        self.begun.cancel();
        self.ended.cancel();
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
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
