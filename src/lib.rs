//! sessiongate: a session-enforcing API gateway.

pub mod auth;
pub mod clock;
pub mod config;
pub mod policy;
pub mod random;
pub mod store;
pub mod upstream;
