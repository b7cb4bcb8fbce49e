//! Configuration files: a whole snapshot, or mistakes that have their place.

use std::path::{Path, PathBuf};

use sessiongate::config::parse;

/// Reads bytes as a configuration that stands in `gate/`.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // An operator may name any file, also one that never answers.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    match parse(text, &folder().join("fuzz.toml"), 7) {
        Ok(snapshot) => {
            assert_eq!(snapshot.generation, 7);
            assert!(!snapshot.listeners.is_empty() && !snapshot.routes.routes().is_empty());
            assert!(snapshot.pools.iter().all(|pool| !pool.endpoints.is_empty()));
            let shown = format!("{snapshot:?}");
            assert!(!shown.contains(secret()), "a secret is shown");
        }
        Err(errors) => {
            assert!(!errors.mistakes().is_empty());
            let lines = text.matches('\n').count() + 1;
            for mistake in errors.mistakes() {
                assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1, "{mistake:?}");
                assert!(text.get(mistake.span.clone()).is_some(), "{mistake:?}");
                assert!(!mistake.message.is_empty());
            }
            let shown = format!("{errors}\n{}\n{}", errors.report_with(false, 80), errors.report_with(true, 20));
            assert!(text.contains(secret()) || !shown.contains(secret()), "a secret is shown");
        }
    }
}

/// The secret of the tests' issuer.
pub const fn secret() -> &'static str {
    include_str!("../gate/secret").trim_ascii()
}

/// `gate/`, seen from this package or from the gateway's.
pub fn folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = package.join("tests/fuzz/gate");
    if below.exists() { below } else { package.join("gate") }
}
