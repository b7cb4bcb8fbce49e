//! The body of a request as the front sees it.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::flood::Budget;
use super::h1::link::Link;
use crate::policy::fields::is_padded;
use crate::upstream::upload::UploadFault;

/// Bytes of an unread body that are read and thrown away so that its connection can carry another request.
pub(super) const LEFT_BYTES: u64 = 64 * 1024;

/// A request body, streamed.
///
/// It may be dropped at any point. Over HTTP/1 the connection then reads and discards the rest, up to 64 KiB and for up
/// to a second, so that the next request can be served; a longer rest closes the connection after the answer, and the
/// answer says so. No byte of it is ever taken for a request (CVE-2025-4366). Over HTTP/2 only the stream ends.
///
/// The default is an empty body.
#[derive(Debug, Default)]
pub struct RequestBody {
    incoming: Option<Incoming>,
    /// Where the rest goes. `None` over HTTP/2 and for empty bodies.
    link: Option<Arc<Link>>,
    /// The client waits for `100 Continue` (RFC 9110 section 10.1.1) and was not told to go on.
    held_back: bool,
    /// What the connection may receive without progress of a call. `None` over HTTP/1.
    budget: Option<Budget>,
}

/// What hyper's error is about: ours comes back in the chain of its causes.
fn classify(error: &hyper::Error) -> UploadFault {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let ours = io.get_ref().and_then(|inner| inner.downcast_ref::<UploadFault>());
            return match (ours, io.kind()) {
                (Some(ours), _) => *ours,
                // hyper's own reading of the chunks, should it be stricter than ours one day.
                (None, io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => UploadFault::Malformed,
                (None, _) => UploadFault::Gone,
            };
        }
        cause = error.source();
    }
    UploadFault::Gone
}

impl RequestBody {
    /// A body over HTTP/1.
    pub(super) fn linked(incoming: Incoming, link: &Arc<Link>, held_back: bool) -> Self {
        let link = (!incoming.is_end_stream()).then(|| Arc::clone(link));
        Self { incoming: Some(incoming), link, held_back, budget: None }
    }

    /// A body over HTTP/2, where a stream can end without harm to the others.
    pub(super) const fn stream(incoming: Incoming, budget: Budget) -> Self {
        Self { incoming: Some(incoming), link: None, held_back: false, budget: Some(budget) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                let error = classify(&error);
                self.incoming = None;
                if let Some(link) = &self.link {
                    link.close_after_answer();
                }
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.held_back = false;
                if self.budget.is_some() && frame.trailers_ref().is_some_and(|fields| fields.values().any(is_padded)) {
                    self.incoming = None;
                    return Poll::Ready(Some(Err(UploadFault::Malformed)));
                }
                // Empty frames are no progress.
                if let Some(budget) =
                    self.budget.as_ref().filter(|_| frame.data_ref().is_none_or(|data| !data.is_empty()))
                {
                    budget.fill();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.incoming = None;
                Poll::Ready(None)
            }
            // hyper writes the `100 Continue` as soon as somebody wants the body.
            Poll::Pending => {
                self.held_back = false;
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let (Some(link), Some(incoming)) = (self.link.take(), self.incoming.take()) else { return };
        if incoming.is_end_stream() {
            return;
        }
        // Asking a client that waits for `100 Continue` for its body would tell it to send what nobody wants.
        if self.held_back || incoming.size_hint().lower() > LEFT_BYTES {
            link.close_after_answer();
        } else {
            link.leave(incoming);
        }
    }
}
