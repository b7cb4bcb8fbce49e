//! Secrets, read from where the file says they are. No message holds one.

use std::io::Read;

use zeroize::Zeroizing;

use crate::config::raw::{At, SecretRef};

use super::context::{Context, plain};

/// Largest secret or key file, in bytes.
const MOST: u64 = 1 << 20;

/// What was read, and where, to speak about it.
pub(super) struct Secret {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) origin: String,
}

/// Reads a secret; one line end at its end does not count.
pub(super) fn read(cx: &mut Context<'_>, reference: &At<SecretRef>) -> Option<Secret> {
    let (origin, result) = match &**reference {
        SecretRef::File(file) => {
            let path = cx.path(file);
            (path.display().to_string(), from_file(&path))
        }
        SecretRef::Env(name) => {
            let value = std::env::var_os(name).ok_or_else(|| "the variable is not set".to_owned());
            (format!("${name}"), value.map(|value| Zeroizing::new(value.into_encoded_bytes())))
        }
    };
    let result = result
        .map(trimmed)
        .and_then(|bytes| if bytes.is_empty() { Err("there is nothing in it".to_owned()) } else { Ok(bytes) });
    match result {
        Ok(bytes) => Some(Secret { bytes, origin }),
        Err(error) => {
            cx.mistake(reference.span(), format!("cannot read {origin}: {error}"));
            None
        }
    }
}

fn from_file(path: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > MOST => Err(format!("it is larger than {MOST} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(plain(&error)),
    }
}

fn trimmed(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_does_not_count() {
        for (text, kept) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", ""), ("a\r", "a\r")] {
            let bytes = Zeroizing::new(text.as_bytes().to_vec());
            assert_eq!(trimmed(bytes).as_slice(), kept.as_bytes(), "{text:?}");
        }
    }
}
