//! The registry of clients: a file, or a folder of files, that is read again when it changes.
//!
//! ```toml
//! [[client]]
//! id = "EnterpriseAPIM-1"
//! scopes = ["orders.read"]
//! ```

mod file;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::error::ConfigErrors;
use crate::policy::clients::Clients;
use source::Stamp;

/// The clients in force, and where they come from. Every snapshot with a registry has one of its own.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    clients: ArcSwap<Clients>,
    generation: AtomicU64,
    seen: Mutex<Seen>,
    reloads: Mutex<Reloads>,
}

/// What the files looked like.
#[derive(Debug)]
struct Seen {
    /// When they were read last.
    read: Stamp,
    /// At the last look.
    last: Stamp,
}

#[derive(Debug)]
struct Reloads {
    /// When the clients in force were read.
    since: Instant,
    accepted: u64,
    refused: u64,
    refusal: Option<Arc<str>>,
}

/// How it went with the registry since the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How long ago the clients in force were read.
    pub age: Duration,
    /// How often they were read, the first time included.
    pub accepted: u64,
    /// How often what was read had mistakes.
    pub refused: u64,
    /// What was wrong, if the last reading was refused.
    pub refusal: Option<Arc<str>>,
}

impl Registry {
    /// Reads the file at `path`, or all files in the folder there whose names end with `.toml`.
    ///
    /// # Errors
    /// Everything that is wrong, by file; at least one.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigErrors>> {
        let stamp = Stamp::of(path);
        let clients = source::read(path)?;
        let reloads = Reloads { since: Instant::now(), accepted: 1, refused: 0, refusal: None };
        Ok(Self {
            path: path.to_owned(),
            clients: ArcSwap::from_pointee(clients),
            generation: AtomicU64::new(1),
            seen: Mutex::new(Seen { read: stamp.clone(), last: stamp }),
            reloads: Mutex::new(reloads),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The clients in force, for a look.
    #[must_use]
    pub fn clients(&self) -> Guard<Arc<Clients>> {
        self.clients.load()
    }

    /// The clients in force, to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Clients> {
        self.clients.load_full()
    }

    /// Counts the clients that were in force, from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How it went.
    #[must_use]
    pub fn report(&self) -> Report {
        let reloads = self.reloads.lock();
        Report {
            age: reloads.since.elapsed(),
            accepted: reloads.accepted,
            refused: reloads.refused,
            refusal: reloads.refusal.clone(),
        }
    }

    /// Whether the files are others than those that were read last. A change counts when it is found at two looks in a
    /// row: a file that is still being written is not read, and half a list would bar the clients of the other half.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let (mut seen, stamp) = (self.seen.lock(), Stamp::of(&self.path));
        let settled = seen.last == stamp;
        seen.last = stamp;
        settled && seen.last != seen.read
    }

    /// Reads the files again. With a mistake in them the clients in force stay.
    ///
    /// # Errors
    /// Everything that is wrong, as lines.
    pub fn reload(&self) -> Result<(), Arc<str>> {
        // Taken first: what changes while it is read is found at the next look.
        let stamp = Stamp::of(&self.path);
        self.seen.lock().read = stamp;
        let read = source::read(&self.path);
        let mut reloads = self.reloads.lock();
        match read {
            Ok(clients) => {
                self.clients.store(Arc::new(clients));
                self.generation.fetch_add(1, Ordering::Release);
                (reloads.since, reloads.refusal) = (Instant::now(), None);
                reloads.accepted += 1;
                Ok(())
            }
            Err(errors) => {
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let refusal: Arc<str> = lines.join("\n").into();
                reloads.refused += 1;
                reloads.refusal = Some(Arc::clone(&refusal));
                Err(refusal)
            }
        }
    }
}

#[cfg(test)]
mod tests;
