//! From HTTP to another protocol: `101` over HTTP/1.1, extended CONNECT over HTTP/2 (RFC 8441).
//!
//! Client and upstream may speak either, so one of the two handshakes may have to become the other.

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version, header};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Switch {
    /// `101` to a client that asked with `upgrade`.
    Upgrade,
    /// The same, for a WebSocket, of an upstream that was asked with an extended CONNECT: whether it understood is for us to
    /// say, with this answer to the client's key.
    Answered(HeaderValue),
    /// Without such a key there was no handshake.
    Keyless,
    /// `101` to a client that asked with an extended CONNECT.
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
            StatusCode::SWITCHING_PROTOCOLS => Some(Self::upgrade(reply, head)),
            status if status.is_success() && head.is_connect() => Some(Self::Ignored),
            _ => None,
        }
    }

    fn upgrade(reply: &Reply, head: &Head<'_>) -> Self {
        let websocket = reply.head.headers.get(header::UPGRADE).is_some_and(websocket::is_websocket);
        if !websocket || reply.head.version != Version::HTTP_2 {
            return Self::Upgrade;
        }
        let answer = Key::of(head.raw().headers).and_then(|key| HeaderValue::try_from(key.answer()).ok());
        answer.map_or(Self::Keyless, Self::Answered)
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
        // Over HTTP/2 the upstream was not shown it (section 5).
        let key = key.filter(|_| parts.version != Version::HTTP_2);
        if switch == Switch::Ignored {
            return self.fail(proxy, &UpstreamError::Malformed("success without a switch of protocols"), None, record);
        }
        if switch == Switch::Keyless {
            return self.refuse(Rejection::RequestMalformed, record);
        }
        if key.is_some_and(|key| !key.is_answered(&parts.headers)) {
            return self.fail(proxy, &UpstreamError::Malformed("sec-websocket-accept"), None, record);
        }
        // There are both of an upstream that was asked, and no other can answer that.
        let (Some(protocol), Some(upstream)) = (parts.headers.remove(header::UPGRADE), body.into_upgraded()) else {
            return self.refuse(Rejection::Internal, record);
        };
        match &switch {
            Switch::Upgrade | Switch::Keyless | Switch::Ignored => {}
            Switch::Answered(answer) => _ = parts.headers.insert(header::SEC_WEBSOCKET_ACCEPT, answer.clone()),
            Switch::Connect => {
                // Section 5.
                parts.status = StatusCode::OK;
                parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            }
        }
        self.dress(&mut parts, session, &mut record);
        if switch != Switch::Connect {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, protocol.clone());
        }
        let prepared = &self.scope.prepared;
        let watch = Watch::over(&record, prepared);
        let tunnel = Tunnel::new(upstream, &protocol, watch, prepared.timer.clone());
        Response::from_parts(parts, Answer::switched(Box::new(tunnel), record))
    }
}
