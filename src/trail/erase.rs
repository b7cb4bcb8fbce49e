//! Erasure of the records of a person from files, also from one that a running gate writes.
//!
//! A file with such records is written anew beside itself and put in its place at once, under the lock that the gate
//! takes before it writes; the gate finds the new file by its name. A crash leaves the old file whole.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::line::Line;
use super::subject::SubjectKey;

/// Whose records are erased.
pub struct Person<'p> {
    subject: &'p str,
    digest: String,
}

impl<'p> Person<'p> {
    /// The subject, and the digest that stands for it.
    #[must_use]
    pub fn new(subject: &'p str, key: &SubjectKey) -> Self {
        Self { subject, digest: key.digest(subject) }
    }

    /// Whether a line is about this person. Of one that cannot be read, it is enough that the digest is in it.
    fn is_of(&self, line: &[u8]) -> bool {
        match Line::parse(line) {
            Ok(line) => line.subject == self.digest || line.subject == self.subject,
            Err(_) => memchr::memmem::find(line, self.digest.as_bytes()).is_some(),
        }
    }
}

/// Erases the records of `person` from a file, and says how many there were. Without one, the file is not touched; with
/// `only_look` it never is.
///
/// # Errors
/// If the file cannot be read or written anew; then it is as it was.
pub fn erase(path: &Path, person: &Person<'_>, only_look: bool) -> io::Result<u64> {
    // Most files have nothing to erase, and nobody needs to wait for that to be found out.
    let found = filter(&File::open(path)?, person, io::sink())?;
    if found == 0 || only_look {
        return Ok(found);
    }
    loop {
        let file = File::open(path)?;
        file.lock()?;
        let (held, named) = (file.metadata()?, fs::metadata(path)?);
        // Another erasure may have put a new file in its place while we waited.
        if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
            return replace(path, &file, person);
        }
    }
}

/// Puts a file without the records in the place of `file`, which is locked.
fn replace(path: &Path, file: &File, person: &Person<'_>) -> io::Result<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name that neither gates nor reports take for a trail.
    let temporary = folder.join(format!(".{name}.{}.erasing", std::process::id()));
    let written = write_anew(&temporary, file, person).and_then(|erased| {
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()?;
        Ok(erased)
    });
    if written.is_err() {
        _ = fs::remove_file(&temporary);
    }
    written
}

fn write_anew(temporary: &Path, file: &File, person: &Person<'_>) -> io::Result<u64> {
    let (old, new) = (file.metadata()?, File::create(temporary)?);
    new.set_permissions(old.permissions())?;
    // The gate must be able to go on writing, whoever runs this.
    if (new.metadata()?.uid(), new.metadata()?.gid()) != (old.uid(), old.gid()) {
        fchown(&new, Some(old.uid()), Some(old.gid()))?;
    }
    let out = BufWriter::new(&new);
    let erased = match is_compressed(file)? {
        true => {
            let mut encoder = GzEncoder::new(out, Compression::default());
            let erased = filter(file, person, &mut encoder)?;
            encoder.finish()?.flush()?;
            erased
        }
        false => filter(file, person, out)?,
    };
    // Its age counts from its last record.
    new.set_modified(old.modified()?)?;
    new.sync_all()?;
    Ok(erased)
}

fn is_compressed(mut file: &File) -> io::Result<bool> {
    let mut magic = [0; 2];
    io::Seek::rewind(&mut file)?;
    let read = file.read(&mut magic)?;
    Ok(read == 2 && magic == [0x1f, 0x8b])
}

/// Copies all lines but those of `person`, byte for byte, and counts these.
fn filter(mut file: &File, person: &Person<'_>, mut out: impl Write) -> io::Result<u64> {
    let compressed = is_compressed(file)?;
    io::Seek::rewind(&mut file)?;
    let mut input: Box<dyn BufRead + '_> = match compressed {
        true => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        false => Box::new(BufReader::with_capacity(256 * 1024, file)),
    };
    let (mut line, mut erased) = (Vec::new(), 0);
    while input.read_until(b'\n', &mut line)? > 0 {
        if person.is_of(&line) {
            erased += 1;
        } else {
            out.write_all(&line)?;
        }
        line.clear();
    }
    out.flush()?;
    Ok(erased)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::trail::line::tests::full;

    fn line(subject: &str, number: u32) -> String {
        let mut text = Vec::new();
        Line { subject: subject.into(), number, ..full() }.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    struct Setting {
        folder: tempfile::TempDir,
        key: SubjectKey,
    }

    impl Setting {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), key: SubjectKey::new(b"0123456789abcdef") }
        }

        fn file(&self, bytes: impl AsRef<[u8]>) -> PathBuf {
            let path = self.folder.path().join("trail-a.ndjson");
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    #[test]
    fn the_records_of_one_person_go_and_all_else_stays_byte_for_byte() {
        let setting = Setting::new();
        let (ada, bob) = (setting.key.digest("ada"), setting.key.digest("bob"));
        let kept = format!("{}garbage\n\n{}", line(&bob, 1), line("", 2));
        let path = setting.file(format!(
            "{}{kept}{}{{\"subject\":\"{ada}\n{}",
            line(&ada, 3),
            line("ada", 4),
            line(&ada, 5).trim_end()
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let then = fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(5000);
        File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        let person = Person::new("ada", &setting.key);

        assert_eq!(erase(&path, &person, true).unwrap(), 4);
        assert!(fs::read_to_string(&path).unwrap().contains(&ada), "looking changes nothing");
        assert_eq!(erase(&path, &person, false).unwrap(), 4);
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.mode() & 0o777, after.modified().unwrap()), (0o640, then));
        assert_eq!(fs::read_dir(setting.folder.path()).unwrap().count(), 1, "nothing is left behind");
        assert_eq!(erase(&path, &person, false).unwrap(), 0);
    }

    #[test]
    fn a_file_without_them_is_not_touched() {
        let setting = Setting::new();
        let path = setting.file(line(&setting.key.digest("bob"), 1));
        let before = fs::metadata(&path).unwrap().ino();
        assert_eq!(erase(&path, &Person::new("ada", &setting.key), false).unwrap(), 0);
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }

    #[test]
    fn compressed_files_stay_compressed() {
        let setting = Setting::new();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(format!("{}{}", line("ada", 1), line("bob", 2)).as_bytes()).unwrap();
        let path = setting.file(encoder.finish().unwrap());
        assert_eq!(erase(&path, &Person::new("ada", &setting.key), false).unwrap(), 1);
        let mut text = String::new();
        MultiGzDecoder::new(File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, line("bob", 2));
    }

    #[test]
    fn a_file_that_cannot_be_read_whole_is_left_as_it_was() {
        let setting = Setting::new();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(line("ada", 1).repeat(1000).as_bytes()).unwrap();
        let cut = encoder.finish().unwrap();
        let cut = &cut[..cut.len() / 2];
        let path = setting.file(cut);
        assert!(erase(&path, &Person::new("ada", &setting.key), false).is_err());
        assert_eq!(fs::read(&path).unwrap(), cut);
        assert_eq!(fs::read_dir(setting.folder.path()).unwrap().count(), 1);
    }
}
