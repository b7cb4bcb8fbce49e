//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::policy::binding::Thumbprint;

/// The version of HTTP that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/1.0 (RFC 9112).
    Http1,
    /// HTTP/2 (RFC 9113), by ALPN or by prior knowledge.
    Http2,
}

/// One end of a downstream connection: facts of the transport, nothing the client claims in a request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address of the client, or of the last proxy before us that speaks HTTP.
    pub address: SocketAddr,
    /// Which HTTP it speaks.
    pub protocol: Protocol,
    /// The TLS session, if the connection has one.
    pub tls: Option<TlsPeer>,
}

/// What the handshake said (RFC 8446).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPeer {
    /// Server name the client asked for (RFC 6066 section 3).
    pub server_name: Option<Arc<str>>,
    /// The certificate that the client showed (DER), where upstreams are to see it.
    pub certificate: Option<Arc<[u8]>>,
    /// What tokens that are bound to that certificate say of it, whoever is to see it.
    pub thumbprint: Option<Thumbprint>,
}
