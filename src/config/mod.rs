//! Configuration: the file as written, its compilation, and the snapshot that calls use.

pub mod raw;
pub mod snapshot;

pub use snapshot::Snapshot;
