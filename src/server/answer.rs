//! The body of an answer, with the news that it has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::h1::link::Link;

pin_project! {
    /// The front's body as the HTTP server sees it. hyper drops it when it has taken all of it, or as much as it may
    /// send; there is no other sign of the end of an answer.
    pub(super) struct Answer<B> {
        #[pin]
        body: Option<B>,
        end: End,
    }
}

struct End {
    link: Option<Arc<Link>>,
}

impl<B> Answer<B> {
    pub(super) const fn new(body: B, link: Option<Arc<Link>>) -> Self {
        Self { body: Some(body), end: End { link } }
    }

    /// Of a `101`. It is no end: the next byte is not HTTP.
    pub(super) const fn switched() -> Self {
        Self { body: None, end: End { link: None } }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.end_answer();
        }
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
