//! Reading files of a trail: line by line, compressed or not, several of them as if they were one.
//!
//! A line that is no record costs nothing but itself: it is reported with its place, and reading goes on behind it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::line::Line;

/// Longest line that can be a record, in bytes: far more than one takes.
pub const LINE_MAX: usize = 256 * 1024;

/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// A line that is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its file.
    pub path: PathBuf,
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// `file:line: what is wrong`.
impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.why)
    }
}

/// One file of a trail.
pub struct TrailFile {
    path: PathBuf,
    input: Box<dyn BufRead>,
    buffer: Vec<u8>,
    line: u64,
    ended: bool,
}

impl TrailFile {
    /// Opens a file; `-` is standard input. What gzip compressed is known by its first bytes. Bytes of the file that were
    /// read are added to `progress`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, progress: Arc<AtomicU64>) -> io::Result<Self> {
        let input: Box<dyn Read> =
            if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let mut input = BufReader::with_capacity(BUFFER, Counting { input, progress });
        let compressed = input.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let input: Box<dyn BufRead> = match compressed {
            true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(input))),
            false => Box::new(input),
        };
        Ok(Self { path: path.to_owned(), input, buffer: Vec::new(), line: 0, ended: false })
    }

    /// The next record, or the next line that is none. Empty lines are passed over.
    pub fn record(&mut self) -> Option<Result<Line<'_>, Damaged>> {
        loop {
            if self.ended {
                return None;
            }
            self.buffer.clear();
            self.line += 1;
            let read = (&mut self.input).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut self.buffer);
            let wrong = match read {
                Ok(0) => {
                    self.ended = true;
                    return None;
                }
                Ok(_) if self.buffer.trim_ascii().is_empty() => continue,
                Ok(_) if self.buffer.len() > LINE_MAX => {
                    self.ended = self.skip().is_err();
                    format!("the line is longer than {LINE_MAX} bytes")
                }
                Ok(_) => break,
                Err(error) => {
                    self.ended = true;
                    format!("the rest cannot be read: {error}")
                }
            };
            return Some(Err(self.damaged(wrong)));
        }
        match Line::parse(&self.buffer) {
            Ok(line) => Some(Ok(line)),
            Err(error) => Some(Err(Damaged { path: self.path.clone(), line: self.line, why: reason(&error) })),
        }
    }

    fn damaged(&self, why: String) -> Damaged {
        Damaged { path: self.path.clone(), line: self.line, why }
    }

    /// Passes over the rest of a line.
    fn skip(&mut self) -> io::Result<()> {
        self.input.skip_until(b'\n').map(drop)
    }
}

/// What the parser says, with the column alone: a line of a file has one line.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match error.classify() {
        serde_json::error::Category::Eof => "the line is cut off".to_owned(),
        _ => format!("column {}: {text}", error.column()),
    }
}

impl std::fmt::Debug for TrailFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrailFile").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

