//! What the parts of an HTTP/1 connection tell each other.
//!
//! hyper owns the IO wrapper and the service and shows neither to the driver that polls it; a call's bodies live in the
//! front. They meet here. Everything happens in one task or at least on one thread, so nothing is contended: what each call
//! needs are atomics that are only loaded and stored, as cheap as cells, and the lock is for what few calls have. They are
//! no cells because the parts must be `Send`.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
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

#[derive(Debug, Default)]
pub(in crate::server) struct Link {
    drain: Drain,
    waiting: AtomicU8,
    stuck: Flag,
    again: Flag,
    discarding: Flag,
    calls: Count,
    received: Count,
    written: Count,
    /// The call of the head that was handed out last has reached the service.
    called: Flag,
    /// The body of its answer was passed to hyper whole, or dropped.
    answered: Flag,
    /// The connection closes after the answer.
    closing: Flag,
    /// `rare` has an order.
    ordered: Flag,
    /// `rare` has a refusal.
    refused: Flag,
    /// `rare` has interim responses.
    hinted: Flag,
    /// The answer follows them already.
    answering: Flag,
    rare: Mutex<Rare>,
}

/// What few calls have.
#[derive(Debug, Default)]
struct Rare {
    /// Why the stand-in that hyper sees instead of a request must be refused.
    refused: Option<Rejection>,
    /// What the wrapper must do instead of waiting on.
    order: Option<Rejection>,
    left: Option<Left>,
    /// Heads of interim responses that wait to be written.
    interim: Vec<u8>,
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
        Self { drain, ..Self::default() }
    }

    /// Tells whom to wake: the task of the connection.
    pub(in crate::server) fn driven_by(&self, driver: &Waker) {
        self.rare.lock().driver = Some(driver.clone());
    }

    /// Forgets what the last poll of hyper waited for, before the next one.
    pub(in crate::server) fn before_poll(&self) {
        self.wait_for(Waiting::Nothing);
        self.stuck.set(false);
        self.again.set(false);
    }

    pub(in crate::server) fn view(&self) -> View {
        View {
            waiting: Waiting::of(self.waiting.load(Ordering::Relaxed)),
            stuck: self.stuck.get(),
            again: self.again.get(),
            discarding: self.discarding.get(),
            calls: self.calls.get(),
            received: self.received.get(),
            written: self.written.get(),
        }
    }

    /// Orders the wrapper to give up on what it waits for: a head is refused, a body ends with an error.
    pub(in crate::server) fn give_up(&self, rejection: Rejection) {
        self.rare.lock().order = Some(rejection);
        self.ordered.set(true);
    }

    /// What comes after a `101`, if hyper was given one.
    pub(in crate::server) fn take_tunnel(&self) -> Option<Tunnel> {
        self.rare.lock().tunnel.take()
    }

    /// Throws away what has arrived of an unread body.
    pub(in crate::server) fn poll_discard(&self, cx: &mut Context<'_>) -> Discard {
        if !self.discarding.get() {
            return Discard::Nothing;
        }
        // Out of the lock while it is polled: dropping or reading it may wake tasks.
        let Some(mut left) = self.rare.lock().left.take() else { return Discard::Nothing };
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
            self.discarding.set(false);
            return Discard::Progress;
        }
        self.rare.lock().left = Some(left);
        progress
    }

    /// Stops discarding: hyper will close the connection after the answer.
    pub(in crate::server) fn stop_discarding(&self) {
        self.discarding.set(false);
        // Bound, so that it is dropped after the lock is released.
        let _left = self.rare.lock().left.take();
    }
}

// For the service and the bodies.
impl Link {
    /// Notes that a call begins: its number on this connection, and whether it is a stand-in to be refused.
    pub(in crate::server) fn begin_call(&self) -> (u64, Option<Rejection>) {
        self.called.set(true);
        self.calls.add(1);
        self.answering.set(false);
        if self.hinted.get() {
            self.hinted.set(false);
            self.rare.lock().interim.clear();
        }
        let refused = self.refused.take().then(|| self.rare.lock().refused.take()).flatten();
        (self.calls.get(), refused)
    }

