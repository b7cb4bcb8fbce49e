//! What the trail keeps and where it goes.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// A trail.
#[derive(Debug, Clone)]
pub struct TrailConfig {
    /// Most memory for the last calls of all sessions, in bytes; 0: none are kept.
    pub memory: usize,
    /// Most calls of one session that are kept in memory.
    pub calls_per_session: usize,
    /// How long calls of a session are kept in memory after its last one.
    pub keep: Duration,
    /// Most bytes of records that wait for one sink; further ones are dropped.
    pub queue: usize,
    /// How subjects are told in files and on standard output.
    pub subject: SubjectForm,
    /// The key of the digests of subjects; none: the one beside the files.
    pub subject_key: Option<SecretString>,
    /// Whether records go to standard output.
    pub stdout: bool,
    /// Files that records go to.
    pub files: Option<FilesConfig>,
}

/// Two settings of a sink are equal if it need not be opened anew.
impl PartialEq for TrailConfig {
    fn eq(&self, other: &Self) -> bool {
        let key = |config: &Self| config.subject_key.as_ref().map(|key| key.expose_secret().to_owned());
        self.memory == other.memory
            && self.calls_per_session == other.calls_per_session
            && self.keep == other.keep
            && self.queue == other.queue
            && self.subject == other.subject
            && key(self) == key(other)
            && self.stdout == other.stdout
            && self.files == other.files
    }
}

/// How subjects are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectForm {
    /// Not at all.
    Off,
    /// By a keyed digest.
    Digest,
    /// As they are.
    Clear,
}

/// Files that records go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesConfig {
    /// Their folder.
    pub folder: PathBuf,
    /// A new file is begun at this many bytes,
    pub max_size: u64,
    /// and at this age.
    pub max_age: Duration,
    /// Files that were last written so long ago are deleted.
    pub keep_for: Duration,
    /// The oldest files are deleted while all together have more bytes.
    pub keep_size: u64,
    /// The oldest files are deleted while there are more; none: any number.
    pub keep_files: Option<usize>,
}
