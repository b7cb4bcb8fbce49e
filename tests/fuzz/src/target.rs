//! Paths: what is accepted can be read in one way only.

use std::borrow::Cow;

use sessiongate::policy::target::{SESSION_PATH, canonical};

/// Reads bytes as a path.
pub fn check(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = canonical(path) else { return };
    is_unambiguous(&read);
    assert_eq!(canonical(&read), Ok(Cow::Borrowed(&*read)), "reading it again changes nothing");
    assert!(read != SESSION_PATH || path == SESSION_PATH, "only the path itself is the endpoint");
    // The same bytes, however they were written.
    assert_eq!(decoded(path), decoded(&read));
}

/// Panics unless `path` is one that no reader takes for another.
pub fn is_unambiguous(path: &str) {
    assert!(path.starts_with('/') && !path.contains('\\'), "{path}");
    let once = decoded(path);
    for segment in once.split(|byte| *byte == b'/') {
        assert!(segment != b"." && segment != b"..", "{path}");
    }
    let separators = |text: &[u8]| text.iter().filter(|byte| **byte == b'/').count();
    assert_eq!(separators(&once), separators(path.as_bytes()), "an encoded separator: {path}");
    assert!(!once.contains(&b'\\') && !path.to_ascii_lowercase().contains("%00"), "{path}");
}

/// All escapes undone; a broken one panics.
fn decoded(path: &str) -> Vec<u8> {
    let mut bytes = path.bytes();
    let mut read = Vec::new();
    while let Some(byte) = bytes.next() {
        read.push(match byte {
            b'%' => {
                let mut digit =
                    || bytes.next().and_then(|digit| char::from(digit).to_digit(16)).expect("whole escapes");
                u8::try_from(digit() * 16 + digit()).expect("two digits")
            }
            plain => plain,
        });
    }
    read
}
