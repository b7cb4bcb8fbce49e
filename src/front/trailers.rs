//! The trailers of a request on their way to an upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::prepared::Prepared;
use crate::policy::fields::{FieldNames, Role};

pin_project! {
    /// A request body whose trailers go on only as far as they would go on as fields: an upstream may merge the two.
    ///
    /// Not `map_frame`: that forgets how long the body is, and the upstream would get it in chunks.
    pub(super) struct Filtered<B> {
        #[pin]
        body: B,
        prepared: Arc<Prepared>,
    }
}

impl<B> Filtered<B> {
    pub(super) const fn new(body: B, prepared: Arc<Prepared>) -> Self {
        Self { body, prepared }
    }
}

impl<B: Body<Data = Bytes>> Body for Filtered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let mut polled = this.body.poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            filter(trailers, &this.prepared.snapshot.names);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn filter(trailers: &mut HeaderMap, names: &FieldNames) {
    let gone: Vec<_> = trailers.keys().filter(|name| names.role(name) != Role::Other).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_could_be_a_forwarded_field_stays() {
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "grpc-status", "session-id", "client-id", "x-sg-subject", "x-forwarded-for", "connection"]
        {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        filter(&mut trailers, &FieldNames::default());
        let mut left: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-sum"]);
    }
}
