//! Where admitted calls go: pools of endpoints, the connections to them, and what may be tried twice.
//!
//! Every worker has its own connections, so that no call crosses threads. What all workers must agree on, the health of
//! endpoints, their addresses and the limits, is in `state`; a call without trouble and limits only reads there.
//!
//! A call is told to a pool as an [`Outbound`], from which each kind of connection makes what it needs: `h1` carries one
//! call at a time, `h2` many. Both run over a `socket` with or without TLS; `exchange` is what they have in common.

mod balance;
mod breaker;
mod budget;
mod choice;
mod client;
pub mod config;
mod dial;
mod error;
mod exchange;
pub mod fields;
pub mod forward;
mod h1;
mod h2;
mod health;
mod names;
mod pool;
mod probe;
mod registry;
mod shared;
mod socket;
mod state;
pub mod tls;
mod trace;
mod upgraded;
pub mod upload;

pub use client::{PoolCounts, Repeat, Reply, WorkerEndpoint, WorkerPool, WorkerPools};
pub use config::{Endpoint, HostField, Http2Config, PoolConfig, Protocol, Transport};
pub use error::UpstreamError;
pub use exchange::ReplyBody;
pub use health::{Report, Standing};
pub use names::ResolverConfig;
pub use registry::Upstreams;
pub use state::{EndpointState, PoolState};
pub use upgraded::Upgraded;

use http::response::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, header};

use fields::{Fields, Lines};

/// A request on its way out. It may be asked for again, for another endpoint.
pub trait Outbound: Sync {
    /// Its method.
    fn method(&self) -> &Method;

    /// Its target, byte for byte as it was matched; none: `/`.
    fn target(&self) -> Option<&PathAndQuery>;

    /// The host it is for at `endpoint`: the value of `host`, or of `:authority`.
    fn host<'a>(&'a self, endpoint: &'a Endpoint) -> &'a [u8];

    /// Gives its fields to `out`: all but the host, those that frame the body, and those of this hop.
    fn fields(&self, out: &mut impl Fields);

    /// Writes its head in HTTP/1.1, without the fields that frame the body and without the empty line.
    fn write_head(&self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        let target = self.target().map_or("/", PathAndQuery::as_str);
        debug_assert!(target.bytes().all(|byte| byte > b' ' && byte != 0x7f), "a target has no separators in it");
        out.extend_from_slice(self.method().as_str().as_bytes());
        out.push(b' ');
        // An absolute form may have a query behind no path.
        if !target.starts_with(['/', '*']) {
            out.push(b'/');
        }
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut lines = Lines(out);
        lines.field(&header::HOST, self.host(endpoint));
        self.fields(&mut lines);
        if let Some(protocols) = self.upgrade() {
            lines.field(&header::CONNECTION, b"upgrade");
            lines.field(&header::UPGRADE, protocols.as_bytes());
        }
    }

    /// The protocols it asks to switch to.
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
