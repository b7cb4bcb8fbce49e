//! Key sets that issuers publish: bytes of somebody else, which decide who may call.

use jsonwebtoken::Algorithm;
use sessiongate::auth::keys::{SET_MAX, VerificationKey};

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// Reads bytes as a key set.
pub fn check(bytes: &[u8]) {
    _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let published = VerificationKey::from_public_jwks(bytes);
    let own = VerificationKey::from_jwks(bytes);
    let Ok((keys, skipped)) = published else { return };
    let (all, skipped_of_all) = own.expect("what is published could be our own");
    let json: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
    let entries = json["keys"].as_array().expect("a list").len();
    assert!(!keys.is_empty() && keys.len() <= SET_MAX);
    assert_eq!((keys.len() + skipped, all.len() + skipped_of_all), (entries, entries));
    for key in &keys {
        assert!(!key.algorithms().is_empty());
        assert!(!HMAC.iter().any(|algorithm| key.verifies(*algorithm)), "a published key is no secret");
    }
    // The same set is the same keys, so nothing that they verified is forgotten.
    let (again, _) = VerificationKey::from_public_jwks(bytes).expect("as before");
    assert!(keys.iter().zip(&again).all(|(key, other)| key.id() == other.id()));
}
