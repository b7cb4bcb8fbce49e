//! SHA-256, in the form that names, thumbprints and fingerprints have.

use aws_lc_rs::digest::{SHA256, digest};

/// The digest of these bytes (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sized = [0; 32];
    sized.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sized
}

/// The first half of it, where 128 bits are name enough.
#[must_use]
pub fn half_sha256(bytes: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&sha256(bytes)[..16]);
    half
}
