//! Where clients are read from: a file, or a folder of files.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::Gathering;
use crate::config::compile::plain;
use crate::config::error::{ConfigErrors, Found, place};
use crate::policy::clients::Clients;

/// How files looked at a moment: two that differ were changed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(PathBuf, Option<Look>)>);

/// Links are followed, so that a link that is turned to another file is seen: that is how Kubernetes changes volumes, and
/// editors put a new file in the place of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// How the files of `path` look now.
    pub(super) fn of(path: &Path) -> Self {
        let files = files(path).unwrap_or_else(|_| vec![path.to_owned()]);
        let look = |path: PathBuf| {
            let look = std::fs::metadata(&path).ok().map(|found| Look {
                device: found.dev(),
                inode: found.ino(),
                len: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            });
            (path, look)
        };
        Self(files.into_iter().map(look).collect())
    }
}

/// The files of a registry, sorted by name. Folders in a folder, and names that begin with a dot, are passed over.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".toml") && !name.starts_with('.') && !entry.path().is_dir() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Reads all clients.
///
/// # Errors
/// What is wrong, by file.
pub(super) fn read(path: &Path) -> Result<Clients, Vec<ConfigErrors>> {
    let whole = |path: &Path, found| ConfigErrors::new(&path.display().to_string(), "", vec![found], |_| String::new());
    let cannot = |path: &Path, error| whole(path, Found::new(0..0, format!("cannot read it: {}", plain(&error))));
    let files = files(path).map_err(|error| vec![cannot(path, error)])?;
    let (mut gathering, mut errors, mut texts) = (Gathering::default(), Vec::new(), Vec::with_capacity(files.len()));
    for file in &files {
        texts.push(text(file).unwrap_or_else(|error| {
            errors.push(cannot(file, error));
            String::new()
        }));
    }
    for (number, (file, text)) in files.iter().zip(&texts).enumerate() {
        let place_of = |file: usize, offset: usize| {
            let (line, column) = texts.get(file).map_or((0, 0), |text| place(text, offset));
            format!("{}:{line}:{column}", files.get(file).map_or(path, PathBuf::as_path).display())
        };
        errors.extend(gathering.read(number, &file.display().to_string(), text, place_of));
    }
    let clients = gathering.into_clients();
    if errors.is_empty() && clients.is_empty() {
        // More likely a file that was emptied, or a volume that is not there yet, than the wish to lock everybody out.
        let hint = "add [[client]] with an id; without [clients] in the configuration every client is allowed";
        errors.push(whole(path, Found::new(0..0, "there is no client").hint(hint)));
    }
    if errors.is_empty() { Ok(clients) } else { Err(errors) }
}

fn text(path: &Path) -> io::Result<String> {
    // Asked first: opening a pipe would wait for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => io::Error::other("it is not UTF-8 text"),
        _ => error,
    })
}
