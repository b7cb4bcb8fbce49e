//! One request and the head of its response, on one connection.

use std::io;
use std::task::{Context, Poll, ready};

use http::response::Parts;
use http::{HeaderValue, Method};

use super::head::{HeadReader, Read, ResponseHead};
use super::reply::ReplyBody;
use super::sending::{SendFault, Sending};
use super::wire::Wire;
use crate::upstream::pool::Lease;
use crate::upstream::upload::Upload;
use crate::upstream::{Reply, UpstreamError};

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
    reader: HeadReader,
    to_head: bool,
}

/// Why an exchange has no response, and what may be done about it.
#[derive(Debug)]
pub(in crate::upstream) struct Failed {
    pub(in crate::upstream) error: UpstreamError,
    /// The body, if the connection failed before it took a byte of the request.
    pub(in crate::upstream) unsent: Option<Upload>,
    /// The body, if nothing of it was taken from the client, whatever became of the head.
    pub(in crate::upstream) intact: Option<Upload>,
    /// Whether the connection ended without a byte of a response: what a resting connection looks like that the upstream
    /// closed just then.
    pub(in crate::upstream) silent: bool,
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
                Err(UpstreamError::Reset(error))
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
    /// Begins with a head that `write` writes, without framing fields and without the empty line. `upgrade` are the
    /// protocols it asks for.
    pub(in crate::upstream) fn begin(
        mut wire: Box<Wire>,
        method: &Method,
        upgrade: Option<&HeaderValue>,
        upload: Upload,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        wire.begin();
        write(&mut wire.output.front);
        let sending = Sending::begin(method, upload, &mut wire.output);
        let busy = Busy { wire, sending, broken: None };
        Self { busy, reader: HeadReader::new(upgrade.cloned()), to_head: *method == Method::HEAD }
    }

    /// Sends on, and reads until the head of the final response is there. `interim` sees those before it.
    pub(in crate::upstream) fn poll_head(
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
                        .map_or(UpstreamError::Closed, UpstreamError::Reset)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(UpstreamError::Reset(error))),
            }
        }
    }

    /// The reply; its body takes the connection along, and whatever is left of the upload.
    pub(in crate::upstream) fn reply(self, head: ResponseHead, lease: Lease) -> Reply {
        if head.switches() {
            return Reply { head: head.parts, body: ReplyBody::switched(self.busy) };
        }
        let ResponseHead { parts, decoder, reusable, rest } = head;
        let lease = reusable.then_some((lease, rest));
        Reply { head: parts, body: ReplyBody::new(self.busy, decoder, lease) }
    }

    /// What is left when it failed.
    pub(in crate::upstream) fn fail(self, error: UpstreamError) -> Failed {
        let ended = matches!(error, UpstreamError::Closed | UpstreamError::Reset(_));
        let Busy { mut wire, sending, .. } = self.busy;
        let silent = ended && wire.input.is_empty() && !self.reader.is_begun();
        let (unsent, intact) = match ended {
            true if wire.output.is_untouched() => (sending.take_back(&mut wire.output), None),
            true => (None, sending.intact()),
            false => (None, None),
        };
        Failed { error, unsent, intact, silent }
    }
}
