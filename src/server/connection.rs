//! One accepted socket: whose it is, TLS or not, HTTP/2 or HTTP/1.
//!
//! On TLS the client says which (ALPN, RFC 7301). On cleartext the first bytes do: HTTP/2 with prior knowledge begins with
//! a preface that is no HTTP/1 request (RFC 9113 section 3.4). hyper-util's `auto` is not used: it waits for these bytes
//! without a limit and serves HTTP/1 to a client that agreed to HTTP/2.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::Either;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::entrance::Steps;
use super::listener::{Accepted, Handshake, Refused};
use super::peer::{Peer, Protocol, TlsPeer};
use super::proxy_protocol::{Fault, ProxyProtocol};
use super::socket::{Prefixed, Socket, Transport, poll_read_shared};
use super::tls::Tls;
use super::{Context, Front, h1, h2};
use crate::policy::binding::Thumbprint;
use crate::policy::digest::sha256;

/// How an HTTP/2 connection begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection without a request is kept when a drain begins.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Serves an accepted connection to its end.
///
/// Not an `async fn`, and its begin is boxed: a future keeps room for its arguments and for every step, and what the
/// task keeps while its connection sleeps should be little more than what the last step needs.
pub(super) fn serve<F: Front>(
    accepted: Accepted,
    steps: Arc<Steps>,
    context: Arc<Context<F>>,
) -> impl Future<Output = ()> + Send {
    let Accepted { stream, address, counted } = accepted;
    let peer = Peer { address, protocol: Protocol::Http1, tls: None };
    let begin = Box::pin(begin(Socket::new(stream), steps, peer, Arc::clone(&context)));
    async move {
        match begin.await {
            Some((Channel::Clear(socket), begun)) => proceed(socket, begun, context).await,
            Some((Channel::Tls(socket), begun)) => proceed(socket, begun, context).await,
            None => {}
        }
        drop(counted);
    }
}

enum Channel {
    Clear(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// How a connection began.
struct Begun {
    peer: Peer,
    /// What was read to find that out.
    first: BytesMut,
    /// When it began to arrive.
    since: Instant,
}

/// Finds out what the peer speaks, or that it is gone.
async fn begin<F: Front>(
    mut socket: Socket,
    steps: Arc<Steps>,
    peer: Peer,
    context: Arc<Context<F>>,
) -> Option<(Channel, Begun)> {
    let mut begun = Begun { peer, first: BytesMut::new(), since: Instant::now() };
    // Boxed again: headers and handshakes need room that other silent connections should not have.
    if let Some(proxy) = &steps.proxy {
        Box::pin(introduce(&mut socket, proxy, &mut begun, &context)).await?;
    }
    let channel = match &steps.tls {
        Some(tls) => Channel::Tls(Box::pin(secure(socket, tls, &mut begun, &context)).await?),
        None => Channel::Clear(choose(socket, &mut begun, &context).await?),
    };
    Some((channel, begun))
}

/// Learns whose connection the peer passes on.
async fn introduce<F: Front>(
    socket: &mut Socket,
    proxy: &ProxyProtocol,
    begun: &mut Begun,
    context: &Context<F>,
) -> Option<()> {
    let patience = context.limits.head_timeout;
    match proxy.read(socket, begun.peer.address, &context.timer, patience).await {
        Ok(Some(source)) => begun.peer.address = source,
        Ok(None) => {}
        Err(fault) => {
            let reason = match fault {
                Fault::Sender => Refused::ProxySender,
                Fault::Header | Fault::Gone => Refused::ProxyHeader,
                Fault::TooSlow => Refused::ProxyTimeout,
            };
            context.stats.refused(reason);
            tracing::debug!(peer = %begun.peer.address, "connection refused: {fault}");
            return None;
        }
    }
    begun.since = Instant::now();
    Some(())
}

/// Shakes hands and lets ALPN choose.
async fn secure<F: Front>(
    socket: Socket,
    tls: &Tls,
    begun: &mut Begun,
    context: &Context<F>,
) -> Option<Box<TlsStream<Socket>>> {
    let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(socket);
    let mut stream = match context.timer.timeout(context.limits.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(error)) => {
            context.stats.handshake(Handshake::Failed);
            tracing::debug!(peer = %begun.peer.address, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            context.stats.handshake(Handshake::TimedOut);
            tracing::debug!(peer = %begun.peer.address, "TLS handshake too slow");
            return None;
        }
    };
    context.stats.handshake(Handshake::Done);
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let thumbprint = certificate.map(|certificate| thumbprint(certificate));
    let certificate =
        certificate.filter(|_| tls.forward_certificate).map(|certificate| Arc::from(certificate.as_ref()));
    begun.peer.tls = Some(TlsPeer { server_name: session.server_name().map(Arc::from), certificate, thumbprint });
    if session.alpn_protocol() == Some(b"h2") {
        begun.peer.protocol = Protocol::Http2;
    } else if read_first(&mut stream, &mut begun.first, context).await.ok()? == 0 {
        // Nothing is allocated for a connection before its first byte.
        return None;
    }
    begun.since = Instant::now();
    Some(stream)
}

/// What tokens that are bound to a certificate say of it (RFC 8705 section 3.1).
fn thumbprint(certificate: &[u8]) -> Thumbprint {
    Thumbprint(sha256(certificate))
}

/// Lets the first bytes choose.
async fn choose<F: Front>(mut socket: Socket, begun: &mut Begun, context: &Context<F>) -> Option<Socket> {
    let first = &mut begun.first;
    while first.len() < PREFACE.len() && PREFACE.starts_with(first) {
        match read_first(&mut socket, first, context).await.ok()? {
            0 if first.is_empty() => return None,
            // Half a preface, or the first bytes of POST, and then too slow: that is for HTTP/1 to answer.
            0 => break,
            count if count == first.len() => begun.since = Instant::now(),
            _ => {}
        }
    }
    if first.starts_with(PREFACE) {
        begun.peer.protocol = Protocol::Http2;
    }
    Some(socket)
}

/// Reads on; 0 at the end of the connection or of the time.
async fn read_first<F: Front, T: Transport>(
    socket: &mut T,
    first: &mut BytesMut,
    context: &Context<F>,
) -> io::Result<usize> {
    let read = poll_fn(|cx| poll_read_shared(socket, cx, first));
    tokio::select! {
        biased;
        read = context.timer.timeout(context.limits.head_timeout, read) => read.unwrap_or(Ok(0)),
        // Who has just connected is about to send; who connected in advance can leave.
        _ = async {
            context.drain.begun().await;
            context.timer.timeout(DRAIN_GRACE, pending::<()>()).await
        } => Ok(0),
    }
}

/// Serves what was chosen.
fn proceed<F: Front, T: Transport>(
    socket: T,
    begun: Begun,
    context: Arc<Context<F>>,
) -> impl Future<Output = ()> + Send {
    let Begun { peer, first, since } = begun;
    let protocol = peer.protocol;
    let connection = context.front.connect(peer);
    match protocol {
        Protocol::Http1 => Either::Left(h1::connection::serve(socket, first, since, connection, context)),
        // Boxed, as the awake part of an HTTP/1 connection is.
        Protocol::Http2 => Either::Right(Box::pin(h2::serve(Prefixed::new(first, socket), connection, context))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::harness::Echo;

    /// Size of what a function returns.
    fn size<A, R>(_: impl FnOnce(A) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn the_task_of_a_connection_is_small() {
        let serve = size(|(accepted, context)| serve::<Echo>(accepted, Arc::default(), context));
        assert!(serve <= 1024, "{serve} bytes");
    }
}
