//! What is decided, purely: no sockets, files, clock, randomness, logging or async.
//!
//! Each step turns one type into a stronger one; a type that exists is proof (see [`call`]).

pub mod method;
pub mod rejection;
pub mod violation;
