//! One run: threads that walk, each with a runtime, connections and measurements of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sessiongate::timer::Timer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alarm::Alarms;
use super::credentials::Credentials;
use super::measure::{Measurements, Window};
use super::pool::Pool;
use super::scenario::{Per, Scenario};
use super::schedule::{Arrivals, Rate, Schedule};
use super::target::Target;
use super::walk::Ground;
use crate::cli::failure::Failure;
use crate::cli::times::Times;

/// When walks begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// As a schedule says, whatever the answers do.
    Open {
        /// Walks per second.
        rate: Rate,
        /// How they are spread.
        arrivals: Arrivals,
    },
    /// So many clients, each beginning the next walk when the last one has ended.
    Closed {
        /// How many.
        clients: usize,
    },
}

/// What all runs of one command have in common.
#[derive(Clone)]
pub struct Plan {
    /// What is walked.
    pub scenario: Arc<Scenario>,
    /// Who walks.
    pub credentials: Arc<Credentials>,
    /// What is called.
    pub target: Arc<Target>,
    /// How many threads.
    pub threads: usize,
    /// Most connections of all threads together.
    pub connections: usize,
    /// Most walks.
    pub walks: u64,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long walks may go on after the end.
    pub drain: Duration,
    /// Whether clients think.
    pub think: bool,
    /// The seed of all chance.
    pub seed: u64,
}

/// What one run does.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// When walks begin.
    pub mode: Mode,
    /// How long nothing is measured.
    pub warm_up: Duration,
    /// How long walks begin after that.
    pub duration: Duration,
}

/// A run that is going on.
pub struct Run {
    /// When it takes place.
    pub window: Window,
    parts: Vec<Arc<Mutex<Measurements>>>,
    threads: Vec<thread::JoinHandle<()>>,
    scenario: Arc<Scenario>,
}

/// How a run goes.
pub struct Glance {
    /// Answers by the first digit of their status; calls without an answer at 0.
    pub classes: [u64; 6],
    /// Calls that ended in the warm-up.
    pub warm_up: u64,
    /// Latencies since the last glance.
    pub recent: Times,
}

/// One thread of a run.
struct Worker {
    plan: Plan,
    course: Course,
    /// Its place among the threads.
    place: usize,
    measured: Arc<Mutex<Measurements>>,
    cut: CancellationToken,
    /// The next walk, where no schedule numbers them.
    next: Arc<AtomicU64>,
    ready: tokio::sync::mpsc::Sender<Result<(), String>>,
    start: watch::Receiver<Option<Window>>,
}

impl Run {
    /// Starts the threads, opens connections where sessions belong to them, and begins.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if a thread cannot be started.
    pub async fn begin(plan: &Plan, course: Course, cut: &CancellationToken) -> Result<Self, Failure> {
        let next = Arc::new(AtomicU64::new(0));
        let (ready, mut readiness) = tokio::sync::mpsc::channel(plan.threads);
        let (starter, start) = watch::channel(None);
        let (mut parts, mut threads) = (Vec::new(), Vec::new());
        for place in 0..plan.threads {
            let measured = Arc::new(Mutex::new(Measurements::new(&plan.scenario)));
            parts.push(Arc::clone(&measured));
            let worker = Worker {
                plan: plan.clone(),
                course,
                place,
                measured,
                cut: cut.clone(),
                next: Arc::clone(&next),
                ready: ready.clone(),
                start: start.clone(),
            };
            let spawned = thread::Builder::new().name(format!("load-{place}")).spawn(move || worker.run());
            threads.push(spawned.map_err(|error| Failure::runtime("a thread cannot be started", error))?);
        }
        drop(ready);
        for _ in 0..plan.threads {
            match readiness.recv().await {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(Failure::Runtime(error)),
                None => return Err(Failure::Runtime("a thread ended before it began".into())),
            }
        }
        let window = Window::new(Instant::now(), course.warm_up, course.duration);
        starter.send_replace(Some(window));
        Ok(Self { window, parts, threads, scenario: Arc::clone(&plan.scenario) })
    }

    /// Whether all threads have ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished)
    }

    /// All that was measured so far.
    pub fn measured(&self) -> Measurements {
        let mut all = Measurements::new(&self.scenario);
        self.parts.iter().for_each(|part| all.merge(&part.lock()));
        all
    }

    /// How it goes so far.
    pub fn glance(&self) -> Glance {
        let mut glance = Glance { classes: [0; 6], warm_up: 0, recent: Times::coarse() };
        for part in &self.parts {
            let mut part = part.lock();
            glance.warm_up += part.warm_up;
            for slice in &part.slices {
                glance.classes.iter_mut().zip(slice.classes).for_each(|(sum, count)| *sum += count);
            }
            part.take_recent(&mut glance.recent);
        }
        glance
    }
}

