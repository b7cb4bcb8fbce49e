//! A coarse timer, one per worker: time-outs without a runtime timer per call.
//!
//! The runtime's own timer costs an allocation and two passes through its wheel per time-out, and almost every time-out
//! of a gateway is set and never fires. Here an entry is one slot of a slab, and all entries of a worker share the single
//! `sleep` of one task that is awake only when something is due.
//!
//! A deadline fires up to one [`TICK`] late and never early. An idle worker has no entry that is due soon, so it does not
//! wake at all.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pin_project_lite::pin_project;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Resolution of the timer: a deadline fires at most this much late.
pub const TICK: Duration = Duration::from_millis(100);

/// Deadlines further away than this are treated as this far away; more than any time-out we have.
const FARTHEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Handle to the timer of a worker. Cloning it costs a reference count.
///
/// The lock inside is uncontended: the worker's tasks and the driver run on one thread. It exists so that handles are
/// `Send` and can be moved into spawned tasks.
#[derive(Clone)]
pub struct Timer {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    entries: Mutex<Entries>,
    /// Told when an entry becomes due before everything the driver knows of.
    sooner: Notify,
}

struct Entries {
    slots: Slab<Slot>,
    /// No armed slot is due before this tick.
    earliest: Option<u64>,
}

struct Slot {
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Set to fire at this tick.
    Armed(u64),
    Fired,
    Off,
}

impl Timer {
    /// Starts a timer and the task that drives it on the current runtime.
    ///
    /// The task ends with the runtime.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with time enabled.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            entries: Mutex::new(Entries { slots: Slab::new(), earliest: None }),
            sooner: Notify::new(),
        });
        tokio::spawn(drive(Arc::clone(&shared)));
        Self { shared }
    }

    /// A deadline that is not set yet. Takes no slot until [`Deadline::reset`].
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline { shared: Arc::clone(&self.shared), slot: None }
    }

    /// Waits for `future`, at most for `duration`. Nothing is registered if the future is ready at once.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if the time passed first; the future is dropped with the returned one.
    pub fn timeout<F: Future>(&self, duration: Duration, future: F) -> Timeout<F> {
        Timeout { future, deadline: self.deadline(), duration, set: false }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("entries", &self.shared.entries.lock().slots.len()).finish()
    }
}

/// One deadline of a [`Timer`], to be set again and again. Dropping it frees its slot.
pub struct Deadline {
    shared: Arc<Shared>,
    slot: Option<usize>,
}

impl Deadline {
    /// Sets the deadline to `duration` from now, whatever it was before.
    ///
    /// A task that polled this deadline before stays registered.
    pub fn reset(&mut self, duration: Duration) {
        let tick = self.shared.tick_at(Instant::now() + duration.min(FARTHEST));
        let mut entries = self.shared.entries.lock();
        match self.slot.and_then(|key| entries.slots.get_mut(key)) {
            Some(slot) => slot.state = State::Armed(tick),
            None => self.slot = Some(entries.slots.insert(Slot { state: State::Armed(tick), waker: None })),
        }
        if entries.earliest.is_none_or(|earliest| tick < earliest) {
            entries.earliest = Some(tick);
            drop(entries);
            self.shared.sooner.notify_one();
        }
    }

    /// Whether the deadline is set, be it passed or not.
    #[must_use]
    pub fn is_set(&self) -> bool {
        let state = self.slot.and_then(|key| self.shared.entries.lock().slots.get(key).map(|slot| slot.state));
        state.is_some_and(|state| state != State::Off)
    }

    /// Unsets the deadline; it does not fire until it is [`reset`](Self::reset).
    pub fn clear(&mut self) {
        let Some(key) = self.slot else { return };
        // Bound, so that the waker is dropped after the lock is released.
        let _waker = self.shared.entries.lock().slots.get_mut(key).map(Slot::take);
    }

    /// Ready when the deadline has passed, and on every later call until it is reset or cleared. An unset deadline is
    /// pending for ever.
    pub fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.slot else { return Poll::Pending };
        let mut entries = self.shared.entries.lock();
        let Some(slot) = entries.slots.get_mut(key) else { return Poll::Pending };
        if slot.state == State::Fired {
            return Poll::Ready(());
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            let old = slot.waker.replace(cx.waker().clone());
            // Dropped outside the lock: the last waker of a task may drop the task, and with it a deadline.
            drop(entries);
            drop(old);
        }
        Poll::Pending
    }
}

