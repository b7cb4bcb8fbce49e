//! sessiongate: a session-enforcing API gateway.

pub mod policy;
