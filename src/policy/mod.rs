//! What is decided, purely: no sockets, files, clock, randomness, logging or async.
//!
//! Each step turns one type into a stronger one; a type that exists is proof. [`call`] has the ladder.

pub mod address;
pub mod binding;
pub mod call;
pub mod claims;
pub mod clients;
pub mod credentials;
pub mod digest;
pub mod fields;
pub mod flow;
pub mod grpc;
pub mod head;
pub mod headers;
pub mod ids;
pub mod issued;
pub mod media;
pub mod members;
pub mod method;
pub mod overload;
pub mod proof;
pub mod rates;
pub mod rejection;
pub mod route;
pub mod scopes;
pub mod session;
pub mod severity;
pub mod target;
pub mod time;
pub mod violation;
