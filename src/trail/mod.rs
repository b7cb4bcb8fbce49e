//! The trail: one record per call, refused and admitted alike, by which a session can be followed call by call.
//!
//! Each worker puts the records of its calls into memory that no other worker writes. A thread collects them ten times
//! a second, or sooner if there are many: into rings of the last calls of each session, and into the queues of sinks,
//! each of which writes in a thread of its own. Who wants to read a session collects first, so nothing is missing.
//!
//! Why not a ring inside each session, written by the call itself: memory could not be bounded over all sessions
//! without a lock that every call takes.

pub mod config;
pub mod csv;
pub mod erase;
mod files;
pub mod line;
pub mod read;
pub mod record;
mod rings;
mod sink;
pub mod subject;
pub mod summary;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use secrecy::ExposeSecret;

use crate::clock::Clock;
use crate::policy::ids::SessionKey;
use crate::telemetry::record::{CallRecord, Details};
use crate::telemetry::{Keeper, Telemetry};
use config::{SubjectForm, TrailConfig};
use files::Files;
use line::{Line, with_line};
use record::Batch;
use rings::{Bounds, Rings};
use sink::{Sink, SinkCounts, Stdout, Subjects};
use subject::SubjectKey;

/// How often records are collected.
const PERIOD: Duration = Duration::from_millis(100);

/// Most bytes of records that one worker holds until they are collected; further ones are dropped.
const WORKER_MAX: usize = 4 << 20;

/// At so many bytes a worker does not wait for the next collection.
const WORKER_MANY: usize = 1 << 20;

/// Why a trail cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// Its files cannot be written.
    #[error("the trail cannot be written to {0}: {1}")]
    Files(String, #[source] io::Error),
    /// There is no standard output.
    #[error("the trail cannot be written to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// A thread cannot be made.
    #[error("the trail cannot start its threads: {0}")]
    Thread(#[source] io::Error),
}

/// The trail of a process.
#[derive(Debug)]
pub struct Trail {
    telemetry: Arc<Telemetry>,
    clock: Arc<Clock>,
    workers: Mutex<Vec<Arc<WorkerBatch>>>,
    alarm: Arc<Alarm>,
    state: Mutex<State>,
    files: Arc<SinkCounts>,
    stdout: Arc<SinkCounts>,
}

/// What the collector owns.
#[derive(Debug, Default)]
struct State {
    config: Option<TrailConfig>,
    rings: Rings,
    sinks: Vec<Sink>,
    taken: u64,
    /// Whether the thread that collects is there.
    collecting: bool,
}

/// Wakes the collector before its time. An alarm that nobody hears is no loss: it looks again soon.
#[derive(Debug, Default)]
struct Alarm {
    sleeper: Mutex<()>,
    bell: Condvar,
}

/// Sinks that were opened for a configuration, to be put in force with it.
#[derive(Debug)]
pub struct Opened {
    config: Option<TrailConfig>,
    /// None: those in force stay.
    sinks: Option<Vec<Sink>>,
}

/// Records of one worker that wait to be collected.
#[derive(Debug, Default)]
struct WorkerBatch {
    batch: Mutex<Batch>,
    dropped: AtomicU64,
    hurry: AtomicBool,
}

/// The worker's end.
#[derive(Debug)]
struct WorkerKeeper {
    own: Arc<WorkerBatch>,
    alarm: Arc<Alarm>,
}

/// Numbers for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrailCounts {
    /// Records taken.
    pub taken: u64,
    /// Records dropped because a worker's memory was full.
    pub dropped: u64,
    /// Bytes of memory for the last calls of sessions.
    pub bytes: usize,
    /// Sessions with calls in memory.
    pub sessions: usize,
    /// Sessions that had to make room in memory.
    pub evicted: u64,
}

