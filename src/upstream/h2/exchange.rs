//! One request and the head of its response, on one stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::response::Parts;
use http::{HeaderValue, Method, StatusCode, header};

use super::link::Slot;
use super::reply;
use super::sending::Sending;
use super::upgraded::Upgraded;
use super::{checked, failure, is_unprocessed, request};
use crate::upstream::exchange::{self, Failed, Left};
use crate::upstream::upload::Upload;
use crate::upstream::{Endpoint, Outbound, Reply, ReplyBody, UpstreamError};

/// Interim responses to one request.
const INTERIM_MAX: u8 = 16;

/// A request that waits for its response. Dropped before its end it resets the stream (CANCEL).
#[derive(Debug)]
pub(in crate::upstream) struct Exchange {
    slot: Slot,
    response: ResponseFuture,
    sending: Sending,
    connect: Option<Connect>,
    to_head: bool,
    interim: u8,
    unprocessed: bool,
}

/// What an extended CONNECT keeps until its answer.
#[derive(Debug)]
struct Connect {
    /// What it is for.
    protocol: HeaderValue,
    /// Our half of the stream.
    stream: SendStream<Bytes>,
}

/// A final response head and what follows from it.
#[derive(Debug)]
pub(in crate::upstream) struct Head {
    pub(super) parts: Parts,
    pub(super) body: RecvStream,
    /// The length it announces.
    pub(super) length: Option<u64>,
}

impl Exchange {
    /// Begins a call to `endpoint`.
    ///
    /// # Errors
    /// If the connection takes no more calls.
    pub(in crate::upstream) fn begin(
        mut slot: Slot,
        endpoint: &Endpoint,
        request: &impl Outbound,
        upload: Upload,
    ) -> Result<Self, Failed> {
        let head = match request::head(request, endpoint, &upload) {
            Ok(head) => head,
            Err(error) => return Err(Failed { error, left: Left::Nothing, silent: false }),
        };
        let protocol = request::protocol(request).and_then(|protocol| HeaderValue::from_str(protocol).ok());
        let ended = upload.is_empty() && protocol.is_none();
        match slot.requests.send_request(head, ended) {
            Ok((response, stream)) => {
                let (connect, stream) = match protocol {
                    Some(protocol) => (Some(Connect { protocol, stream }), None),
                    None => (None, Some(stream)),
                };
                Ok(Self {
                    slot,
                    response,
                    sending: Sending::new(stream, upload),
                    connect,
                    to_head: *request.method() == Method::HEAD,
                    interim: 0,
                    unprocessed: false,
                })
            }
            Err(error) => {
                // The connection ended while it was looked at; what it cannot carry at all is not tried again.
                let left = if error.is_io() || error.is_go_away() { Left::Unsent(upload) } else { Left::Nothing };
                Err(Failed { error: failure(error), left, silent: false })
            }
        }
    }

    fn failed(&mut self, error: h2::Error) -> UpstreamError {
        self.unprocessed = is_unprocessed(&error);
        failure(error)
    }

    fn poll_response(
        &mut self,
        context: &mut Context<'_>,
        interim: impl Fn(&Parts),
    ) -> Poll<Result<Head, UpstreamError>> {
        while let Poll::Ready(Some(head)) = self.response.poll_informational(context) {
            let (head, ()) = head.map_err(|error| self.failed(error))?.into_parts();
            self.interim += 1;
            // There is no switching in HTTP/2 (RFC 9113 section 8.6).
            if self.interim > INTERIM_MAX || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(UpstreamError::Malformed("an interim response")));
            }
            checked(&head.headers)?;
            interim(&head);
        }
        let response = ready!(Pin::new(&mut self.response).poll(context)).map_err(|error| self.failed(error))?;
        let (parts, body) = response.into_parts();
        checked(&parts.headers)?;
        let length = reply::length(&parts.headers)?;
        if self.connect.is_some() && parts.status.is_success() && length.is_some() {
            return Poll::Ready(Err(UpstreamError::Malformed("a switch of protocols in doubt")));
        }
        Poll::Ready(Ok(Head { parts, body, length }))
    }
}

impl exchange::Exchange for Exchange {
    type Head = Head;

    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        interim: impl Fn(&Parts),
    ) -> Poll<Result<Self::Head, UpstreamError>> {
        if let Poll::Ready(Err(fault)) = self.sending.poll(context) {
            return Poll::Ready(Err(UpstreamError::Upload(fault)));
        }
        self.poll_response(context, interim)
    }

    fn reply(self, head: Self::Head) -> Reply {
        let Self { slot, mut sending, connect, to_head, .. } = self;
        sending.commit();
        match connect {
            Some(Connect { protocol, stream }) if head.parts.status.is_success() => {
                let Head { mut parts, body, .. } = head;
                // As it would say over HTTP/1.1.
                parts.status = StatusCode::SWITCHING_PROTOCOLS;
                parts.headers.insert(header::UPGRADE, protocol);
                return Reply { head: parts, body: ReplyBody::tunnel(Upgraded::new(stream, body, slot)) };
            }
            // It stays with HTTP, and the request has ended.
            Some(Connect { mut stream, .. }) => _ = stream.send_data(Bytes::new(), true),
            None => {}
        }
        let (head, body) = reply::ReplyBody::new(head, to_head, reply::Live { sending, _slot: slot });
        Reply { head, body: ReplyBody::h2(body) }
    }

    fn fail(self, error: UpstreamError) -> Failed {
        if matches!(error, UpstreamError::ResponseTimeout) {
            // It may be slow or it may be dead; whoever calls next should not have to find out.
            self.slot.retire();
        }
        let ended = matches!(error, UpstreamError::Closed | UpstreamError::Reset(_));
        let silent = ended && self.interim == 0;
        let left = match self.sending.take_back() {
            Some(upload) if self.unprocessed => Left::Refused(upload),
            Some(upload) if upload.is_empty() => Left::Intact(upload),
            Some(_) | None => Left::Nothing,
        };
        Failed { error, left, silent }
    }
}
