//! Where admitted calls go: pools of endpoints, the connections to them, and what may be tried twice.
//!
//! Every worker has its own connections, so that no call crosses threads.
//!
//! A call is told to a pool as an [`Outbound`], from which each kind of connection makes what it needs: `h1` carries one
//! call at a time, `h2` many. Both run over a `socket` with or without TLS; `exchange` is what they have in common.

mod client;
mod dial;
mod error;
mod exchange;
pub mod fields;
pub mod forward;
mod h1;
mod h2;
mod pool;
mod shared;
mod socket;
pub mod tls;
mod trace;
pub mod upload;

pub use client::{PoolCounts, Repeat, Reply, WorkerPool, WorkerPools};
pub use error::UpstreamError;
pub use exchange::ReplyBody;
pub use h1::Upgraded;

use std::sync::Arc;
use std::time::Duration;

use http::response::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, header};

use fields::{Fields, Lines};
use tls::TlsClient;

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
    /// Whether it is reached over TLS.
    pub tls: bool,
}

/// What is spoken with the endpoints of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: over TLS by ALPN, in cleartext by prior knowledge (RFC 9113 section 3).
    Http2,
    /// What the endpoint chooses by ALPN; in cleartext HTTP/1.1.
    Auto,
}

/// How a pool speaks with its endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transport {
    /// For endpoints that are reached over TLS.
    pub tls: Option<TlsClient>,
    /// What is spoken.
    pub protocol: Protocol,
    /// HTTP/2 connections.
    pub http2: Http2Config,
}

/// HTTP/2 connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Config {
    /// Most connections per worker and endpoint; a further one is opened when all streams of the others are in use.
    pub max_connections: usize,
    /// How often a connection that carries calls is asked whether it is still there.
    pub ping_interval: Duration,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self { max_connections: 8, ping_interval: Duration::from_secs(360) }
    }
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
    /// TLS and HTTP/2.
    pub transport: Transport,
}
