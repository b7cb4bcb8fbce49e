//! A timer that is precise to some ten microseconds: arrivals must not be late because the runtime counts milliseconds.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The alarms of one thread. Cloning it costs a reference count.
#[derive(Clone)]
pub struct Alarms(Arc<Shared>);

struct Shared {
    pending: Mutex<BinaryHeap<Reverse<Alarm>>>,
    clock: Clock,
}

struct Alarm {
    at: Instant,
    sleeper: oneshot::Sender<()>,
}

impl Alarms {
    /// Starts the timer, within the runtime of the thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start() -> io::Result<Self> {
        let alarms = Self(Arc::new(Shared { pending: Mutex::default(), clock: Clock::new()? }));
        tokio::spawn(drive(alarms.clone()));
        Ok(alarms)
    }

    /// Waits until `at`.
    pub async fn sleep_until(&self, at: Instant) {
        if at <= Instant::now() {
            return;
        }
        let (sleeper, waking) = oneshot::channel();
        let is_next = {
            let mut pending = self.0.pending.lock();
            pending.push(Reverse(Alarm { at, sleeper }));
            pending.peek().is_some_and(|next| next.0.at == at)
        };
        if is_next {
            self.0.clock.set(at);
        }
        // The other end is dropped only with the runtime.
        _ = waking.await;
    }

    /// Wakes whoever is due, and gives the next moment that somebody is.
    fn ring(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut pending = self.0.pending.lock();
        while pending.peek().is_some_and(|next| next.0.at <= now) {
            if let Some(Reverse(alarm)) = pending.pop() {
                // Nobody sleeps any more where a walk was ended early.
                _ = alarm.sleeper.send(());
            }
        }
        pending.peek().map(|next| next.0.at)
    }
}

async fn drive(alarms: Alarms) {
    while alarms.0.clock.ticked().await.is_ok() {
        if let Some(next) = alarms.ring() {
            alarms.0.clock.set(next);
        }
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(target_os = "linux")]
use kernel::Clock;
#[cfg(not(target_os = "linux"))]
use portable::Clock;

/// A timer of the kernel that is waited for like a socket.
#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
    use tokio::io::unix::AsyncFd;

    pub(super) struct Clock(AsyncFd<OwnedFd>);

    impl Clock {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; it asks for a descriptor that stays open, as an owned one does"
        )]
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Self(AsyncFd::new(timer)?))
        }

        /// Lets it tick at `at`, and not at the moment that was set before.
        pub(super) fn set(&self, at: Instant) {
            // Zero would switch it off.
            let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let Ok(value) = Timespec::try_from(wait) else { return };
            // It fails for invalid times only, and this one is valid.
            _ = rustix::time::timerfd_settime(
                self.0.get_ref(),
                TimerfdTimerFlags::empty(),
                &Itimerspec { it_interval: once, it_value: value },
            );
        }

        pub(super) async fn ticked(&self) -> io::Result<()> {
            loop {
                let mut ready = self.0.readable().await?;
                let mut count = [0; 8];
                let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?));
                // Set anew between tick and read, it has nothing to say.
                if let Ok(read) = read {
                    return read.map(drop);
                }
            }
        }
    }
}

/// The timer of the runtime, which counts milliseconds.
#[cfg(not(target_os = "linux"))]
mod portable {
    use std::io;
    use std::time::Instant;

    use parking_lot::Mutex;
    use tokio::sync::Notify;

    pub(super) struct Clock {
        next: Mutex<Option<Instant>>,
        changed: Notify,
    }

    impl Clock {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self { next: Mutex::new(None), changed: Notify::new() })
        }

        pub(super) fn set(&self, at: Instant) {
            *self.next.lock() = Some(at);
            self.changed.notify_one();
        }

        pub(super) async fn ticked(&self) -> io::Result<()> {
            loop {
                let next = *self.next.lock();
                let Some(next) = next else {
                    self.changed.notified().await;
                    continue;
                };
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {
                        *self.next.lock() = None;
                        return Ok(());
                    }
                    () = self.changed.notified() => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn alarms_ring_in_order_and_never_early() {
        let alarms = Alarms::start().unwrap();
        let start = Instant::now();
        let rung = Arc::new(Mutex::new(Vec::new()));
        let sleeps = [30u64, 5, 20, 0, 5].map(|millis| {
            let (alarms, rung) = (alarms.clone(), Arc::clone(&rung));
            tokio::spawn(async move {
                let at = start + Duration::from_millis(millis);
                alarms.sleep_until(at).await;
                assert!(Instant::now() >= at);
                rung.lock().push(millis);
            })
        });
        for sleep in sleeps {
            sleep.await.unwrap();
        }
        assert_eq!(*rung.lock(), [0, 5, 5, 20, 30]);
    }
}
