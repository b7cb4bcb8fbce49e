//! What the fuzz targets check: one module per target, each with a `check` that panics on a broken promise.
//!
//! They need nothing beyond the crates of the gateway's own tests: `tests/fuzz_seeds.rs` runs them over the seeds on every
//! compiler.

pub mod admission;
pub mod config;
pub mod fields;
pub mod framing;
pub mod key_set;
pub mod proof;
pub mod proxy_protocol;
pub mod response;
pub mod target;
pub mod token;