impl Trail {
    /// A trail that keeps nothing yet.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>) -> Arc<Self> {
        Arc::new(Self {
            telemetry,
            clock: Arc::default(),
            workers: Mutex::default(),
            alarm: Arc::default(),
            state: Mutex::default(),
            files: Arc::default(),
            stdout: Arc::default(),
        })
    }

    /// Where one more worker puts its records.
    #[must_use]
    pub fn keeper(&self) -> Box<dyn Keeper> {
        let own = Arc::<WorkerBatch>::default();
        self.workers.lock().push(Arc::clone(&own));
        Box::new(WorkerKeeper { own, alarm: Arc::clone(&self.alarm) })
    }

    /// Opens the sinks of `config`. Nothing changes until [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// [`TrailError`]; what is in force stays.
    pub fn open(&self, config: Option<&TrailConfig>) -> Result<Opened, TrailError> {
        let state = self.state.lock();
        let same = |old: &TrailConfig, new: &TrailConfig| {
            let memory = |config: &TrailConfig| TrailConfig { memory: 0, calls_per_session: 0, ..config.clone() };
            memory(old) == TrailConfig { keep: old.keep, ..memory(new) }
        };
        if state.config.as_ref().zip(config).is_some_and(|(old, new)| same(old, new)) {
            return Ok(Opened { config: config.cloned(), sinks: None });
        }
        drop(state);
        let mut sinks = Vec::new();
        if let Some(config) = config {
            if let Some(files) = &config.files {
                let wrong = |error| TrailError::Files(files.folder.display().to_string(), error);
                let output = Files::open(files.clone(), Arc::clone(&self.clock)).map_err(wrong)?;
                sinks.push(self.start("trail-files", Box::new(output), config, &self.files)?);
            }
            if config.stdout {
                let output = Stdout::open().map_err(TrailError::Stdout)?;
                sinks.push(self.start("trail-stdout", Box::new(output), config, &self.stdout)?);
            }
        }
        Ok(Opened { config: config.cloned(), sinks: Some(sinks) })
    }

    fn start(
        &self,
        name: &'static str,
        output: Box<dyn sink::Output>,
        config: &TrailConfig,
        counts: &Arc<SinkCounts>,
    ) -> Result<Sink, TrailError> {
        let key = match (&config.subject_key, &config.files, config.subject) {
            (Some(key), ..) => Some(SubjectKey::new(key.expose_secret().as_bytes())),
            (None, Some(files), SubjectForm::Digest) => {
                let wrong = |error| TrailError::Files(files.folder.display().to_string(), error);
                Some(SubjectKey::read_or_make(&files.folder).map_err(wrong)?)
            }
            (None, ..) => None,
        };
        let subjects = Subjects { form: config.subject, key };
        let telemetry = Arc::clone(&self.telemetry);
        Sink::start(name, output, subjects, config.queue, telemetry, Arc::clone(counts)).map_err(TrailError::Thread)
    }

    /// Puts in force what was opened.
    ///
    /// # Errors
    /// [`TrailError::Thread`] if the collector cannot be started.
    pub fn adopt(self: &Arc<Self>, opened: Opened) -> Result<(), TrailError> {
        // What was recorded so far goes where it was to go.
        self.collect();
        let mut state = self.state.lock();
        let before = opened.sinks.map(|sinks| std::mem::replace(&mut state.sinks, sinks));
        state.config = opened.config;
        if state.config.is_none() {
            state.rings = Rings::default();
        } else if !state.collecting {
            self.start_collector().map_err(TrailError::Thread)?;
            state.collecting = true;
        }
        drop(state);
        before.into_iter().flatten().for_each(Sink::end);
        Ok(())
    }

    /// The thread ends when no trail is kept any more.
    fn start_collector(self: &Arc<Self>) -> io::Result<()> {
        let (trail, alarm) = (Arc::downgrade(self), Arc::clone(&self.alarm));
        let collect = move || {
            loop {
                alarm.bell.wait_for(&mut alarm.sleeper.lock(), PERIOD);
                let Some(trail) = trail.upgrade() else { return };
                let mut state = trail.state.lock();
                trail.collect_into(&mut state);
                if state.config.is_none() {
                    state.collecting = false;
                    return;
                }
            }
        };
        thread::Builder::new().name("trail".into()).spawn(collect).map(drop)
    }

    /// Collects what workers hold.
    fn collect(&self) {
        let mut state = self.state.lock();
        self.collect_into(&mut state);
    }

    fn collect_into(&self, state: &mut State) {
        let State { config: Some(config), rings, sinks, taken, .. } = state else { return };
        let bounds = Bounds { memory: config.memory, calls: config.calls_per_session, keep: config.keep };
        let now = self.clock.now().steady;
        let workers = self.workers.lock().clone();
        let batches = workers.iter().map(|worker| {
            // Memory is asked for before the worker could have to wait for it.
            let size = worker.batch.lock().size();
            let mut fresh = Batch::with_room(size);
            std::mem::swap(&mut fresh, &mut *worker.batch.lock());
            worker.hurry.store(false, Ordering::Relaxed);
            Arc::new(fresh)
        });
        let batches: Vec<_> = batches.filter(|batch| !batch.is_empty()).collect();
        if bounds.memory > 0 {
            rings.take(batches.iter().map(|batch| &**batch), bounds, now);
        }
        for batch in batches {
            *taken += batch.len() as u64;
            sinks.iter().for_each(|sink| sink.offer(&batch));
        }
        rings.make_room(bounds, now);
    }

    /// Looks at the calls of a session, up to now. None: there are none in memory.
    pub fn of_session<T>(&self, session: SessionKey, look: impl FnOnce(&record::Ring) -> T) -> Option<T> {
        let mut state = self.state.lock();
        self.collect_into(&mut state);
        state.rings.get(session).map(look)
    }

    /// Gives each kept call of a session to `visit`, and says how many are not kept any more. None: there are none in
    /// memory.
    pub fn lines(&self, session: SessionKey, mut visit: impl FnMut(&Line<'_>)) -> Option<u32> {
        self.of_session(session, |ring| {
            ring.for_each(|entry, texts| with_line(entry, texts, self.telemetry.labels(), "", &mut visit));
            ring.forgotten()
        })
    }

    /// What a session did, in a few numbers. None: none of its calls are in memory.
    #[must_use]
    pub fn summary(&self, session: SessionKey) -> Option<summary::Summary> {
        self.of_session(session, |ring| summary::Summary::of(ring, self.telemetry.labels()))
    }

    /// Whether a trail is kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.state.lock().config.is_some()
    }

    /// Numbers, once a trail is or was kept.
    #[must_use]
    pub fn counts(&self) -> Option<TrailCounts> {
        let state = self.state.lock();
        let dropped = self.workers.lock().iter().map(|worker| worker.dropped.load(Ordering::Relaxed)).sum();
        let (bytes, sessions, evicted) = state.rings.counts();
        state.config.as_ref().map(|_| TrailCounts { taken: state.taken, dropped, bytes, sessions, evicted })
    }

    /// The sinks that are in use, by name.
    #[must_use]
    pub fn sinks(&self) -> Vec<(&'static str, Arc<SinkCounts>)> {
        let state = self.state.lock();
        let Some(config) = &state.config else { return Vec::new() };
        let files = config.files.as_ref().map(|_| ("files", Arc::clone(&self.files)));
        let stdout = config.stdout.then(|| ("stdout", Arc::clone(&self.stdout)));
        files.into_iter().chain(stdout).collect()
    }

    /// Collects and writes what is left, unless that takes too long.
    pub fn end(&self) {
        self.collect();
        let sinks = std::mem::take(&mut self.state.lock().sinks);
        sinks.into_iter().for_each(Sink::end);
    }
}

impl Keeper for WorkerKeeper {
    fn keep(&self, call: &CallRecord, details: &Details) {
        let own = &*self.own;
        let mut batch = own.batch.lock();
        if batch.bytes() >= WORKER_MAX {
            own.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        batch.take(call, details);
        let many = batch.bytes() >= WORKER_MANY;
        drop(batch);
        if many && !own.hurry.swap(true, Ordering::Relaxed) {
            self.alarm.bell.notify_one();
        }
    }
}
