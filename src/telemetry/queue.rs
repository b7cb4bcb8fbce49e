//! Lines on their way to a writer that may be slow. Who has a line adds it to a buffer and never waits; a thread takes
//! what has come together and writes it at once. What does not fit is dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait to be written, beside those that are being written.
const MOST: usize = 4 * 1024 * 1024;

/// How long lines wait for others: one system call writes them all, and a thread that is busy with calls does not wake
/// another one for each.
const GATHER: Duration = Duration::from_millis(20);

/// How long the end waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Memory of a buffer that is kept when it is empty.
const KEPT: usize = 256 * 1024;

/// Where lines go in. Clones share it.
#[derive(Debug, Clone)]
pub struct LineQueue(Arc<Shared>);

/// Has the lines that wait written when it is dropped; waits a second for that.
#[derive(Debug)]
pub struct QueueGuard(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when there is a first line, and at the end.
    come: Condvar,
    /// Told when everything is written after the end.
    done: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    ended: bool,
    written: bool,
}

impl LineQueue {
    /// A queue whose lines a new thread called `name` writes to `out`.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(out: impl Write + Send + 'static, name: &str) -> io::Result<(Self, QueueGuard)> {
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        thread::Builder::new().name(name.into()).spawn(move || queue.write_to(out))?;
        Ok((Self(Arc::clone(&shared)), QueueGuard(shared)))
    }

    /// Adds a line, which ends in a newline.
    pub fn push(&self, line: &str) {
        let mut state = self.0.state.lock();
        if state.waiting.len() + line.len() > MOST {
            drop(state);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line.as_bytes());
        drop(state);
        if first {
            self.0.come.notify_one();
        }
    }

    /// Lines that were not written: there was no room for them, or the writer failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn write_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.state.lock();
            while state.waiting.is_empty() && !state.ended {
                self.come.wait(&mut state);
            }
            if state.waiting.is_empty() {
                state.written = true;
                self.done.notify_all();
                return;
            }
            if !state.ended {
                self.come.wait_for(&mut state, GATHER);
            }
            std::mem::swap(&mut state.waiting, &mut lines);
            drop(state);
            if out.write_all(&lines).and_then(|()| out.flush()).is_err() {
                let lost = lines.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            }
            lines.clear();
            lines.shrink_to(KEPT);
        }
    }
}

impl Drop for QueueGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        self.0.come.notify_all();
        self.0.done.wait_while_for(&mut state, |state| !state.written, PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Gives away what is written, as soon as somebody takes it.
    struct Handed(mpsc::SyncSender<Vec<u8>>);

    impl Write for Handed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_arrives_in_order_and_the_last_ones_at_the_end() {
        let (to, from) = mpsc::sync_channel(1_000);
        let (queue, guard) = LineQueue::start(Handed(to), "test").expect("a thread");
        let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| queue.push(line));
        drop(guard);
        assert_eq!(String::from_utf8(from.try_iter().flatten().collect()).expect("text"), lines.concat());
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_nothing_else() {
        let (to, from) = mpsc::sync_channel(0);
        let (queue, guard) = LineQueue::start(Handed(to), "test").expect("a thread");
        let line = format!("{}\n", "x".repeat(1023));
        let pushed = 3 * MOST / line.len();
        (0..pushed).for_each(|_| queue.push(&line));
        let dropped = usize::try_from(queue.dropped()).expect("few");
        assert!(dropped >= pushed / 3, "{dropped} of {pushed}");
        // It reads again.
        let reader = thread::spawn(move || from.iter().map(|part| part.len()).sum::<usize>());
        drop(guard);
        drop(queue);
        assert_eq!(reader.join().expect("read"), (pushed - dropped) * line.len());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (to, _) = mpsc::sync_channel(0);
        let (queue, guard) = LineQueue::start(Handed(to), "test").expect("a thread");
        queue.push("one\n");
        queue.push("two\n");
        drop(guard);
        assert_eq!(queue.dropped(), 2);
    }
}