impl Worker {
    fn run(self) {
        let ready = self.ready.clone();
        let failed = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => match runtime.block_on(self.work()) {
                Ok(()) => return,
                Err(error) => error,
            },
            Err(error) => format!("a thread cannot be started: {error}"),
        };
        // If nobody listens any more, another thread has failed before.
        _ = ready.try_send(Err(failed));
    }

    /// A fair part of something that all threads share.
    fn part(&self, all: usize) -> usize {
        all / self.plan.threads + usize::from(self.place < all % self.plan.threads)
    }

    async fn work(mut self) -> Result<(), String> {
        let alarms = Alarms::start().map_err(|error| format!("there is no timer: {error}"))?;
        let plan = &self.plan;
        let mut ground = Ground {
            scenario: Arc::clone(&plan.scenario),
            credentials: Arc::clone(&plan.credentials),
            target: Arc::clone(&plan.target),
            pool: Arc::new(Pool::new(Arc::clone(&plan.target), self.part(plan.connections).max(1))),
            timer: Timer::start(),
            alarms,
            measured: Arc::clone(&self.measured),
            window: Window::new(Instant::now(), Duration::ZERO, self.course.duration),
            timeout: plan.timeout,
            think: plan.think,
            seed: plan.seed,
            running: AtomicU64::new(0),
        };
        if plan.scenario.per == Per::Connection {
            tokio::select! {
                prepared = self.prepare(&ground) => prepared?,
                () = self.cut.cancelled() => {}
            }
        }
        // If nobody listens any more, another thread has failed and this one ends below.
        _ = self.ready.send(Ok(())).await;
        match self.start.wait_for(Option::is_some).await.map(|window| *window) {
            Ok(Some(window)) => ground.window = window,
            Ok(None) | Err(_) => return Ok(()),
        }
        let ground = Arc::new(ground);
        let tracker = TaskTracker::new();
        tokio::select! {
            () = self.cut.cancelled() => {}
            () = self.walk_all(&ground, &tracker) => {
                tracker.close();
                let last = ground.window.end.max(Instant::now()) + self.plan.drain;
                tokio::select! {
                    () = self.cut.cancelled() => {}
                    () = tracker.wait() => {}
                    () = tokio::time::sleep_until(last.into()) => {}
                }
            }
        }
        // What still runs is dropped with the runtime.
        self.measured.lock().cut_off += ground.running.load(Ordering::Relaxed);
        Ok(())
    }

    /// Opens connections and their sessions, so that the run begins with warm ones.
    async fn prepare(&self, ground: &Ground) -> Result<(), String> {
        let connections = self.part(self.plan.connections);
        let lines = match self.course.mode {
            Mode::Closed { clients } => self.part(clients).min(connections),
            Mode::Open { .. } => connections,
        };
        let mut opened = Vec::with_capacity(lines);
        for line in 0..lines {
            match ground.prepare(line as u64).await {
                // Kept until all are there, or the same one would be taken again.
                Some(taken) => opened.push(taken),
                None => {
                    let code = ground.measured.lock().problems.keys().next().cloned().unwrap_or_default();
                    return Err(format!("only {line} of {lines} sessions could be opened {code}"));
                }
            }
        }
        ground.measured.lock().begin();
        Ok(())
    }

    /// Begins all walks that are to begin.
    async fn walk_all(&self, ground: &Arc<Ground>, tracker: &TaskTracker) {
        let window = ground.window;
        match self.course.mode {
            Mode::Open { rate, arrivals } => {
                // All threads go through the same schedule and take turns, so that it does not depend on their number.
                let schedule = Schedule::new(rate, arrivals, self.course.warm_up, self.course.duration, self.plan.seed);
                for (number, offset) in schedule.take_while(|(number, _)| *number < self.plan.walks) {
                    if number % self.plan.threads as u64 != self.place as u64 {
                        continue;
                    }
                    let intended = window.start + offset;
                    if intended > Instant::now() {
                        ground.alarms.sleep_until(intended).await;
                    } else {
                        // When it is late it does not sleep, and others must get their turn all the same.
                        tokio::task::yield_now().await;
                    }
                    let ground = Arc::clone(ground);
                    tracker.spawn(async move { ground.walk(number, intended).await });
                }
            }
            Mode::Closed { clients } => {
                for _ in 0..self.part(clients) {
                    let (ground, next, walks) = (Arc::clone(ground), Arc::clone(&self.next), self.plan.walks);
                    tracker.spawn(async move {
                        loop {
                            let now = Instant::now();
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if now >= window.end || number >= walks {
                                return;
                            }
                            ground.walk(number, now).await;
                        }
                    });
                }
                tracker.close();
                tokio::select! {
                    () = tracker.wait() => {}
                    () = tokio::time::sleep_until(window.end.into()) => {}
                }
            }
        }
    }
}
