//! What an Idempotency-Key stands for: digests of keys and of requests.

use aws_lc_rs::digest::{Context, SHA256};
use http::Method;

use crate::policy::digest::half_sha256;
use crate::store::answers::{Fingerprint, KeyDigest};

/// The digest of a key. A session has its own keys, so nothing else goes in.
pub(super) fn key(key: &str) -> KeyDigest {
    KeyDigest(half_sha256(key.as_bytes()))
}

/// Makes a fingerprint of a request as its body passes by.
pub struct Printer(Context);

impl Printer {
    /// Of a request with this method and target, as it came.
    #[must_use]
    pub fn of(method: &Method, target: &str) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [method.as_str(), target] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        Self(context)
    }

    /// The next piece of its body.
    pub fn body(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The fingerprint.
    #[must_use]
    pub fn finish(self) -> Fingerprint {
        Fingerprint(sized(self.0.finish().as_ref()))
    }
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").finish_non_exhaustive()
    }
}

pub(super) fn sized(digest: &[u8]) -> [u8; 32] {
    let mut sized = [0; 32];
    sized.copy_from_slice(digest);
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_all_their_parts() {
        let print = |method, target, pieces: &[&str]| {
            let mut printer = Printer::of(&method, target);
            pieces.iter().for_each(|piece| printer.body(piece.as_bytes()));
            printer.finish()
        };
        let first = print(Method::POST, "/orders", &["{\"a\"", ":1}"]);
        assert_eq!(first, print(Method::POST, "/orders", &["{\"a\":1}"]));
        for other in [
            print(Method::PUT, "/orders", &["{\"a\":1}"]),
            print(Method::POST, "/orders?a", &["{\"a\":1}"]),
            print(Method::POST, "/orders", &["{\"a\":2}"]),
            print(Method::POST, "/order", &["s{\"a\":1}"]),
        ] {
            assert_ne!(first, other);
        }
    }
}
