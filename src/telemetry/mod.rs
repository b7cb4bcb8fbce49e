//! What operators see: one [`record::CallRecord`] per call, and the metrics and log lines that are views of it.

pub mod access_log;
pub mod labels;
pub mod metrics;
pub mod queue;
pub mod record;
pub mod stats;
pub mod steps;

use std::sync::Arc;

use parking_lot::Mutex;

use access_log::AccessLogger;
use labels::Labels;
use record::CallRecord;
use stats::WorkerStats;

/// The process-wide part: names, counters of all workers, the log.
#[derive(Debug)]
pub struct Telemetry {
    labels: Labels,
    workers: Mutex<Vec<Arc<WorkerStats>>>,
    log: Option<AccessLogger>,
}

impl Telemetry {
    /// Telemetry with an access log, or without.
    #[must_use]
    pub fn new(log: Option<AccessLogger>) -> Self {
        Self { labels: Labels::default(), workers: Mutex::default(), log }
    }

    /// Names as numbers.
    #[must_use]
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The access log.
    #[must_use]
    pub const fn log(&self) -> Option<&AccessLogger> {
        self.log.as_ref()
    }

    /// The counters of all workers.
    #[must_use]
    pub fn workers(&self) -> Vec<Arc<WorkerStats>> {
        self.workers.lock().clone()
    }
}

/// Takes the records of one worker that have [`record::Details`], as they end. It must not wait for anybody.
pub trait Keeper: std::fmt::Debug + Send + Sync {
    /// Takes a call.
    fn keep(&self, call: &CallRecord, details: &record::Details);
}

/// Where the calls of one worker are recorded: counters that no other worker writes.
#[derive(Debug)]
pub struct Recorder {
    telemetry: Arc<Telemetry>,
    stats: Arc<WorkerStats>,
    keeper: Option<Box<dyn Keeper>>,
}

impl Recorder {
    /// A recorder for one more worker.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        let stats = Arc::new(WorkerStats::default());
        telemetry.workers.lock().push(Arc::clone(&stats));
        Self { telemetry, stats, keeper: None }
    }

    /// The same, with somebody who keeps records.
    #[must_use]
    pub fn with_keeper(self, keeper: Box<dyn Keeper>) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// The process-wide part.
    #[must_use]
    pub const fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// This worker's counters.
    #[must_use]
    pub const fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    fn record(&self, call: &CallRecord) {
        let total = call.elapsed();
        self.stats.record(call, total);
        if let Some(log) = &self.telemetry.log {
            log.write(call, total, &self.telemetry.labels);
        }
        if let (Some(keeper), Some(details)) = (&self.keeper, &call.details) {
            keeper.keep(call, details);
        }
    }
}
