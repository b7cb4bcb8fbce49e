//! sessiongate: a session-enforcing API gateway.

pub mod policy;
pub mod server;
pub mod timer;
