//! The body of a response. It holds the connection, and gives it back when its last byte was read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::decoder::{Decoded, Decoder};
use super::exchange::Busy;
use super::upgraded::Upgraded;
use crate::upstream::UpstreamError;
use crate::upstream::pool::Lease;
use crate::upstream::upload::UploadFault;

/// The body of a reply. Dropped before its end it closes the connection to the upstream.
#[derive(Debug)]
pub(in crate::upstream) struct ReplyBody {
    decoder: Decoder,
    /// The connection, until the body has ended.
    busy: Option<Busy>,
    /// Where the connection goes then, and how long it may rest there.
    lease: Option<(Lease, Option<Duration>)>,
    /// The client does not deliver the rest of the request.
    fault: Option<UploadFault>,
}

impl ReplyBody {
    pub(super) fn new(busy: Busy, decoder: Decoder, lease: Option<(Lease, Option<Duration>)>) -> Self {
        let mut body = Self { decoder, busy: Some(busy), lease, fault: None };
        // Nobody polls a body that is known to be empty.
        if body.decoder.is_done() {
            body.finish();
        }
        body
    }

    /// What follows a `101`.
    pub(super) const fn switched(busy: Busy) -> Self {
        Self { decoder: Decoder::Done, busy: Some(busy), lease: None, fault: None }
    }

    /// The connection, of the reply that is a `101`: nothing of it was HTTP after that.
    pub(in crate::upstream) fn into_upgraded(self) -> Option<Upgraded> {
        self.busy.map(|busy| Upgraded::new(busy.wire))
    }

    /// The last byte was read. The connection carries another call only if both messages ended where they should: a rest
    /// of the request, or a byte behind the response, would become part of the next ones.
    fn finish(&mut self) {
        let (Some(busy), Some((lease, rest))) = (self.busy.take(), self.lease.take()) else { return };
        if busy.is_sent() && busy.wire.input.is_empty() && self.fault.is_none() {
            lease.release(busy.wire, rest);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        loop {
            let Some(busy) = &mut self.busy else { return Poll::Ready(None) };
            if self.fault.is_none() {
                match busy.send_on(context) {
                    Ok(()) => {}
                    Err(UpstreamError::Upload(fault)) => self.fault = Some(fault),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            match self.decoder.decode(&mut busy.wire.input)? {
                Decoded::Frame(frame) => {
                    if self.decoder.is_done() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Decoded::End => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Decoded::More => {}
            }
            match busy.wire.poll_read(context) {
                // An upstream that waits for the rest of the request would wait for ever.
                Poll::Pending => {
                    return match self.fault {
                        Some(fault) => Poll::Ready(Some(Err(UpstreamError::Upload(fault)))),
                        None => Poll::Pending,
                    };
                }
                Poll::Ready(Ok(0)) => self.decoder.end()?,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(UpstreamError::broken(error)))),
            }
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let polled = self.poll(context);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            self.busy = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.busy.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }
}
