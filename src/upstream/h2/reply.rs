//! The body of a response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use super::exchange::Head;
use super::link::Slot;
use super::sending::{Sending, allowed};
use super::{checked, failure};
use crate::upstream::UpstreamError;
use crate::upstream::upload::UploadFault;

/// What a response holds of its call until it has ended.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) sending: Sending,
    pub(super) _slot: Slot,
}

/// The body of a reply. Dropped before its end it resets the stream (CANCEL); the connection goes on.
#[derive(Debug)]
pub(in crate::upstream) struct ReplyBody {
    /// The stream and the call, until the body has ended.
    stream: Option<(RecvStream, Live)>,
    /// Given away, and not yet asked of the upstream again.
    unreleased: usize,
    /// What is left of the announced length; the `h2` crate holds the upstream to it.
    left: Option<u64>,
    /// The client does not deliver the rest of the request.
    fault: Option<UploadFault>,
}

impl ReplyBody {
    /// The head as it goes on, and the body that belongs to it.
    pub(super) fn new(head: Head, to_head: bool, live: Live) -> (Parts, Self) {
        let Head { parts: mut head, body: stream, length } = head;
        let bodiless = to_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(header::CONTENT_LENGTH);
        } else if let Some(length) = length {
            // Written twice, it would be read twice.
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let ended = bodiless || stream.is_end_stream();
        let left = if ended { Some(0) } else { length };
        let stream = (!ended).then_some((stream, live));
        (head, Self { stream, unreleased: 0, left, fault: None })
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let Some((stream, live)) = &mut self.stream else { return Poll::Ready(None) };
        if self.fault.is_none()
            && let Poll::Ready(Err(fault)) = live.sending.poll(context)
        {
            self.fault = Some(fault);
        }
        if self.unreleased > 0 {
            // The client has taken it, or there would be no asking for more.
            _ = stream.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
        }
        match stream.poll_data(context) {
            Poll::Ready(Some(Ok(data))) => {
                self.unreleased = data.len();
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                if stream.is_end_stream() {
                    self.stream = None;
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(self.failed(error)))),
            Poll::Ready(None) => {}
            // An upstream that waits for the rest of the request would wait for ever.
            Poll::Pending => {
                return self.fault.map_or(Poll::Pending, |fault| Poll::Ready(Some(Err(UpstreamError::Upload(fault)))));
            }
        }
        match ready!(stream.poll_trailers(context)) {
            Err(error) => Poll::Ready(Some(Err(self.failed(error)))),
            Ok(trailers) => {
                self.stream = None;
                trailers.as_ref().map_or(Ok(()), checked)?;
                let trailers = trailers.map(allowed).filter(|trailers| !trailers.is_empty());
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    /// After an upload that failed, the reset of the stream is ours.
    fn failed(&self, error: h2::Error) -> UpstreamError {
        self.fault.map_or_else(|| failure(error), UpstreamError::Upload)
    }
}

/// The length that a head announces: plain digits, and one number however often. The `h2` crate looks at the first only, and
/// at none of an answer to HEAD.
pub(super) fn length(fields: &HeaderMap) -> Result<Option<u64>, UpstreamError> {
    let mut length = None;
    for value in fields.get_all(header::CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let plain = !digits.is_empty() && digits.len() < 20 && digits.iter().all(u8::is_ascii_digit);
        let number = value.to_str().ok().filter(|_| plain).and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or(UpstreamError::Malformed("a length"))?;
        if length.is_some_and(|before| before != number) {
            return Err(UpstreamError::Malformed("two lengths"));
        }
        length = Some(number);
    }
    Ok(length)
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
            self.stream = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_one_number_in_plain_digits() {
        for (values, expected) in [
            (&[][..], Some(None)),
            (&["5"], Some(Some(5))),
            (&["5", "5"], Some(Some(5))),
            (&["5", "05"], Some(Some(5))),
            (&["5", "6"], None),
            (&["+5"], None),
            (&["5, 5"], None),
            (&[""], None),
            (&["99999999999999999999"], None),
        ] {
            let mut fields = HeaderMap::new();
            values.iter().for_each(|value| _ = fields.append(header::CONTENT_LENGTH, HeaderValue::from_static(value)));
            assert_eq!(length(&fields).ok(), expected, "{values:?}");
        }
    }
}
