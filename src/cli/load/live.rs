//! What is seen while a run goes on: a line that changes on a terminal, else a plain line every few seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::measure::Window;
use super::report::CLASSES;
use super::run::{Glance, Run};
use crate::cli::output::tell;
use crate::cli::words::millis;

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(500);

/// The view of one run.
pub struct Live {
    bar: Option<ProgressBar>,
    every: Duration,
    shown: Instant,
    calls: u64,
}

impl Live {
    /// Begins to show; lines come every `every` where there is no terminal, and never if it is zero.
    pub fn new(window: &Window, every: Duration) -> Self {
        let terminal = std::io::stderr().is_terminal() && !every.is_zero();
        let bar = terminal.then(|| {
            let whole = window.end.saturating_duration_since(window.start).as_millis();
            let bar = ProgressBar::with_draw_target(u64::try_from(whole).ok(), ProgressDrawTarget::stderr_with_hz(4));
            // It fails for templates with mistakes, and this one has none; the default would do too.
            if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/dim} {elapsed:>4}  {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { every: if terminal { REDRAW } else { every }, bar, shown: Instant::now(), calls: 0 }
    }

    /// Shows how it goes, if it is time.
    pub fn tick(&mut self, run: &Run) {
        let since = self.shown.elapsed();
        if self.every.is_zero() || since < self.every {
            return;
        }
        self.shown = Instant::now();
        let glance = run.glance();
        let calls = glance.classes.iter().sum::<u64>() + glance.warm_up;
        let rate = calls.saturating_sub(self.calls) as f64 / since.as_secs_f64();
        self.calls = calls;
        let line = line(rate, &glance);
        match &self.bar {
            Some(bar) => {
                let passed = run.window.start.elapsed().as_millis();
                bar.set_position(u64::try_from(passed).unwrap_or(u64::MAX).min(bar.length().unwrap_or(u64::MAX)));
                bar.set_message(line);
            }
            None => tell(format_args!("{:>5.0}s  {line}", run.window.start.elapsed().as_secs_f64())),
        }
    }

    /// Takes the changing line away.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(rate: f64, glance: &Glance) -> String {
    let (p50, p99) = (millis(glance.recent.at(0.5)), millis(glance.recent.at(0.99)));
    let mut text = format!("{rate:.0} calls/s  p50 {p50}  p99 {p99} ");
    for (name, count) in CLASSES.iter().zip(glance.classes).filter(|(_, count)| *count > 0) {
        text.push_str(&format!(" {name}: {count}"));
    }
    if glance.warm_up > 0 {
        text.push_str(&format!(" warm-up: {}", glance.warm_up));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::times::Times;

    #[test]
    fn a_line_says_how_it_goes() {
        let mut recent = Times::coarse();
        recent.add(Duration::from_micros(800));
        let glance = Glance { classes: [1, 0, 40, 0, 2, 0], warm_up: 7, recent };
        assert_eq!(line(99.6, &glance), "100 calls/s  p50 803 µs  p99 803 µs  none: 1 2xx: 40 4xx: 2 warm-up: 7");
    }
}
