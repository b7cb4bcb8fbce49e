//! One client connection as the front sees it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use super::prepared::Prepared;
use super::proxy::Proxy;
use crate::gate::memo::TokenMemo;
use crate::policy::binding::Thumbprint;
use crate::telemetry::record::Arrival;
use crate::upstream::forward::Edge;

/// The other end of a connection: facts of the transport, nothing that a request claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Address of the client, or of the last proxy before us that speaks HTTP.
    pub address: SocketAddr,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The certificate that it showed (DER), where upstreams are to see it.
    pub certificate: Option<Arc<[u8]>>,
    /// What tokens that are bound to that certificate say of it, whoever is to see it.
    pub thumbprint: Option<Thumbprint>,
}

/// What a connection keeps between calls of one snapshot.
pub(super) struct Scope {
    pub(super) prepared: Arc<Prepared>,
    pub(super) memo: TokenMemo,
    pub(super) trusted: bool,
    pub(super) edge: Edge,
}

/// One client connection.
pub struct Connection {
    pub(super) proxy: Arc<Proxy>,
    pub(super) peer: Peer,
    scope: ArcSwap<Scope>,
}

impl Connection {
    pub(super) fn new(proxy: Arc<Proxy>, peer: Peer) -> Self {
        let scope = Scope::new(proxy.prepared(), &peer);
        Self { proxy, peer, scope: ArcSwap::from_pointee(scope) }
    }

    /// The scope for the snapshot in force: the connection's own, unless a reload has come.
    pub(super) fn scope(&self) -> Arc<Scope> {
        let scope = self.scope.load_full();
        if scope.prepared.snapshot.generation == self.proxy.generation() {
            return scope;
        }
        let fresh = Arc::new(Scope::new(self.proxy.prepared(), &self.peer));
        self.scope.store(Arc::clone(&fresh));
        fresh
    }

    pub(super) const fn arrival(&self) -> Arrival {
        Arrival { peer: self.peer.address, http2: self.peer.http2, tls: self.peer.tls }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Scope {
    fn new(prepared: Arc<Prepared>, peer: &Peer) -> Self {
        let ip = peer.address.ip().to_canonical();
        let trusted = prepared.snapshot.trusted_proxies.iter().any(|net| net.contains(&ip));
        let proto = if peer.tls { "https" } else { "http" };
        let value =
            |text: Bytes| HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        // An IPv6 address is quoted and bracketed in `forwarded` (RFC 7239 section 6). The address is written once, and the
        // other value is a part of this one.
        let (before, after) = if ip.is_ipv6() { ("for=\"[", "]\"") } else { ("for=", "") };
        let mut text = BytesMut::with_capacity(64);
        // Bytes take everything.
        let _ = write!(text, "{before}{ip}");
        let node = before.len()..text.len();
        for part in [after, ";proto=", proto] {
            text.extend_from_slice(part.as_bytes());
        }
        let text = text.freeze();
        let edge = Edge {
            peer: value(text.slice(node)),
            proto: HeaderValue::from_static(proto),
            forwarded: value(text),
            // A byte sequence of structured fields (RFC 9440 section 2.2).
            certificate: peer.certificate.as_ref().map(|der| value(format!(":{}:", STANDARD.encode(der)).into())),
        };
        Self { prepared, memo: TokenMemo::default(), trusted, edge }
    }
}