    /// Has the head of an interim response written before the answer.
    pub(in crate::server) fn hint(&self, head: &[u8]) {
        let interim = &mut self.rare.lock().interim;
        if interim.len() + head.len() <= INTERIM_BYTES {
            interim.extend_from_slice(head);
            self.hinted.set(true);
        }
    }

    /// Notes that hyper is about to have the answer: what has waited until it begins to go out comes too late.
    pub(in crate::server) fn begin_answer(&self) {
        self.answering.set(true);
    }

    /// Notes that hyper has the whole answer.
    pub(in crate::server) fn end_answer(&self) {
        self.answered.set(true);
    }

    /// Notes that the answer is a `101` and what comes after it.
    pub(in crate::server) fn switch(&self, tunnel: Tunnel) {
        self.rare.lock().tunnel = Some(tunnel);
    }

    /// The answer must say `connection: close`.
    pub(in crate::server) fn close_after_answer(&self) {
        self.closing.set(true);
    }

    /// Whether the connection closes after this answer.
    pub(in crate::server) fn is_closing(&self) -> bool {
        self.closing.get() || self.drain.has_begun()
    }

    /// Leaves a body that the front does not want, perhaps from the task of an upstream connection.
    pub(in crate::server) fn leave(&self, incoming: Incoming) {
        self.discarding.set(true);
        let mut rare = self.rare.lock();
        rare.left = Some(Left { incoming, bytes: 0 });
        let driver = rare.driver.clone();
        drop(rare);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

// For the wrapper.
impl Link {
    pub(super) fn was_called(&self) -> bool {
        self.called.get()
    }

    /// Takes the interim responses that wait, if they may go out now. `before_write` says that hyper is about to write,
    /// `clean` that all it wrote before was whole messages.
    pub(super) fn take_interim(&self, before_write: bool, clean: bool) -> Vec<u8> {
        if !self.hinted.get() {
            return Vec::new();
        }
        if clean && (before_write || !self.answering.get()) {
            self.hinted.set(false);
            return std::mem::take(&mut self.rare.lock().interim);
        }
        // hyper is in the middle of its `100 Continue`, and the answer is behind that: too late.
        if self.answering.get() {
            self.hinted.set(false);
            self.rare.lock().interim.clear();
        }
        Vec::new()
    }

    pub(super) fn take_order(&self) -> Option<Rejection> {
        self.ordered.take().then(|| self.rare.lock().order.take()).flatten()
    }

    pub(super) fn refuse(&self, rejection: Rejection) {
        self.rare.lock().refused = Some(rejection);
        self.refused.set(true);
    }

    pub(super) fn wait_for(&self, waiting: Waiting) {
        self.waiting.store(waiting as u8, Ordering::Relaxed);
    }

    pub(super) fn handed(&self, bytes: usize) {
        self.received.add(bytes as u64);
    }

    pub(super) fn stuck(&self, written: u64) {
        self.stuck.set(true);
        self.written.set(written);
    }

    /// Closes the call if its answer is complete; `blocked` says that the socket has nothing to read, `more` that bytes
    /// of the next request are here.
    pub(super) fn end_call(&self, blocked: bool, more: bool) -> bool {
        if !(self.called.get() && self.answered.get()) {
            return false;
        }
        self.called.set(false);
        self.answered.set(false);
        if more {
            self.again.set(true);
        } else if blocked {
            // hyper knows that it is blocked and does not read again.
            self.wait_for(Waiting::Idle);
        }
        true
    }
}

impl Waiting {
    /// What is stored as its number.
    fn of(number: u8) -> Self {
        [Self::Nothing, Self::Idle, Self::Head, Self::Body].get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// A flag of one thread.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Flag {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, flag: bool) {
        self.0.store(flag, Ordering::Relaxed);
    }

    /// Whether it was set; it is not after that.
    fn take(&self) -> bool {
        let was = self.get();
        if was {
            self.set(false);
        }
        was
    }
}

/// A number of one thread.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    fn add(&self, more: u64) {
        self.set(self.get() + more);
    }
}
