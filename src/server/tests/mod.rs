//! The server over loopback sockets, with a front that says what it was given.

mod h1;
mod h2;
pub(super) mod harness;
mod refusals;
mod time;
