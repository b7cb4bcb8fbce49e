//! A place that records go to: a bounded queue, and a thread of its own that writes. What does not fit the queue is
//! dropped and counted; what cannot be written is dropped, counted and reported; nothing waits for it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::config::SubjectForm;
use super::line::with_line;
use super::record::Batch;
use super::subject::SubjectKey;
use crate::telemetry::Telemetry;

/// How long a sink that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a sink without records looks after itself.
const TICK: Duration = Duration::from_secs(1);

/// How long the end waits for what is still queued.
const FLUSH: Duration = Duration::from_secs(5);

/// What is counted of a sink; it outlives reloads.
#[derive(Debug, Default)]
pub struct SinkCounts {
    /// Records written.
    pub written: AtomicU64,
    /// Records dropped: the queue was full, or they could not be written.
    pub dropped: AtomicU64,
    /// Writes that failed.
    pub failures: AtomicU64,
    /// Whether the last write failed.
    pub failed: AtomicBool,
}

/// Where bytes go.
pub(super) trait Output: Send {
    /// Writes whole lines, or an error and none of them; half a line at most.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Called about once a second.
    fn tick(&mut self) {}
}

/// How subjects are written.
#[derive(Debug)]
pub(super) struct Subjects {
    pub(super) form: SubjectForm,
    pub(super) key: Option<SubjectKey>,
}

impl Subjects {
    fn tell(&self, subject: &str) -> String {
        match (self.form, &self.key) {
            _ if subject.is_empty() => String::new(),
            (SubjectForm::Clear, _) => subject.to_owned(),
            (SubjectForm::Digest, Some(key)) => key.digest(subject),
            (SubjectForm::Digest, None) | (SubjectForm::Off, _) => String::new(),
        }
    }
}

/// The collector's end of a sink.
#[derive(Debug)]
pub(super) struct Sink {
    sender: Sender<Arc<Batch>>,
    waiting: Arc<AtomicUsize>,
    most: usize,
    counts: Arc<SinkCounts>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

impl Sink {
    /// A sink that writes to `output` in a thread called `name`.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub(super) fn start(
        name: &'static str,
        output: Box<dyn Output>,
        subjects: Subjects,
        most: usize,
        telemetry: Arc<Telemetry>,
        counts: Arc<SinkCounts>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let waiting = Arc::<AtomicUsize>::default();
        let writer = Writer {
            name,
            output,
            subjects,
            telemetry,
            waiting: Arc::clone(&waiting),
            counts: Arc::clone(&counts),
            paused: None,
        };
        let run = move || {
            let _alive: Sender<()> = alive;
            writer.run(&receiver);
        };
        thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { sender, waiting, most, counts, ended })
    }

    /// Queues a batch, or drops it.
    pub(super) fn offer(&self, batch: &Arc<Batch>) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting + batch.bytes() > self.most || self.sender.send(Arc::clone(batch)).is_err() {
            self.counts.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        } else {
            self.waiting.fetch_add(batch.bytes(), Ordering::Relaxed);
        }
    }

    /// Writes what is queued, unless that takes too long, and ends.
    pub(super) fn end(self) {
        let Self { sender, ended, .. } = self;
        drop(sender);
        _ = ended.recv_timeout(FLUSH);
    }
}

/// The thread's end.
struct Writer {
    name: &'static str,
    output: Box<dyn Output>,
    subjects: Subjects,
    telemetry: Arc<Telemetry>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<SinkCounts>,
    /// Until when it is left alone.
    paused: Option<Instant>,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Arc<Batch>>) {
        let (mut text, mut ticked) = (Vec::new(), Instant::now());
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(batch) => {
                    self.write(&batch, &mut text);
                    self.waiting.fetch_sub(batch.bytes(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.output.tick();
            }
        }
    }

    fn write(&mut self, batch: &Batch, text: &mut Vec<u8>) {
        let count = batch.len() as u64;
        if self.paused.is_some_and(|until| Instant::now() < until) {
            self.counts.dropped.fetch_add(count, Ordering::Relaxed);
            return;
        }
        text.clear();
        for (entry, texts) in batch.iter() {
            let subject = self.subjects.tell(texts.subject);
            let written = with_line(entry, texts, self.telemetry.labels(), &subject, |line| line.write(&mut *text));
            debug_assert!(written.is_ok(), "memory takes everything");
        }
        let (sink, written) = (self.name, self.output.write(text));
        let failed = self.counts.failed.swap(written.is_err(), Ordering::Relaxed);
        match written {
            Ok(()) => {
                self.paused = None;
                self.counts.written.fetch_add(count, Ordering::Relaxed);
                if failed {
                    tracing::info!(sink, "the trail is written again");
                }
            }
            Err(error) => {
                self.paused = Some(Instant::now() + PAUSE);
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                if !failed {
                    tracing::error!(sink, %error, "the trail cannot be written; records are dropped, calls go on");
                }
            }
        }
    }
}

/// Standard output.
pub(super) struct Stdout {
    file: File,
    /// Whether the last line may have been cut.
    torn: bool,
}

impl Stdout {
    /// # Errors
    /// If there is no standard output.
    pub(super) fn open() -> io::Result<Self> {
        // A descriptor of its own: `Stdout` writes every line by itself.
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, torn: false })
    }
}

impl Output for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        let written = self.file.write_all(bytes);
        self.torn = written.is_err();
        written
    }
}