impl Slot {
    /// Turns the slot off and gives its waker, to be dropped outside the lock.
    fn take(&mut self) -> Option<Waker> {
        self.state = State::Off;
        self.waker.take()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(key) = self.slot.take() {
            // Bound, so that the waker inside is dropped after the lock is released.
            let _slot = self.shared.entries.lock().slots.try_remove(key);
        }
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Shared {
    /// The first tick that is not before `instant`.
    fn tick_at(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.start).as_nanos();
        u64::try_from(since.div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX)
    }

    /// Marks what is due at `now` as fired and gives the wakers.
    fn fire(&self, now: Instant) -> Vec<Waker> {
        // Rounded down: an entry fires when its whole tick has passed.
        let tick = u64::try_from(now.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos());
        let tick = tick.unwrap_or(u64::MAX);
        let mut entries = self.entries.lock();
        let mut due = Vec::new();
        if entries.earliest.is_none_or(|earliest| earliest > tick) {
            return due;
        }
        let mut earliest = None;
        for (_, slot) in &mut entries.slots {
            let State::Armed(at) = slot.state else { continue };
            if at <= tick {
                slot.state = State::Fired;
                due.extend(slot.waker.take());
            } else if earliest.is_none_or(|earliest| at < earliest) {
                earliest = Some(at);
            }
        }
        entries.earliest = earliest;
        due
    }

    /// When the driver must look again.
    fn next(&self) -> Option<Instant> {
        let tick = self.entries.lock().earliest?;
        let ticks = u32::try_from(tick).unwrap_or(u32::MAX);
        Some(self.start + TICK * ticks)
    }
}

async fn drive(shared: Arc<Shared>) {
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    loop {
        match shared.next() {
            None => shared.sooner.notified().await,
            Some(instant) => {
                sleep.as_mut().reset(instant);
                tokio::select! {
                    () = &mut sleep => {}
                    () = shared.sooner.notified() => {}
                }
            }
        }
        for waker in shared.fire(Instant::now()) {
            waker.wake();
        }
    }
}

pin_project! {
    /// The future of [`Timer::timeout`].
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        deadline: Deadline,
        duration: Duration,
        set: bool,
    }
}

/// The time given to [`Timer::timeout`] passed before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time allowed has passed")]
pub struct Elapsed;

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if !*this.set {
            *this.set = true;
            this.deadline.reset(*this.duration);
        }
        this.deadline.poll_elapsed(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use super::*;

    // In real time: a paused clock needs a feature of tokio that is off here.

    async fn elapsed(deadline: &mut Deadline) {
        poll_fn(|cx| deadline.poll_elapsed(cx)).await;
    }

    fn slots(timer: &Timer) -> usize {
        timer.shared.entries.lock().slots.len()
    }

    #[tokio::test]
    async fn a_deadline_fires_and_never_early() {
        let timer = Timer::start();
        let mut deadline = timer.deadline();
        for millis in [0, 1, 30, 150] {
            let from = Instant::now();
            deadline.reset(Duration::from_millis(millis));
            elapsed(&mut deadline).await;
            let took = from.elapsed();
            assert!(took >= Duration::from_millis(millis), "{took:?} for {millis} ms");
        }
    }

    /// Without running the driver.
    fn has_fired(deadline: &mut Deadline) -> bool {
        deadline.poll_elapsed(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn a_deadline_is_at_most_one_tick_late() {
        let timer = Timer::start();
        let shared = &timer.shared;
        let mut deadline = timer.deadline();
        let wanted = Duration::from_millis(250);
        let before = Instant::now() + wanted;
        deadline.reset(wanted);
        let after = Instant::now() + wanted;
        let due = shared.next().expect("armed");
        assert!(due >= before && due < after + TICK);

        shared.fire(due - Duration::from_nanos(1));
        assert!(!has_fired(&mut deadline), "not early, not even by a nanosecond");
        shared.fire(due);
        assert!(has_fired(&mut deadline));
        assert!(shared.next().is_none(), "nothing left to wake up for");
    }

    #[tokio::test]
    async fn a_deadline_set_again_fires_at_the_new_time_only() {
        let timer = Timer::start();
        let mut deadline = timer.deadline();
        deadline.reset(Duration::from_secs(60));
        deadline.reset(Duration::from_millis(1));
        elapsed(&mut deadline).await;
        deadline.reset(Duration::from_secs(60));
        let again = timer.timeout(Duration::from_millis(150), elapsed(&mut deadline)).await;
        assert_eq!(again, Err(Elapsed));
    }

    #[tokio::test]
    async fn a_cleared_deadline_does_not_fire() {
        let timer = Timer::start();
        let mut deadline = timer.deadline();
        deadline.reset(Duration::from_millis(1));
        deadline.clear();
        assert_eq!(timer.timeout(Duration::from_millis(250), elapsed(&mut deadline)).await, Err(Elapsed));
    }

    #[tokio::test]
    async fn a_timeout_registers_nothing_for_a_ready_future_and_leaves_nothing_behind() {
        let timer = Timer::start();
        assert_eq!(timer.timeout(Duration::ZERO, ready(7)).await, Ok(7));
        assert_eq!(slots(&timer), 0);
        assert_eq!(timer.timeout(Duration::from_millis(1), pending::<()>()).await, Err(Elapsed));
        assert_eq!(slots(&timer), 0);
    }

    #[tokio::test]
    async fn many_deadlines_fire_in_their_order() {
        let timer = Timer::start();
        let mut deadlines = [330, 30, 180].map(|millis| {
            let mut deadline = timer.deadline();
            deadline.reset(Duration::from_millis(millis));
            deadline
        });
        for expected in [[false, true, false], [false, true, true], [true, true, true]] {
            timer.shared.fire(timer.shared.next().expect("armed"));
            assert_eq!(deadlines.each_mut().map(has_fired), expected);
        }
    }
}
