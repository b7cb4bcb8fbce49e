//! How far a long read has come: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar moves.
const REDRAW: Duration = Duration::from_millis(200);

/// The bar.
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Bytes that were read.
    pub read: Arc<AtomicU64>,
    shown: Instant,
}

impl Progress {
    /// A bar for reading all of these files.
    pub fn over(paths: &[PathBuf]) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            // How much comes through a pipe nobody knows.
            let whole = paths.iter().all(|path| path != Path::new("-")).then(|| paths.iter().map(size).sum());
            let bar = ProgressBar::with_draw_target(whole, ProgressDrawTarget::stderr_with_hz(5));
            let template =
                "{bar:24.cyan/dim} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left  {msg}";
            // It fails for templates with mistakes, and this one has none; the default would do too.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, read: Arc::default(), shown: Instant::now() }
    }

    /// Shows how far it is, if it is time.
    pub fn tick(&mut self, message: impl FnOnce() -> String) {
        let Some(bar) = &self.bar else { return };
        if self.shown.elapsed() >= REDRAW {
            self.shown = Instant::now();
            bar.set_position(self.read.load(Ordering::Relaxed));
            bar.set_message(message());
        }
    }

    /// Takes the bar away.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
