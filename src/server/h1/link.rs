//! What the parts of an HTTP/1 connection tell each other.
//!
//! hyper owns the IO wrapper and the service and shows neither to the driver that polls it; a call's bodies live in the
//! front. They meet here. Everything happens in one task or at least on one thread, so the lock is uncontended; it is a
//! lock and not a cell because the parts must be `Send`.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use http_body::Body;
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::policy::rejection::Rejection;
use crate::server::Drain;
use crate::server::body::LEFT_BYTES;
use crate::server::socket::Transport;

/// What the last read of hyper waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::server) enum Waiting {
    /// Nothing that the client owes us.
    #[default]
    Nothing,
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body that the front wants.
    Body,
}

/// What the driver needs to know after a poll of hyper.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::server) struct View {
    pub(in crate::server) waiting: Waiting,
    /// The client does not take the bytes that we have for it.
    pub(in crate::server) stuck: bool,
    /// hyper must be polled again: there are bytes it was not shown yet.
    pub(in crate::server) again: bool,
    /// A body that the front left unread is being discarded.
    pub(in crate::server) discarding: bool,
    /// Calls begun.
    pub(in crate::server) calls: u64,
    /// Bytes of requests handed to hyper.
    pub(in crate::server) received: u64,
    /// Bytes the kernel took.
    pub(in crate::server) written: u64,
}

#[derive(Debug)]
pub(in crate::server) struct Link {
    state: Mutex<State>,
    drain: Drain,
    /// Whether `interim` holds something: few calls have any, and the others should not pay for a look.
    hinted: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    view: View,
    /// The call of the head that was handed out last has reached the service.
    called: bool,
    /// The body of its answer was passed to hyper whole, or dropped.
    answered: bool,
    /// Why the stand-in that hyper sees instead of a request must be refused.
    refused: Option<Rejection>,
    /// What the wrapper must do instead of waiting on.
    order: Option<Rejection>,
    closing: bool,
    left: Option<Left>,
    /// Heads of interim responses that wait to be written.
    interim: Vec<u8>,
    /// The answer follows them already.
    answering: bool,
    /// What comes after the `101` that hyper was given.
    tunnel: Option<Tunnel>,
    /// The task of the connection.
    driver: Option<Waker>,
}

/// Takes over a connection that has left HTTP; see [`Front::tunnel`](crate::server::Front::tunnel).
pub(in crate::server) struct Tunnel(pub(in crate::server) TakeOver);

/// The front's future borrows the socket; its type is not ours to know.
type TakeOver = Box<dyn for<'a> FnOnce(&'a mut dyn Transport, Vec<u8>) -> Going<'a> + Send>;
pub(in crate::server) type Going<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

/// Bytes of interim responses that may wait. They are hints: what is too much is left out.
const INTERIM_BYTES: usize = 16 * 1024;

/// A request body that nobody wants.
#[derive(Debug)]
struct Left {
    incoming: Incoming,
    bytes: u64,
}

/// How the discarding of an unread body went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Discard {
    Nothing,
    /// Part or all of it was thrown away: hyper can go on.
    Progress,
}

// For the driver.
impl Link {
    pub(in crate::server) fn new(drain: Drain) -> Self {
        Self { state: Mutex::default(), drain, hinted: AtomicBool::default() }
    }

    /// Forgets what the last poll of hyper waited for, before the next one.
    pub(in crate::server) fn before_poll(&self, cx: &Context<'_>) {
        let mut state = self.state.lock();
        state.view.waiting = Waiting::Nothing;
        state.view.stuck = false;
        state.view.again = false;
        if !state.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            state.driver = Some(cx.waker().clone());
        }
    }

    pub(in crate::server) fn view(&self) -> View {
        self.state.lock().view
    }

    /// Orders the wrapper to give up on what it waits for: a head is refused, a body ends with an error.
    pub(in crate::server) fn give_up(&self, rejection: Rejection) {
        self.state.lock().order = Some(rejection);
    }

    /// What comes after a `101`, if hyper was given one.
    pub(in crate::server) fn take_tunnel(&self) -> Option<Tunnel> {
        self.state.lock().tunnel.take()
    }

    /// Throws away what has arrived of an unread body.
    pub(in crate::server) fn poll_discard(&self, cx: &mut Context<'_>) -> Discard {
        // Out of the lock while it is polled: dropping or reading it may wake tasks.
        let Some(mut left) = self.state.lock().left.take() else { return Discard::Nothing };
        let mut progress = Discard::Nothing;
        loop {
            match Pin::new(&mut left.incoming).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => {
                    progress = Discard::Progress;
                    left.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if left.bytes <= LEFT_BYTES {
                        continue;
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => {}
            }
            self.state.lock().view.discarding = false;
            return Discard::Progress;
        }
        self.state.lock().left = Some(left);
        progress
    }

    /// Stops discarding: hyper will close the connection after the answer.
    pub(in crate::server) fn stop_discarding(&self) {
        let mut state = self.state.lock();
        state.view.discarding = false;
        let left = state.left.take();
        drop(state);
        drop(left);
    }
}

