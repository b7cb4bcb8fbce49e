//! A log file that follows its name: when another program has moved it away to rotate it, a new one is begun, without a
//! signal and without losing a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the name is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// A file that is appended to, wherever its name points.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl LogFile {
    /// Opens the file, or begins it.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = begin(&path)?;
        Ok(Self { path, file, looked: Instant::now() })
    }

    /// Begins a new file if the name does not point at the open one any more. If that fails, lines go on into the open
    /// one, which still exists.
    fn follow(&mut self) {
        if self.moved_away()
            && let Ok(file) = begin(&self.path)
        {
            self.file = file;
        }
    }

    fn moved_away(&self) -> bool {
        let Ok(open) = self.file.metadata() else { return true };
        let Ok(named) = fs::metadata(&self.path) else { return true };
        (open.dev(), open.ino()) != (named.dev(), named.ino())
    }
}

fn begin(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.follow();
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_the_name_when_the_file_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("calls.log"), folder.path().join("calls.log.1"));
        let mut log = LogFile::open(path.clone()).unwrap();
        log.write_all(b"one\n").unwrap();
        log.follow();
        log.write_all(b"two\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        log.follow();
        log.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }
}
