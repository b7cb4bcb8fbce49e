//! What operators see: one [`record::CallRecord`] per call, and the metrics and log lines that are views of it.

pub mod access_log;
pub mod labels;
pub mod metrics;
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

/// Where the calls of one worker are recorded: counters that no other worker writes.
#[derive(Debug)]
pub struct Recorder {
    telemetry: Arc<Telemetry>,
    stats: Arc<WorkerStats>,
}

impl Recorder {
    /// A recorder for one more worker.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        let stats = Arc::new(WorkerStats::default());
        telemetry.workers.lock().push(Arc::clone(&stats));
        Self { telemetry, stats }
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
        self.stats.record(call);
        if let Some(log) = &self.telemetry.log {
            log.write(call, &self.telemetry.labels);
        }
    }
}