/// Counts what is read.
struct Counting<R> {
    input: R,
    progress: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.progress.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A file that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// Reads several files in the order of time, as far as each is in that order itself: several gates write at once, and
/// what is told of a session may be in the files of more than one. Only those are open whose time has come.
///
/// # Errors
/// For the first file that cannot be opened; all are tried before anything is told.
pub fn in_order(
    paths: &[PathBuf],
    progress: &Arc<AtomicU64>,
    mut visit: impl FnMut(Result<&Line<'_>, Damaged>),
) -> Result<(), Unreadable> {
    let mut waiting = BinaryHeap::with_capacity(paths.len());
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Unreadable { path, source }
    };
    for (number, path) in paths.iter().enumerate() {
        // Standard input cannot be read twice.
        let mut first = String::new();
        if path != Path::new("-") {
            let mut file = TrailFile::open(path, Arc::default()).map_err(unreadable(path))?;
            // Some records of the beginning may be damaged; if all are, the file may as well come first.
            let head =
                std::iter::from_fn(|| file.record().map(|record| record.ok().map(|line| line.time.into_owned())));
            first = head.take(100).flatten().next().unwrap_or_default();
        }
        waiting.push(Reverse((first, number)));
    }
    let mut open: Vec<Option<TrailFile>> = paths.iter().map(|_| None).collect();
    while let Some(Reverse((_, number))) = waiting.pop() {
        let (Some(path), Some(place)) = (paths.get(number), open.get_mut(number)) else { continue };
        let mut file = match place.take() {
            Some(file) => file,
            None => TrailFile::open(path, Arc::clone(progress)).map_err(unreadable(path))?,
        };
        let next = waiting.peek().map(|Reverse((time, _))| time.clone());
        while let Some(record) = file.record() {
            let late = match record {
                Ok(line) => {
                    visit(Ok(&line));
                    let late = next.as_ref().is_some_and(|next| *line.time > **next);
                    late.then(|| line.time.into_owned())
                }
                Err(damaged) => {
                    visit(Err(damaged));
                    None
                }
            };
            // It is the turn of another one.
            if let Some(time) = late {
                waiting.push(Reverse((time, number)));
                *place = Some(file);
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::trail::line::tests::full;

    fn text(time: &str, number: u32) -> String {
        let mut text = Vec::new();
        Line { time: time.into(), number, ..full() }.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn read(paths: &[PathBuf]) -> (Vec<u32>, Vec<String>) {
        let (mut numbers, mut damaged) = (Vec::new(), Vec::new());
        let visit = |record: Result<&Line<'_>, Damaged>| match record {
            Ok(line) => numbers.push(line.number),
            Err(wrong) => {
                let name = wrong.path.file_name().unwrap().to_string_lossy().into_owned();
                damaged.push(format!("{name}:{}: {}", wrong.line, wrong.why));
            }
        };
        in_order(paths, &Arc::default(), visit).unwrap();
        (numbers, damaged)
    }

    #[test]
    fn damaged_lines_are_named_and_cost_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let good = text("2026-01-01T00:00:00.000Z", 1);
        let mut bytes = format!("{good}{{\"trail\":1,\n\n{good}garbage\n").into_bytes();
        bytes.extend([0xff, 0xfe, b'\n']);
        bytes.extend(vec![b'x'; LINE_MAX + 10]);
        bytes.extend(format!("\n{good}{{\"time\":\"x\",\"code\":\"ok\"}}\n{}", &good[..50]).as_bytes());
        std::fs::write(&path, bytes).unwrap();
        let (numbers, damaged) = read(&[path]);
        assert_eq!(numbers, [1, 1, 1]);
        assert_eq!(
            damaged,
            [
                "a:2: the line is cut off",
                "a:5: column 1: expected value",
                "a:6: column 1: expected value",
                "a:7: the line is longer than 262144 bytes",
                "a:9: column 24: missing field `trail`",
                "a:10: the line is cut off",
            ]
        );
    }

    #[test]
    fn the_last_line_needs_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, text("2026-01-01T00:00:00.000Z", 1).trim_end()).unwrap();
        assert_eq!(read(&[path]), (vec![1], vec![]));
    }

    #[test]
    fn compressed_files_are_read_as_others_and_may_be_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        let lines: String = (1..=1000).map(|number| text("2026-01-01T00:00:00.000Z", number)).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(lines.as_bytes()).unwrap();
        let whole = encoder.finish().unwrap();
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(std::slice::from_ref(&path)), ((1..=1000).collect(), vec![]));
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let (numbers, damaged) = read(&[path]);
        assert!(numbers.len() > 100 && damaged.len() == 1, "{} {damaged:?}", numbers.len());
    }

    #[test]
    fn files_of_several_gates_are_read_in_the_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, seconds: &[u32]| {
            let path = folder.path().join(name);
            let lines: String =
                seconds.iter().map(|second| text(&format!("2026-01-01T00:00:{second:02}.000Z"), *second)).collect();
            std::fs::write(&path, lines).unwrap();
            path
        };
        let paths = [file("b", &[2, 5, 9]), file("a", &[1, 4, 7, 8]), file("c", &[10, 11]), file("d", &[])];
        let (numbers, _) = read(&paths);
        // One record may come too early: that it was late is known once it was read.
        let early = numbers.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(numbers.len() == 9 && early <= 3, "{numbers:?}");
        assert!(numbers.iter().rev().take(2).eq(&[11, 10]), "{numbers:?}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = in_order(&["/nowhere/trail".into()], &Arc::default(), |_| ()).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/trail: "), "{error}");
    }
}
