//! Configuration: the file as written, its compilation, and the snapshot that calls use.
//!
//! ```text
//! text → document (syntax, then shape) → raw::File → compile (meaning) → Snapshot
//! ```
//!
//! [`load`] is the one validator: start, `check` and reload all go through it. It gives a whole valid [`Snapshot`], or
//! [`ConfigErrors`] with all that is wrong, each with its line and column.

pub mod clients;
mod compile;
mod document;
mod error;
pub mod fileless;
pub mod live;
mod nearest;
pub mod other;
pub mod raw;
mod report;
mod restart;
mod rules;
mod schema;
pub mod snapshot;
mod wording;

use std::path::Path;

pub use error::{ConfigErrors, Mistake};
pub use fileless::Fileless;
pub use live::Live;
pub use schema::json_schema;
pub use snapshot::Snapshot;

#[cfg(test)]
mod tests;

use document::Document;
use error::Found;

/// Reads and compiles the file at `path`. `generation` numbers the snapshot.
///
/// # Errors
/// Everything that is wrong with it, or that it cannot be read.
pub fn load(path: &Path, generation: u64) -> Result<Snapshot, ConfigErrors> {
    read(path).and_then(|text| parse(&text, path, generation))
}

/// Reads and compiles the file at `path` but for keys, certificates and secrets, which need not be there: for trying its
/// rules. Until [`Snapshot::auth`] is replaced, nobody is known.
///
/// # Errors
/// Everything that is wrong with the rest of it, or that it cannot be read.
pub fn load_rules(path: &Path) -> Result<Snapshot, ConfigErrors> {
    read(path).and_then(|text| parse_with(&text, path, 1, rules::keep))
}

fn read(path: &Path) -> Result<String, ConfigErrors> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => {
            let message = match error.kind() {
                std::io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
                _ => format!("cannot read the file: {}", compile::plain(&error)),
            };
            let found = vec![Found::new(0..0, message)];
            Err(ConfigErrors::new(&path.display().to_string(), "", found, |_| String::new()))
        }
    }
}

/// Compiles `text` as if it stood in the file `origin`: that name is in messages, and relative paths start at its
/// folder. Files that the text names are read.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, origin: &Path, generation: u64) -> Result<Snapshot, ConfigErrors> {
    parse_with(text, origin, generation, |_| {})
}

/// The same for the file as `change` leaves it.
fn parse_with(
    text: &str,
    origin: &Path,
    generation: u64,
    change: impl FnOnce(&mut raw::File),
) -> Result<Snapshot, ConfigErrors> {
    let (document, mut found) = Document::parse(text);
    let wrong = |found| ConfigErrors::new(&origin.display().to_string(), text, found, |span| document.path_of(span));
    // With broken syntax, most of what follows would be about the breakage.
    if found.is_empty() {
        let reading = document.read::<raw::File>();
        found = reading.found;
        let mut files = Vec::new();
        let folder = origin.parent().unwrap_or(Path::new(""));
        let file = reading.file.map(|mut file| {
            change(&mut file);
            file
        });
        match file.map(|file| compile::compile(&file, &reading.touched, folder, generation)) {
            Some(Ok(snapshot)) if found.is_empty() => return Ok(snapshot),
            Some(Err(more)) => {
                found.extend(more.found);
                files = more.files;
            }
            Some(Ok(_)) | None => {}
        }
        return Err(wrong(found).with_files(files));
    }
    Err(wrong(found))
}
