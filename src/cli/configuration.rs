//! Where a command's configuration comes from when no flag says it.

use std::path::{Path, PathBuf};

use sessiongate::config::{self, Snapshot};

use super::failure::Failure;

/// Files that are tried when no flag names one.
const USUAL: [&str; 2] = ["./sessiongate.toml", "/etc/sessiongate/sessiongate.toml"];

/// The file that a command without `--config` uses, if there is one.
pub fn usual_file() -> Option<PathBuf> {
    USUAL.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned)
}

/// Reads and compiles the file that a flag names, else the usual one; gives its path too.
///
/// # Errors
/// [`Failure::Mistakes`], or [`Failure::Input`] if there is no file.
pub fn load(flag: Option<&Path>) -> Result<(PathBuf, Snapshot), Failure> {
    let path = flag.map(Path::to_owned).or_else(usual_file).ok_or_else(|| {
        Failure::Input(
            "which configuration? Give --config FILE; there is no ./sessiongate.toml and no \
             /etc/sessiongate/sessiongate.toml"
                .into(),
        )
    })?;
    let snapshot = config::load(&path, 1)?;
    Ok((path, snapshot))
}
