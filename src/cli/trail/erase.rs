//! `trail erase`: takes the records of a person out of files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use sessiongate::trail::erase::{Person, erase};
use sessiongate::trail::subject::{KEY_FILE, KEY_MIN, SubjectKey};

use crate::cli::failure::Failure;
use crate::cli::output::{say, tell};
use crate::cli::words::counted;

const EXAMPLES: &str = "\
Examples:
  sessiongate trail erase --subject ada@shop.example --dry-run /var/lib/sessiongate/trail/trail-*
  sessiongate trail erase --subject ada@shop.example /var/lib/sessiongate/trail/trail-*

A running gateway loses no record of others meanwhile. Run it again for what the gateway had not written yet; calls in its
memory have no subject and are forgotten as trail.keep says.";

/// Erase the records of a person from trail files
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The person: the sub of their tokens
    #[arg(long, value_name = "SUBJECT")]
    subject: String,

    /// The files; compressed ones too
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// File with the key of the digests: trail.subject_key [default: subject.key in the folder of each file]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Say what would be erased, and erase nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Erases.
///
/// # Errors
/// [`Failure::Input`] without a key, [`Failure::Runtime`] if a file cannot be written; the others are done all the same.
pub fn run(args: &Args) -> Result<(), Failure> {
    let keys = keys(args)?;
    let (mut erased, mut files, mut failed) = (0, 0, 0);
    for (path, folder) in args.files.iter().map(|path| (path, folder(path))) {
        // There is one for each: that was seen to above.
        let Some(key) = keys.get(folder) else { continue };
        match erase(path, &Person::new(&args.subject, key), args.dry_run) {
            Ok(0) => {}
            Ok(count) => {
                (erased, files) = (erased + count, files + 1);
                tell(format_args!("{}: {}", path.display(), records(count)));
            }
            Err(error) => {
                failed += 1;
                tell(format_args!("{}: {error}; it is as it was", path.display()));
            }
        }
    }
    let would = if args.dry_run { "would be erased" } else { "erased" };
    say(format_args!("{} {would}, in {} of {}", records(erased), files, counted(args.files.len(), "file")))?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Runtime(format!("{} could not be searched or written anew", counted(failed, "file")))),
    }
}

fn records(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "record")
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The key of each folder. All of them first: half an erasure helps nobody.
fn keys(args: &Args) -> Result<HashMap<&Path, SubjectKey>, Failure> {
    let mut keys = HashMap::new();
    for folder in args.files.iter().map(|path| folder(path)) {
        if keys.contains_key(folder) {
            continue;
        }
        let key = match &args.key_file {
            Some(file) => read(file)?,
            None => SubjectKey::read(folder).map_err(|error| {
                let how = "give --key-file with the key that trail.subject_key names";
                Failure::Input(format!("cannot read {}: {error}; {how}", folder.join(KEY_FILE).display()))
            })?,
        };
        keys.insert(folder, key);
    }
    Ok(keys)
}

fn read(file: &Path) -> Result<SubjectKey, Failure> {
    let bytes = std::fs::read(file).map(zeroize::Zeroizing::new);
    let bytes = bytes.map_err(|error| Failure::Input(format!("cannot read {}: {error}", file.display())))?;
    // As the configuration reads it: one line end at its end does not count.
    let key = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let key = key.strip_suffix(b"\r").unwrap_or(key);
    if key.len() < KEY_MIN {
        return Err(Failure::Input(format!("{} is no key: it has fewer than {KEY_MIN} bytes", file.display())));
    }
    Ok(SubjectKey::new(key))
}
