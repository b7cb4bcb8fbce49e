//! Where a command's configuration comes from: a file, or flags that stand for one.

use std::path::{Path, PathBuf};

use sessiongate::config::Snapshot;

use super::failure::Failure;

/// Files that are tried when no flag names one.
const USUAL: [&str; 2] = ["./sessiongate.toml", "/etc/sessiongate/sessiongate.toml"];

/// The file that a command without `--config` uses, if there is one.
pub fn usual_file() -> Option<PathBuf> {
    USUAL.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned)
}

/// Reads and compiles a file.
///
/// # Errors
/// [`Failure::Input`] with every mistake in it.
pub fn load(path: &Path, generation: u64) -> Result<Snapshot, Failure> {
    super::stub::load(path, generation)
}
