//! Where admitted calls go: pools of endpoints, the connections to them, and what may be tried twice.
//!
//! Every worker has its own connections, so that no call crosses threads.
//!
//! A call is told to a pool as an [`Outbound`], from which each kind of connection makes what it needs. Today there is one
//! kind, `h1` over TCP. TLS is another socket inside of it; HTTP/2 is a further kind, which would join where `pool` opens
//! connections and where [`ReplyBody`] reads from them.

mod client;
mod dial;
mod error;
pub mod forward;
mod h1;
mod pool;
mod trace;
pub mod upload;

pub use client::{PoolCounts, Repeat, Reply, WorkerPool, WorkerPools};
pub use error::UpstreamError;
pub use h1::{ReplyBody, Upgraded};

use std::sync::Arc;
use std::time::Duration;

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

    /// An interim response came (RFC 9110 section 15.2); the final one follows.
    fn interim(&self, _head: &Parts) {}
}

/// What becomes of the `host` field toward an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostField {
    /// The client's goes on, so that the upstream can build links.
    Preserve,
    /// The endpoint's own authority is written.
    Endpoint,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or IP address, without brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// `host:port` as written in `host` fields.
    pub authority: HeaderValue,
}

/// A pool of equal endpoints, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name: label of metrics and logs.
    pub name: Arc<str>,
    /// Its endpoints; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Longest time to a connection.
    pub connect_timeout: Duration,
    /// Longest time from the end of the request to the first byte of the response.
    pub response_timeout: Duration,
    /// How long an idle connection is kept; shorter than the upstream keeps it.
    pub idle_timeout: Duration,
    /// Most idle connections per worker and endpoint.
    pub max_idle: usize,
    /// The `host` field.
    pub host: HostField,
}
