//! One request and the head of its response, on one connection.

use std::io;
use std::task::{Context, Poll, ready};

use http::Method;
use http::response::Parts;

use super::head::{HeadReader, Read, ResponseHead};
use super::reply;
use super::sending::{SendFault, Sending};
use super::wire::Wire;
use crate::upstream::exchange::{self, Failed, Left};
use crate::upstream::pool::Lease;
use crate::upstream::upload::Upload;
use crate::upstream::{Outbound, Reply, ReplyBody, UpstreamError};

/// A connection in use. Dropped before its end it closes, which is all the cancellation there is.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) wire: Box<Wire>,
    pub(super) sending: Sending,
    /// Why the rest of the request cannot be sent.
    pub(super) broken: Option<io::Error>,
}

/// A request that waits for its response.
#[derive(Debug)]
pub(in crate::upstream) struct Exchange {
    busy: Busy,
    lease: Lease,
    reader: HeadReader,
    to_head: bool,
}

impl Busy {
    /// Sends on. When the connection breaks, there may still be a response to read: an upstream that refuses an upload
    /// answers and closes.
    ///
    /// # Errors
    /// `Upload`, and `Reset` if the connection broke before it took anything: what can be read then is no response to
    /// this request.
    pub(super) fn send_on(&mut self, context: &mut Context<'_>) -> Result<(), UpstreamError> {
        if self.broken.is_some() {
            return Ok(());
        }
        match self.sending.poll(&mut self.wire, context) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(SendFault::Upload(fault))) => Err(UpstreamError::Upload(fault)),
            Poll::Ready(Err(SendFault::Connection(error))) if self.wire.output.is_untouched() => {
                Err(UpstreamError::broken(error))
            }
            Poll::Ready(Err(SendFault::Connection(error))) => {
                self.broken = Some(error);
                Ok(())
            }
        }
    }

    /// Whether the request has gone as a whole, so that the connection is where the next one may begin.
    pub(super) fn is_sent(&self) -> bool {
        self.broken.is_none() && self.sending.is_done(&self.wire.output)
    }
}

impl Exchange {
    /// Begins a call; the connection goes back by `lease`.
    pub(in crate::upstream) fn begin(
        mut wire: Box<Wire>,
        lease: Lease,
        request: &impl Outbound,
        upload: Upload,
    ) -> Self {
        wire.begin();
        request.write_head(lease.endpoint(), &mut wire.output.front);
        let sending = Sending::begin(request.method(), upload, &mut wire.output);
        let busy = Busy { wire, sending, broken: None };
        let reader = HeadReader::new(request.upgrade().cloned());
        Self { busy, lease, reader, to_head: *request.method() == Method::HEAD }
    }
}

impl exchange::Exchange for Exchange {
    type Head = ResponseHead;

    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        interim: impl Fn(&Parts),
    ) -> Poll<Result<ResponseHead, UpstreamError>> {
        self.busy.send_on(context)?;
        loop {
            match self.reader.read(&mut self.busy.wire.input, self.to_head)? {
                // Who agrees before the question was out has not understood it.
                Read::Final(head) if head.switches() && !self.busy.is_sent() => {
                    return Poll::Ready(Err(UpstreamError::Malformed("a switch of protocols before the request")));
                }
                Read::Final(head) => return Poll::Ready(Ok(head)),
                Read::Interim(parts) => {
                    interim(&parts);
                    continue;
                }
                Read::Partial => {}
            }
            match ready!(self.busy.wire.poll_read(context)) {
                Ok(0) => {
                    return Poll::Ready(Err(self
                        .busy
                        .broken
                        .take()
                        .map_or(UpstreamError::Closed, UpstreamError::broken)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(UpstreamError::broken(error))),
            }
        }
    }

    fn reply(self, head: ResponseHead) -> Reply {
        if head.switches() {
            return Reply { head: head.parts, body: ReplyBody::h1(reply::ReplyBody::switched(self.busy)) };
        }
        let ResponseHead { parts, decoder, reusable, rest } = head;
        let lease = reusable.then_some((self.lease, rest));
        Reply { head: parts, body: ReplyBody::h1(reply::ReplyBody::new(self.busy, decoder, lease)) }
    }

    fn fail(self, error: UpstreamError) -> Failed {
        let ended = matches!(error, UpstreamError::Closed | UpstreamError::Reset(_));
        let Busy { mut wire, sending, .. } = self.busy;
        let silent = ended && wire.input.is_empty() && !self.reader.is_begun();
        let left = match ended {
            true if wire.output.is_untouched() => sending.take_back(&mut wire.output).map(Left::Unsent),
            true => sending.intact().map(Left::Intact),
            false => None,
        };
        Failed { error, left: left.unwrap_or(Left::Nothing), silent }
    }
}
