//! Where admitted calls go: pools of endpoints, the connections to them, and what may be tried twice.
//!
//! Every worker has its own connections, so that no call crosses threads. What all workers must agree on, the health of
//! endpoints, their addresses and the limits, is in `state`; a call without trouble and limits only reads there.
//!
//! A call is told to a pool as an [`Outbound`], from which each kind of connection makes what it needs. Today there is one
//! kind, `h1` over TCP. TLS is another socket inside of it; HTTP/2 is a further kind, which would join where `pool` opens
//! connections and where [`ReplyBody`] reads from them.

mod balance;
mod breaker;
mod budget;
mod choice;
mod client;
pub mod config;
mod dial;
mod error;
pub mod forward;
mod h1;
mod health;
mod names;
mod pool;
mod probe;
mod registry;
mod state;
mod trace;
pub mod upload;

pub use client::{PoolCounts, Repeat, Reply, WorkerEndpoint, WorkerPool, WorkerPools};
pub use config::{Endpoint, HostField, PoolConfig};
pub use error::UpstreamError;
pub use h1::{ReplyBody, Upgraded};
pub use health::{Report, Standing};
pub use names::ResolverConfig;
pub use registry::Upstreams;
pub use state::{EndpointState, PoolState};

use http::response::Parts;
use http::{HeaderValue, Method};

/// A request on its way out.
pub trait Outbound: Sync {
    /// Its method.
    fn method(&self) -> &Method;

    /// Writes its head for `endpoint` in HTTP/1.1: request line and fields with their line ends, without the fields that
    /// frame the body and without the empty line. It may be asked for again, for another endpoint.
    fn write_head(&self, endpoint: &Endpoint, out: &mut Vec<u8>);

    /// The protocols it asks to switch to: the value of its `upgrade` field, which its head must have then.
    fn upgrade(&self) -> Option<&HeaderValue> {
        None
    }

    /// What ties it to others that should reach the same endpoint: equal numbers, spread evenly.
    fn affinity(&self) -> Option<u64> {
        None
    }

    /// An interim response came (RFC 9110 section 15.2); the final one follows.
    fn interim(&self, _head: &Parts) {}
}
