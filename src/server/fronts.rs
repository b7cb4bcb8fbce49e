//! The fronts that connections are served by: calls and the operator.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::{Front, Peer, Protocol, RequestBody, Transport};
use crate::admin::Admin;
use crate::front::{self, Answer, Connection, Hint, Proxy};
use crate::policy::rejection::Rejection;

impl Front for Proxy {
    type Connection = Connection;
    type Body = Answer;

    fn connect(self: &Arc<Self>, peer: Peer) -> Arc<Connection> {
        let thumbprint = peer.tls.as_ref().and_then(|tls| tls.thumbprint);
        let peer = front::Peer {
            address: peer.address,
            http2: peer.protocol == Protocol::Http2,
            tls: peer.tls.is_some(),
            certificate: peer.tls.and_then(|tls| tls.certificate),
            thumbprint,
        };
        Arc::new(Self::connect(self, peer))
    }

    // Not an `async fn`: it would be one more future around that of the call, and the request would move once more.
    fn answer(
        connection: Arc<Connection>,
        request: Request<RequestBody>,
        refused: Option<Rejection>,
        hint: Option<Hint<'_>>,
    ) -> impl Future<Output = Response<Answer>> + Send {
        Self::answer(connection, request, refused, hint)
    }

    async fn tunnel(body: Answer, client: &mut dyn Transport, early: Vec<u8>) -> bool {
        body.tunnel(client, early).await
    }
}

/// The operator's listener. A connection knows nothing but whom to ask.
#[derive(Debug)]
pub struct AdminFront(pub Arc<Admin>);

impl Front for AdminFront {
    type Connection = Admin;
    type Body = Full<Bytes>;

    fn connect(self: &Arc<Self>, _: Peer) -> Arc<Admin> {
        Arc::clone(&self.0)
    }

    async fn answer(
        connection: Arc<Admin>,
        request: Request<RequestBody>,
        refused: Option<Rejection>,
        _: Option<Hint<'_>>,
    ) -> Response<Full<Bytes>> {
        let Some(rejection) = refused else { return connection.answer(request).await };
        let mut response = Response::new(Full::from(rejection.row().detail));
        *response.status_mut() = rejection.status();
        response
    }
}
