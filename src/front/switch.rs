//! From HTTP to another protocol: `101` over HTTP/1.1, extended CONNECT over HTTP/2 (RFC 8441).
//!
//! Upstreams are asked over HTTP/1.1 in either case, so one of the two handshakes may have to become the other.

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::body::Answer;
use super::proxy::{Call, Proxy};
use super::tunnel::Tunnel;
use super::watch::Watch;
use super::websocket::{self, Key};
use crate::policy::head::Head;
use crate::policy::rejection::Rejection;
use crate::policy::session::Session;
use crate::telemetry::record::CallRecord;
use crate::upstream::{Reply, UpstreamError};

/// An answer that begins a tunnel, or that would if it were passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// `101` to a client that asked with `upgrade`.
    Upgrade,
    /// `101` to one that asked with an extended CONNECT.
    Connect,
    /// Success, to an extended CONNECT, from an upstream that does not switch: the client would take it for a tunnel.
    Ignored,
}

/// The protocol that an extended CONNECT is for.
pub(super) fn protocol(parts: &Parts) -> Option<HeaderValue> {
    if parts.method != Method::CONNECT {
        return None;
    }
    HeaderValue::from_str(parts.extensions.get::<hyper::ext::Protocol>()?.as_str()).ok()
}

/// The key of the handshake that we make where the client has none.
pub(super) fn key(head: &Head<'_>) -> Option<Key> {
    let needed = head.is_connect() && head.upgrade().is_some_and(websocket::is_websocket);
    needed.then(Key::fresh)
}

impl Switch {
    pub(super) fn of(reply: &Reply, head: &Head<'_>) -> Option<Self> {
        match reply.head.status {
            StatusCode::SWITCHING_PROTOCOLS if head.is_connect() => Some(Self::Connect),
            StatusCode::SWITCHING_PROTOCOLS => Some(Self::Upgrade),
            status if status.is_success() && head.is_connect() => Some(Self::Ignored),
            _ => None,
        }
    }
}

impl Call<'_> {
    /// Opens the tunnel that an upstream agreed to.
    pub(super) fn switch(
        &self,
        proxy: &Proxy,
        reply: Reply,
        switch: Switch,
        key: Option<&Key>,
        session: Option<(&Session, HeaderValue)>,
        mut record: Box<CallRecord>,
    ) -> Response<Answer> {
        let Reply { head: mut parts, body } = reply;
        if switch == Switch::Ignored {
            return self.fail(proxy, &UpstreamError::Malformed("success without a switch of protocols"), None, record);
        }
        if key.is_some_and(|key| !key.is_answered(&parts.headers)) {
            return self.fail(proxy, &UpstreamError::Malformed("sec-websocket-accept"), None, record);
        }
        // There are both of an upstream that was asked, and no other can answer that.
        let (Some(protocol), Some(upstream)) = (parts.headers.remove(header::UPGRADE), body.into_upgraded()) else {
            return self.refuse(Rejection::Internal, record);
        };
        if switch == Switch::Connect {
            // Section 5.
            parts.status = StatusCode::OK;
            parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        }
        self.dress(&mut parts, session, &mut record);
        if switch == Switch::Upgrade {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, protocol.clone());
        }
        let prepared = &self.scope.prepared;
        let watch = Watch::over(&record, prepared);
        let tunnel = Tunnel::new(upstream, &protocol, watch, prepared.timer.clone());
        Response::from_parts(parts, Answer::switched(Box::new(tunnel), record))
    }
}
