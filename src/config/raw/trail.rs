//! What the trail keeps and where it goes.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::issuers::SecretRef;
use super::place::{At, Table};
use super::values::{Period, Size};

/// The trail: one record per call, refused ones included. Without this table none is kept. With it, the last calls of
/// each session are kept in memory, for `GET /session` and the admin listener; files and standard output are added here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trail {
    /// Most memory for the last calls of all sessions: 0 for none, else 1 MiB to 64 GiB. When it is full, the sessions
    /// that have not called for the longest time make room.
    pub memory: At<Size>,
    /// Most calls of one session that are kept in memory: 1 to 10000. The oldest make room.
    #[schemars(range(min = 1, max = 10000))]
    pub calls_per_session: At<u32>,
    /// How long the calls of a session are kept in memory after its last one.
    pub keep: At<Period>,
    /// Most records that wait to be written to files or to standard output, each: 1 MiB to 1 GiB. More are dropped and
    /// counted: calls never wait.
    pub queue: At<Size>,
    /// How the subject of a token is told in files and on standard output.
    pub subject: SubjectName,
    /// The key of the digests of subjects, at least 16 bytes, the same on all gates. Default: one that is made once and
    /// kept beside the files, in `subject.key`; without files subjects are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_key: Option<At<SecretRef>>,
    /// Whether records go to standard output, one JSON object per line. The access log cannot go there too.
    pub stdout: At<bool>,
    /// Files that records go to. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Table<TrailFiles>>,
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            memory: Size::kib(64 * 1024).into(),
            calls_per_session: 200.into(),
            keep: Period::secs(24 * 3600).into(),
            queue: Size::kib(16 * 1024).into(),
            subject: SubjectName::default(),
            subject_key: None,
            stdout: false.into(),
            files: None,
        }
    }
}

/// How subjects are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectName {
    /// By a keyed digest, by which the records of a person are found and erased.
    #[default]
    Digest,
    /// As it is.
    Clear,
    /// Not at all.
    Off,
}

/// Files of JSON objects, one per line, named by the time they were begun.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrailFiles {
    /// Their folder; it is made if it is not there. Gates can share one. Example: `"/var/lib/sessiongate/trail"`.
    #[schemars(extend("x-required" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<At<String>>,
    /// A new file is begun at this size: 64 KiB to 64 GiB.
    pub max_size: At<Size>,
    /// A new file is begun at this age.
    pub max_age: At<Period>,
    /// Files are deleted so long after they were last written.
    pub keep_for: At<Period>,
    /// The oldest files are deleted while all in the folder are larger together.
    pub keep_size: At<Size>,
    /// The oldest files are deleted while there are more. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_files: Option<At<NonZeroU32>>,
}

impl Default for TrailFiles {
    fn default() -> Self {
        Self {
            folder: None,
            max_size: Size::kib(100 * 1024).into(),
            max_age: Period::secs(24 * 3600).into(),
            keep_for: Period::secs(30 * 24 * 3600).into(),
            keep_size: Size::kib(10 * 1024 * 1024).into(),
            keep_files: None,
        }
    }
}
