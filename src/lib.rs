//! sessiongate: a session-enforcing API gateway.

pub mod auth;
pub mod clock;
pub mod config;
pub mod front;
pub mod gate;
pub mod policy;
pub mod server;
pub mod timer;
