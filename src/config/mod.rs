//! Configuration: the file as written, its compilation, and the snapshot that calls use.

pub mod live;
pub mod snapshot;

pub use live::Live;
pub use snapshot::Snapshot;
