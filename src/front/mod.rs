//! Ways in: one protocol to the outside, [`crate::gate::Gate`] to the inside.

mod body;
mod connection;
mod cors;
mod forward;
mod grpc;
mod pace;
mod panic;
mod prepared;
mod problem;
pub mod proxy;
mod rates;
mod repeat;
mod response;
mod session;
mod switch;
mod trailers;
mod tunnel;
mod watch;
mod websocket;

pub use body::{Answer, AnswerError};
pub use connection::{Connection, Peer};
pub use proxy::{Hint, Proxy};
