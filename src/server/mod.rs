//! Everything between a socket and a request: listeners, TLS, protocols, limits, time-outs, drain.
//!
//! A [worker] is one thread with a runtime, its listeners, a [`Timer`] and a [`Front`]. The front answers
//! requests; it is told about the connection ([`Peer`]) and about requests that the connection knows to be
//! unservable, so that every answer has one source. What is left to the front: host, path, credentials, rules,
//! forwarding.
//!
//! Who refuses what: `h1` refuses malformed, ambiguous, oversized and slow HTTP/1 requests through the front; the `h2`
//! crate resets malformed streams by itself; connections over the limit wait in the listen queue.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

use crate::front::Hint;
use crate::policy::rejection::Rejection;
use crate::timer::Timer;

mod answer;
mod batch;
mod body;
mod clients;
mod connection;
mod drain;
pub mod entrance;
mod flood;
mod fronts;
pub mod gateway;
pub mod h1;
mod h2;
mod h2_tunnel;
mod limits;
pub mod listener;
mod peer;
pub mod proxy_protocol;
mod socket;
mod stall;
pub mod tls;
pub mod worker;

pub use body::RequestBody;
pub use drain::Drain;
pub use gateway::{Bound, Gateway, Handle, Options, StartError};
pub use limits::Limits;
pub use peer::{Peer, Protocol, TlsPeer};
pub use socket::Transport;

/// What answers the calls of connections.
pub trait Front: Send + Sync + 'static {
    /// State of one downstream connection, such as its snapshot and a memo of the last token. Kept while the
    /// connection sleeps, so it should be small.
    type Connection: Send + Sync + 'static;

    /// Body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// A connection was accepted and its protocol is known.
    fn connect(self: &Arc<Self>, peer: Peer) -> Arc<Self::Connection>;

    /// Answers a request.
    ///
    /// With `refused` the connection already knows that the request must not be served: answer with that refusal. The
    /// request is a stand-in then, and nothing in it was sent by the client. The connection closes after the answer.
    ///
    /// With `hint` the front can send the heads of interim responses (RFC 9110 section 15.2), each complete, before its
    /// answer; not over HTTP/2.
    ///
    /// The future is dropped if the client leaves. `Connection` fields of the answer are set by the connection.
    fn answer(
        connection: Arc<Self::Connection>,
        request: Request<RequestBody>,
        refused: Option<Rejection>,
        hint: Option<Hint<'_>>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Goes on after an answer of `101` over HTTP/1, or of success to a CONNECT over HTTP/2: from now on the connection or
    /// the stream is what the front and the client make of it. `body` is of that answer; `early` is what the client sent
    /// behind its request. The future is dropped when the drain ends.
    ///
    /// The outcome says whether the client may take what it got for the whole; otherwise it is reset.
    fn tunnel(body: Self::Body, client: &mut dyn Transport, early: Vec<u8>) -> impl Future<Output = bool> + Send {
        drop((body, client, early));
        std::future::ready(false)
    }
}

/// What connections need of their worker; shared by those that were accepted under the same limits.
struct Context<F> {
    front: Arc<F>,
    limits: Limits,
    timer: Timer,
    drain: Drain,
    stats: Arc<listener::ConnectionStats>,
}

#[cfg(test)]
mod tests;
