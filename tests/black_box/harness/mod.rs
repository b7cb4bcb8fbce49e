//! What the tests share: the real gate as a process, a scriptable origin, a raw client, tokens.

mod config;
mod dns;
pub mod frames;
mod gate;
mod http2;
mod http2_origin;
mod operator;
mod origin;
mod provider;
mod raw;
mod refusal;
mod secure;
mod servers;
mod tls;
mod tokens;

use std::thread;
use std::time::{Duration, Instant};

pub use config::Config;
pub use dns::Dns;
pub use frames::Frames;
pub use gate::{Finished, Gate, Session, Setup, binary, finish};
pub use http2::Http2;
pub use http2_origin::{Http2Call, Http2Origin};
pub use origin::{Deaf, Line, Origin, Seen, dead_address};
pub use provider::{Provider, SigningKey};
pub use raw::{Call, Raw, Reply};
pub use refusal::violations;
pub use secure::{Authority, Issued, SecureLine, SecureOrigin};
pub use servers::Server;
pub use tls::Certificate;
pub use tokens::{CLIENT, OTHER_CLIENT, SECRET, claims, now, sign, sign_with, token, token_with};

/// How long anything may take before a test gives up on it; far above what it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds`, and fails with `what` if it never does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "this never happened: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The shortest of a few tries: how long something takes where the machine does not get in the way.
pub fn quickest(mut act: impl FnMut()) -> Duration {
    let tries = (0..5).map(|_| {
        let begun = Instant::now();
        act();
        begun.elapsed()
    });
    tries.min().expect("there are tries")
}

/// How much more than usual a long proof should do (`SESSIONGATE_TEST_SCALE`, set by `tests/run --full`).
pub fn scale() -> u32 {
    std::env::var("SESSIONGATE_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
