//! Subjects in records: a keyed digest by which the records of a person can be found, and which tells nobody else who
//! that is. The key is configured, or made once and kept beside the files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// The name of the key beside the files.
pub const KEY_FILE: &str = "subject.key";

/// Shortest key, in bytes.
pub const KEY_MIN: usize = 16;

/// Makes digests of subjects.
pub struct SubjectKey(hmac::Key);

impl SubjectKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The key beside the files of `folder`.
    ///
    /// # Errors
    /// If it is not there, cannot be read, or is too short to be one.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let bytes = Zeroizing::new(fs::read(folder.join(KEY_FILE))?);
        let key = bytes.trim_ascii_end();
        if key.len() < KEY_MIN {
            return Err(io::Error::other(format!("{KEY_FILE} has {} bytes; a key has at least {KEY_MIN}", key.len())));
        }
        Ok(Self::new(key))
    }

    /// The key beside the files of `folder`, made now if there is none. Two that make one at once get the same.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn read_or_make(folder: &Path) -> io::Result<Self> {
        match Self::read(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        let random: [u8; 32] = crate::random::bytes();
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let own = folder.join(format!("{KEY_FILE}.{}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&own)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()?;
        // A link is made whole or not at all, and never over another.
        let linked = fs::hard_link(&own, folder.join(KEY_FILE));
        fs::remove_file(&own)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Self::read(folder),
        }
    }

    /// The digest of a subject: the first 16 bytes of HMAC-SHA256, in hex.
    #[must_use]
    pub fn digest(&self, subject: &str) -> String {
        let tag = hmac::sign(&self.0, subject.as_bytes());
        tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SubjectKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(SubjectKey::read(folder.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let first = SubjectKey::read_or_make(folder.path()).unwrap().digest("ada");
        let again = SubjectKey::read_or_make(folder.path()).unwrap().digest("ada");
        assert_eq!((first.len(), &first), (32, &again));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [KEY_FILE]);
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        // printf ada | openssl dgst -sha256 -hmac 0123456789abcdef
        let digest = SubjectKey::new(b"0123456789abcdef").digest("ada");
        assert_eq!(digest, "83eeb38e004a295359bde4b0760bb271");
    }

    #[test]
    fn a_short_key_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(KEY_FILE), "short\n").unwrap();
        assert!(SubjectKey::read_or_make(folder.path()).is_err());
    }
}
