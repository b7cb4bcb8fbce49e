//! The seeds of the fuzz targets keep their promises; on any compiler and without libFuzzer. So the targets compile, too.

use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};

#[path = "fuzz/src/admission.rs"]
mod admission;
#[path = "fuzz/src/config.rs"]
mod config;
#[path = "fuzz/src/fields.rs"]
mod fields;
#[path = "fuzz/src/framing.rs"]
mod framing;
#[path = "fuzz/src/key_set.rs"]
mod key_set;
#[path = "fuzz/src/proof.rs"]
mod proof;
#[path = "fuzz/src/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "fuzz/src/response.rs"]
mod response;
#[path = "fuzz/src/target.rs"]
mod target;
#[path = "fuzz/src/token.rs"]
mod token;

/// Every seed, and every beginning of it.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&folder).expect("seeds").map_while(Result::ok) {
        let seed = std::fs::read(entry.path()).expect("a seed");
        (0..=seed.len()).step_by(seed.len().div_ceil(64).max(1)).for_each(|end| check(&seed[..end]));
        check(&seed);
        seeds += 1;
    }
    assert!(seeds > 2, "{} has seeds", folder.display());
}

#[test]
fn admission() {
    replay("admission", |bytes| {
        // As libFuzzer makes calls of bytes.
        if let Ok(call) = admission::Call::arbitrary_take_rest(Unstructured::new(bytes)) {
            admission::check(&call);
        }
    });
}

#[test]
fn config() {
    replay("config", config::check);
}

#[test]
fn fields() {
    replay("fields", fields::check);
}

#[test]
fn framing() {
    replay("framing", framing::check);
}

#[test]
fn key_set() {
    replay("key_set", key_set::check);
}

#[test]
fn proof() {
    replay("proof", proof::check);
}

#[test]
fn proxy_protocol() {
    replay("proxy_protocol", proxy_protocol::check);
}

#[test]
fn response() {
    replay("response", response::check);
}

#[test]
fn target() {
    replay("target", target::check);
}

#[test]
fn token() {
    replay("token", token::check);
}
