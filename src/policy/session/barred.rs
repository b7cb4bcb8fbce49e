//! Waiting for the end of a session, as long-lived streams do.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Session;
use crate::policy::rejection::Rejection;

/// Wakers by the numbers of those who wait.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) wakers: Vec<(u64, Waker)>,
    last: u64,
}

impl Waiting {
    /// Wakes all of them.
    pub(super) fn wake(self) {
        self.wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Ready with what calls are refused with once its session has ended or is suspended. Dropped before, it leaves nothing
/// behind.
#[derive(Debug)]
pub struct Barred {
    session: Arc<Session>,
    number: Option<u64>,
}

impl Barred {
    pub(super) const fn by(session: Arc<Session>) -> Self {
        Self { session, number: None }
    }
}

impl Future for Barred {
    type Output = Rejection;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Rejection> {
        let this = &mut *self;
        let mut shared = this.session.lock();
        if let Some(rejection) = shared.standing.rejection() {
            return Poll::Ready(rejection);
        }
        let waiting = shared.waiting.get_or_insert_default();
        let number = *this.number.get_or_insert_with(|| {
            waiting.last += 1;
            waiting.last
        });
        match waiting.wakers.iter_mut().find(|(known, _)| *known == number) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => waiting.wakers.push((number, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Barred {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        if let Some(waiting) = &mut self.session.lock().waiting {
            waiting.wakers.retain(|(known, _)| *known != number);
        }
    }
}
