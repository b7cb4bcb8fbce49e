//! sessiongate stands in front of an API and lets nothing through that is not part of a session. `POST /session`
//! exchanges an OAuth2 access token and a client-id for a session-id; every other call must show all three, obey the
//! rules of its route, and only then reaches an upstream, as a request that is built afresh.
//!
//! The package is this library and a thin binary, `sessiongate`, whose commands are in the README. To embed the gateway
//! in another program, compile a configuration and start it:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use sessiongate::config;
//! use sessiongate::server::{Gateway, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Once per process: the crypto libraries of TLS and of tokens.
//! rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
//! jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().ok();
//!
//! let snapshot = config::load(Path::new("sessiongate.toml"), 1)?;
//! let load = |generation| config::load(Path::new("sessiongate.toml"), generation).map_err(|errors| errors.to_string());
//! let options = Options { snapshot, load: Some(Box::new(load)), access_log: None, takeover: false };
//! let gateway = Gateway::start(options)?;
//! for bound in gateway.bound() {
//!     println!("listening on {bound}");
//! }
//!
//! gateway.reload(); // the file again; a bad one is refused whole
//! gateway.drain(); // no new sessions, readiness off, running calls finish
//! gateway.join()?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embedded.rs` is a whole program.
//!
//! # Layout
//!
//! | module | what it owns |
//! |---|---|
//! | [`policy`] | the decisions, pure: no sockets, files, clock, randomness or async. The types of [`policy::call`] are a ladder from a request head to a [`policy::call::ValidatedCall`]; [`policy::rejection`] is the one table of refusals |
//! | [`auth`] | from the text of a token to the caller it speaks of: keys, signatures, the cache of verified tokens |
//! | [`store`] | sessions at rest: the contract of a store, and the one in memory |
//! | [`gate`] | the straight line every call takes through policy, auth and store |
//! | [`explain`] | what that line would say to a call, stage by stage, without making it |
//! | [`upstream`] | connections to upstreams, the request they get, what may be sent again |
//! | [`front`] | HTTP on the outside, [`gate::Gate`] on the inside: the session endpoint, problem bodies, forwarding |
//! | [`server`] | sockets, TLS, HTTP/1 and HTTP/2 connections, limits, workers, drain; [`server::Gateway`] is all of it together |
//! | [`config`] | the file as written, its compilation with all mistakes at once, and the immutable [`config::Snapshot`] |
//! | [`telemetry`] | one record per call; metrics and log lines are views of it |
//! | [`trail`] | one record per call, by which a session can be followed: the last ones in memory, all of them in files |
//! | [`replay`] | recorded calls under another configuration: which verdicts would have been others |
//! | [`admin`] | the operator's listener: health, metrics, sessions, their trails |
//! | [`clock`], [`timer`], [`random`] | the only readers of time and randomness |
//!
//! # The life of a call
//!
//! 1. [`server`] accepts the connection, finds the protocol, reads the head under its limits and refuses whatever two
//!    parsers could read differently.
//! 2. [`policy::head::Head`] reads the head once: target, host, the fields that matter. What is believed from nobody is
//!    dropped here.
//! 3. [`gate::Gate::admit`] finds the route, checks the header fields (all violations at once), the token, the client,
//!    the scopes, and the session: is it there, is it the caller's, is it live. One `?` per stage; a stage that refuses
//!    leaves everything behind it untouched.
//! 4. [`upstream`] sends a request made of what was proven, and streams bodies both ways.
//! 5. [`telemetry::record::CallRecord`] is dropped with the last byte of the answer, whoever ended it, and becomes a log
//!    line and numbers. It happens exactly once per call.
//!
//! A refusal is a [`policy::rejection::Rejection`], small and `Copy`, which becomes an `application/problem+json` body.
//! An error is a fact for the operator and is logged where it happened.

pub mod admin;
pub mod auth;
pub mod clock;
pub mod config;
pub mod explain;
pub mod front;
pub mod gate;
pub mod policy;
pub mod random;
pub mod replay;
pub mod server;
pub mod store;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod timer;
pub mod trail;
pub mod upstream;
