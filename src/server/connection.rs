//! One accepted socket: TLS or not, HTTP/2 or HTTP/1.
//!
//! On TLS the client says which (ALPN, RFC 7301). On cleartext the first bytes do: HTTP/2 with prior knowledge begins with
//! a preface that is no HTTP/1 request (RFC 9113 section 3.4). hyper-util's `auto` is not used: it waits for these bytes
//! without a limit and serves HTTP/1 to a client that agreed to HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::peer::{Peer, Protocol, TlsPeer};
use super::socket::{First, Prefixed, Socket, Transport};
use super::{Context, Front, h1, h2};

/// How an HTTP/2 connection begins (RFC 9113 section 3.4).
const PREFACE: &[u8; First::MOST] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves an accepted connection to its end.
pub(super) async fn serve<F: Front>(
    stream: TcpStream,
    address: SocketAddr,
    local: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    context: Context<F>,
) {
    let peer = Peer { address, local, protocol: Protocol::Http1, tls: None };
    let socket = Socket::new(stream);
    match tls {
        None => choose(socket, peer, &context).await,
        Some(config) => secure(socket, config, peer, &context).await,
    }
}

async fn secure<F: Front>(socket: Socket, config: Arc<ServerConfig>, mut peer: Peer, context: &Context<F>) {
    // Boxed: the handshake is larger than the session it gives.
    let handshake = Box::pin(TlsAcceptor::from(config).accept(socket));
    let stream = match context.timer.timeout(context.limits.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(error)) => return tracing::debug!(peer = %peer.address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(peer = %peer.address, "TLS handshake too slow"),
    };
    let session = stream.get_ref().1;
    peer.tls = Some(TlsPeer { server_name: session.server_name().map(Arc::from) });
    if session.alpn_protocol() == Some(b"h2") {
        serve_h2(stream, First::default(), peer, context).await;
    } else {
        choose_h1(stream, peer, context).await;
    }
}

/// Lets the first bytes choose.
async fn choose<F: Front>(mut socket: Socket, peer: Peer, context: &Context<F>) {
    let mut first = First::default();
    let mut since = Instant::now();
    while first.length < First::MOST && PREFACE.starts_with(first.as_slice()) {
        match read_first(&mut socket, &mut first, context).await {
            Ok(_) if first.length == 0 => return,
            // Half a preface, or the first bytes of POST, and then too slow: that is for HTTP/1 to answer.
            Ok(0) => break,
            Ok(count) if count == first.length => since = Instant::now(),
            Ok(_) => {}
            Err(_) => return,
        }
    }
    if first.as_slice() == PREFACE {
        serve_h2(socket, first, peer, context).await;
    } else {
        serve_h1(socket, &first, since, peer, context).await;
    }
}

/// Waits for the first byte of an HTTP/1 connection before anything is allocated for it.
async fn choose_h1<F: Front, T: Transport>(mut socket: T, peer: Peer, context: &Context<F>) {
    let mut first = First::default();
    if let Ok(1..) = read_first(&mut socket, &mut first, context).await {
        serve_h1(socket, &first, Instant::now(), peer, context).await;
    }
}

/// Reads on; 0 at the end of the connection or of the time.
async fn read_first<F: Front, T: Transport>(
    socket: &mut T,
    first: &mut First,
    context: &Context<F>,
) -> io::Result<usize> {
    let room = first.bytes.get_mut(first.length..).unwrap_or_default();
    // A client that has not begun a request can leave without harm when we drain.
    let count = tokio::select! {
        biased;
        read = context.timer.timeout(context.limits.head_timeout, socket.read(room)) => read.unwrap_or(Ok(0))?,
        () = context.drain.begun() => 0,
    };
    first.length += count;
    Ok(count)
}

async fn serve_h1<F: Front, T: Transport>(socket: T, first: &First, since: Instant, peer: Peer, context: &Context<F>) {
    let connection = context.front.connect(peer);
    h1::connection::serve(socket, first.as_slice(), since, connection, context).await;
}

async fn serve_h2<F: Front, T: Transport>(socket: T, first: First, mut peer: Peer, context: &Context<F>) {
    peer.protocol = Protocol::Http2;
    let connection = context.front.connect(peer);
    // Boxed: this state is much larger than that of the HTTP/1 connections that share the task's size.
    Box::pin(h2::serve(Prefixed::new(first, socket), connection, context)).await;
}
