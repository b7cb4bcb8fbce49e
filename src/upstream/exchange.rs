//! One call on one connection, whatever that speaks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};

use super::upload::Upload;
use super::{Reply, Upgraded, UpstreamError, h1, h2};

/// A request that waits for its response.
pub(super) trait Exchange {
    /// The head of a response and what follows from it.
    type Head;

    /// Sends on, and reads until the head of the final response is there. `interim` sees those before it.
    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        interim: impl Fn(&Parts),
    ) -> Poll<Result<Self::Head, UpstreamError>>;

    /// The reply; its body takes the connection along, and whatever is left of the upload.
    fn reply(self, head: Self::Head) -> Reply;

    /// What is left when it failed.
    fn fail(self, error: UpstreamError) -> Failed;
}

/// Why an exchange has no response, and what may be done about it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: UpstreamError,
    pub(super) left: Left,
    /// Whether the connection ended without a byte of a response: what a resting connection looks like that the upstream
    /// closed just then.
    pub(super) silent: bool,
}

/// What a failed exchange leaves of its request.
#[derive(Debug)]
pub(super) enum Left {
    /// Nothing that could be sent again.
    Nothing,
    /// The whole of it: not a byte was sent.
    Unsent(Upload),
    /// The whole of it: the upstream says that it did not process it.
    Refused(Upload),
    /// The body, nothing of which was taken from the client. What became of the head is not known.
    Intact(Upload),
}

/// The body of a reply. Dropped before its end it cancels the call at the upstream.
#[derive(Debug)]
pub struct ReplyBody(Kind);

#[derive(Debug)]
enum Kind {
    H1(h1::ReplyBody),
    // Boxed, so that it does not make the other larger.
    H2(Box<h2::ReplyBody>),
    Tunnel(Box<h2::Upgraded>),
    After(Box<(VecDeque<Frame<Bytes>>, ReplyBody)>),
}

impl ReplyBody {
    pub(super) const fn h1(body: h1::ReplyBody) -> Self {
        Self(Kind::H1(body))
    }

    pub(super) fn h2(body: h2::ReplyBody) -> Self {
        Self(Kind::H2(Box::new(body)))
    }

    /// What follows the agreement to an extended CONNECT.
    pub(super) fn tunnel(stream: h2::Upgraded) -> Self {
        Self(Kind::Tunnel(Box::new(stream)))
    }

    /// What was read ahead, and then the rest.
    #[must_use]
    pub fn after(ahead: VecDeque<Frame<Bytes>>, rest: Self) -> Self {
        if ahead.is_empty() { rest } else { Self(Kind::After(Box::new((ahead, rest)))) }
    }

    /// What follows a `101`: nothing of it was HTTP after that.
    #[must_use]
    pub fn into_upgraded(self) -> Option<Upgraded> {
        match self.0 {
            Kind::H1(body) => body.into_upgraded().map(Upgraded::from),
            Kind::H2(_) | Kind::After(_) => None,
            Kind::Tunnel(stream) => Some(stream.into()),
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
        match &mut self.0 {
            Kind::H1(body) => Pin::new(body).poll_frame(context),
            Kind::H2(body) => Pin::new(body).poll_frame(context),
            Kind::Tunnel(_) => Poll::Ready(None),
            Kind::After(after) => match after.0.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => Pin::new(&mut after.1).poll_frame(context),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::H1(body) => body.is_end_stream(),
            Kind::H2(body) => body.is_end_stream(),
            Kind::Tunnel(_) => true,
            Kind::After(after) => after.0.is_empty() && after.1.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::H1(body) => body.size_hint(),
            Kind::H2(body) => body.size_hint(),
            Kind::Tunnel(_) => SizeHint::with_exact(0),
            Kind::After(after) => {
                let ahead = after.0.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
                after.1.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead))
            }
        }
    }
}
