//! Files that records are appended to: a new one after so many bytes or so much time, old ones deleted.
//!
//! Each file has one writer for its whole life, in a name of its own, so that several gates can share a folder. The
//! writer holds a lock (`flock`) while it writes, and looks before that whether the name still points at its file: so
//! erasure can put a rewritten file in its place under a running gate without losing a record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::FilesConfig;
use super::sink::Output;
use crate::clock::Clock;

/// How the names of files begin and end.
const PREFIX: &str = "trail-";
const SUFFIX: &str = ".ndjson";

/// How often old files are looked for, at most.
const LOOK: Duration = Duration::from_secs(60);

/// Readable by the group, as logs are: for shippers.
const MODE: u32 = 0o640;

/// The files of one gate.
pub(super) struct Files {
    config: FilesConfig,
    clock: Arc<Clock>,
    current: Option<Current>,
    begun: u32,
    looked: Option<Instant>,
}

struct Current {
    path: PathBuf,
    file: File,
    size: u64,
    begun: Instant,
}

impl Files {
    /// Files in the folder of `config`, which is made if it is not there.
    ///
    /// # Errors
    /// If the folder cannot be made or written to.
    pub(super) fn open(config: FilesConfig, clock: Arc<Clock>) -> io::Result<Self> {
        fs::create_dir_all(&config.folder)?;
        let mut files = Self { config, clock, current: None, begun: 0, looked: None };
        // A folder that cannot be written to is found now and not at the first call.
        files.current = Some(files.begin()?);
        Ok(files)
    }

    fn begin(&mut self) -> io::Result<Current> {
        // Sorts by time, and is a name everywhere: 20261125T150051Z.
        let time: String =
            self.clock.wall().to_string().chars().filter(|letter| !matches!(letter, '-' | ':')).collect();
        loop {
            self.begun += 1;
            let name = format!("{PREFIX}{time}-{}-{}{SUFFIX}", std::process::id(), self.begun);
            let path = self.config.folder.join(name);
            match OpenOptions::new().append(true).create_new(true).mode(MODE).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok(Current { path, file, size: 0, begun: Instant::now() }),
            }
        }
    }

    /// Deletes the oldest files while there are too many, too large together, or too old.
    fn clean(&self) -> io::Result<()> {
        let mut files = list(&self.config.folder)?;
        files.retain(|file| self.current.as_ref().is_none_or(|current| current.path != file.path));
        let own = self.current.as_ref().map_or((0, 0), |current| (1, current.size));
        let mut count = files.len() + own.0;
        let mut size = files.iter().map(|file| file.size).sum::<u64>() + own.1;
        let oldest = self.clock.wall().before(self.config.keep_for).as_secs();
        for file in files {
            let old = u64::try_from(file.written).unwrap_or(0) < oldest;
            let over = size > self.config.keep_size || self.config.keep_files.is_some_and(|most| count > most);
            if old || over {
                fs::remove_file(&file.path)?;
                (count, size) = (count - 1, size - file.size);
            }
        }
        Ok(())
    }

    /// Begins a new file if it is time.
    fn rotate(&mut self) {
        let due = self.current.as_ref().is_some_and(|current| {
            current.size >= self.config.max_size || current.size > 0 && current.begun.elapsed() >= self.config.max_age
        });
        if due {
            self.current = None;
        }
    }
}

impl Drop for Files {
    /// A file that nothing was written to tells nobody anything.
    fn drop(&mut self) {
        if let Some(current) = self.current.take().filter(|current| current.size == 0) {
            _ = fs::remove_file(current.path);
        }
    }
}

impl Output for Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rotate();
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin()?,
        };
        let written = current.append(bytes);
        self.current = Some(current);
        written
    }

    fn tick(&mut self) {
        self.rotate();
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) || self.current.is_none() {
            self.looked = Some(Instant::now());
            if let Err(error) = self.clean() {
                tracing::warn!(folder = %self.config.folder.display(), %error, "old trail files cannot be deleted");
            }
        }
    }
}

impl Current {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lock_the_named()?;
        let written = self.write(bytes);
        self.file.unlock()?;
        written
    }

    /// Locks the file that the name points at.
    fn lock_the_named(&mut self) -> io::Result<()> {
        self.file.lock()?;
        // While we waited for one, it may have been replaced again.
        while self.moved()? {
            // What was put in its place, or, if it was deleted, a new one. The lock of the old one ends with it.
            self.file = OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path)?;
            self.file.lock()?;
            self.size = self.file.metadata()?.len();
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        match written {
            Ok(()) => self.size += bytes.len() as u64,
            // Half a line would damage the next one. A full disk lets a file become shorter.
            Err(_) => self.file.set_len(self.size)?,
        }
        written
    }

    /// Whether the name points at another file, or at none.
    fn moved(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        let named = fs::metadata(&self.path);
        Ok(named.map_or(true, |named| (named.dev(), named.ino()) != (open.dev(), open.ino())))
    }
}

/// A file of a trail.
struct Found {
    path: PathBuf,
    size: u64,
    /// Seconds since the epoch at its last writing.
    written: i64,
}

/// The files of a folder, the oldest first; such as were compressed since are among them.
fn list(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && (name.ends_with(SUFFIX) || name.ends_with(".ndjson.gz")) {
            // It may have been deleted by another gate meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            found.push(Found { path: entry.path(), size: metadata.len(), written: metadata.mtime() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests;
