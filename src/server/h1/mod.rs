//! HTTP/1: strict message boundaries, refusals of our own, time-outs and sleep around hyper's server.
//!
//! [`framing`] and [`body`] say where a message begins and ends, `io` feeds hyper by it, `link` is where the parts of a
//! connection meet, `watch` keeps the time, and `connection` drives all of it.

pub mod body;
pub(super) mod connection;
pub mod framing;
mod io;
pub(super) mod link;
mod watch;