// For the service and the bodies.
impl Link {
    /// Notes that a call begins: its number on this connection, and whether it is a stand-in to be refused.
    pub(in crate::server) fn begin_call(&self) -> (u64, Option<Rejection>) {
        let mut state = self.state.lock();
        state.called = true;
        state.view.calls += 1;
        state.answering = false;
        state.interim.clear();
        self.hinted.store(false, Ordering::Relaxed);
        (state.view.calls, state.refused.take())
    }

    /// Has the head of an interim response written before the answer.
    pub(in crate::server) fn hint(&self, head: &[u8]) {
        let mut state = self.state.lock();
        if state.interim.len() + head.len() <= INTERIM_BYTES {
            state.interim.extend_from_slice(head);
            self.hinted.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that hyper is about to have the answer: what has waited until it begins to go out comes too late.
    pub(in crate::server) fn begin_answer(&self) {
        if self.hinted.load(Ordering::Relaxed) {
            self.state.lock().answering = true;
        }
    }

    /// Notes that hyper has the whole answer.
    pub(in crate::server) fn end_answer(&self) {
        self.state.lock().answered = true;
    }

    /// Notes that the answer is a `101` and what comes after it.
    pub(in crate::server) fn switch(&self, tunnel: Tunnel) {
        self.state.lock().tunnel = Some(tunnel);
    }

    /// The answer must say `connection: close`.
    pub(in crate::server) fn close_after_answer(&self) {
        self.state.lock().closing = true;
    }

    /// Whether the connection closes after this answer.
    pub(in crate::server) fn is_closing(&self) -> bool {
        self.drain.has_begun() || self.state.lock().closing
    }

    /// Leaves a body that the front does not want, perhaps from the task of an upstream connection.
    pub(in crate::server) fn leave(&self, incoming: Incoming) {
        let mut state = self.state.lock();
        state.view.discarding = true;
        state.left = Some(Left { incoming, bytes: 0 });
        let driver = state.driver.clone();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

// For the wrapper.
impl Link {
    pub(super) fn was_called(&self) -> bool {
        self.state.lock().called
    }

    /// Takes the interim responses that wait, if they may go out now. `before_write` says that hyper is about to write,
    /// `clean` that all it wrote before was whole messages.
    pub(super) fn take_interim(&self, before_write: bool, clean: bool) -> Vec<u8> {
        if !self.hinted.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut state = self.state.lock();
        if clean && (before_write || !state.answering) {
            self.hinted.store(false, Ordering::Relaxed);
            return std::mem::take(&mut state.interim);
        }
        // hyper is in the middle of its `100 Continue`, and the answer is behind that: too late.
        if state.answering {
            self.hinted.store(false, Ordering::Relaxed);
            state.interim.clear();
        }
        Vec::new()
    }

    pub(super) fn take_order(&self) -> Option<Rejection> {
        self.state.lock().order.take()
    }

    pub(super) fn refuse(&self, rejection: Rejection) {
        self.state.lock().refused = Some(rejection);
    }

    pub(super) fn wait_for(&self, waiting: Waiting) {
        self.state.lock().view.waiting = waiting;
    }

    pub(super) fn handed(&self, bytes: usize) {
        self.state.lock().view.received += bytes as u64;
    }

    pub(super) fn stuck(&self, written: u64) {
        let view = &mut self.state.lock().view;
        view.stuck = true;
        view.written = written;
    }

    /// Closes the call if its answer is complete; `blocked` says that the socket has nothing to read, `more` that bytes
    /// of the next request are here.
    pub(super) fn end_call(&self, blocked: bool, more: bool) -> bool {
        let mut state = self.state.lock();
        if !(state.called && state.answered) {
            return false;
        }
        state.called = false;
        state.answered = false;
        if more {
            state.view.again = true;
        } else if blocked {
            // hyper knows that it is blocked and does not read again.
            state.view.waiting = Waiting::Idle;
        }
        true
    }
}
