//! sessiongate: a session-enforcing API gateway.

pub mod admin;
pub mod auth;
pub mod clock;
pub mod config;
pub mod front;
pub mod gate;
pub mod policy;
pub mod random;
pub mod server;
pub mod store;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod timer;
pub mod upstream;
