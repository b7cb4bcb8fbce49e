//! The body of an answer. It carries the record of its call, so that the call is recorded when its last byte has left
//! or the client has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::pace::{Pace, Pause};
use super::prepared::Prepared;
use super::response::{self, Dialect};
use super::tunnel::{self, Tunnel};
use super::watch::{self, LOOK};
use crate::policy::rejection::Rejection;
use crate::telemetry::record::{CallRecord, EndedBy};
use crate::upstream::upload::Progress;
use crate::upstream::{ReplyBody, UpstreamError};

/// An answer that breaks off; the client must not take what it got for the whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The upstream's answer broke off.
    #[error("the upstream broke its answer off")]
    Upstream(#[source] UpstreamError),
    /// The token or the session ended under a long-lived stream. A new call would be refused with this.
    #[error("the token or the session of this stream has ended")]
    Ended(Rejection),
}

impl AnswerError {
    /// What the client would have been told instead of an answer.
    const fn rejection(&self) -> Rejection {
        match self {
            Self::Upstream(error) => error.rejection(),
            Self::Ended(rejection) => *rejection,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    record: Box<CallRecord>,
    upload: Option<Arc<Progress>>,
    /// Told at the next poll.
    failed: Option<AnswerError>,
}

#[derive(Debug)]
enum Content {
    /// From the gateway itself.
    Own(Option<Bytes>),
    /// From an upstream.
    Streamed { body: ReplyBody, prepared: Arc<Prepared>, dialect: Dialect, pace: Pace, pause: Option<Box<Pause>> },
    /// None: what follows the head is not HTTP.
    Tunnel(Box<Tunnel>),
}

impl Answer {
    /// An answer of the gateway's own.
    pub(super) fn own(bytes: Bytes, record: Box<CallRecord>) -> Self {
        let mut answer = Self {
            content: Content::Own(Some(bytes).filter(|bytes| !bytes.is_empty())),
            record,
            upload: None,
            failed: None,
        };
        if answer.is_end_stream() {
            answer.complete();
        }
        answer
    }

    /// An answer that streams from an upstream. It ends when the token or the session of its call does. `dialect` is that
    /// of the answer: one that breaks off says why if its trailers can.
    pub(super) fn streamed(
        body: ReplyBody,
        prepared: Arc<Prepared>,
        dialect: Dialect,
        record: Box<CallRecord>,
        upload: Option<Arc<Progress>>,
        pace: Pace,
    ) -> Self {
        let content = Content::Streamed { body, prepared, dialect, pace, pause: None };
        let mut answer = Self { content, record, upload, failed: None };
        // The server does not poll a body that has ended: 204, 304, HEAD.
        if answer.is_end_stream() {
            answer.complete();
        }
        answer
    }

    /// A `101`, and what goes on behind it.
    pub(super) fn switched(tunnel: Box<Tunnel>, record: Box<CallRecord>) -> Self {
        Self { content: Content::Tunnel(tunnel), record, upload: None, failed: None }
    }

    /// Goes on after a `101`, of which this is the body: carries bytes between the client and the upstream until both have
    /// ended, one has broken off, or the token or the session ends. `early` was read of the client already.
    ///
    /// False if the client must not take what it got for the whole.
    pub async fn tunnel<T>(mut self, client: &mut T, early: Vec<u8>) -> bool
    where
        T: AsyncRead + AsyncWrite + Unpin + ?Sized,
    {
        let Content::Tunnel(tunnel) = std::mem::replace(&mut self.content, Content::Own(None)) else { return true };
        // So that a drain, which drops this, is told apart from a client that leaves.
        self.record.ended_by = EndedBy::Gate;
        let tunnel::Ended { whole, by } = tunnel.run(client, early, &mut self.record).await;
        self.record.ended_by = by;
        whole
    }

    /// The last byte was taken: nobody left early.
    const fn complete(&mut self) {
        self.record.ended_by = EndedBy::Gate;
    }
}

impl Answer {
    /// Breaks the answer off, but not at once: hyper drops what it has not sent yet when a body fails, and the client
    /// would not even see that there was an answer. That of a gRPC call ends with a status instead.
    fn fail(&mut self, error: AnswerError, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Content::Streamed { prepared, dialect: Dialect::Grpc, .. } = &self.content {
            let trailers = response::last_word(prepared, error.rejection(), &self.record);
            self.content = Content::Own(None);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        self.failed = Some(error);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = &mut *self;
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match &mut this.content {
            Content::Own(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Tunnel(_) => None,
            Content::Streamed { body, prepared, pace, pause, .. } => match Pin::new(body).poll_frame(context) {
                Poll::Pending => {
                    let pause = pause.get_or_insert_with(|| Pause::begin(&this.record, prepared));
                    let Poll::Ready(ended) = pause.poll_end(pace, &this.record, this.upload.as_deref(), context) else {
                        return Poll::Pending;
                    };
                    this.record.ended_by = match &ended {
                        AnswerError::Upstream(error) => {
                            this.record.upstream_failed(error.kind());
                            EndedBy::Upstream
                        }
                        AnswerError::Ended(_) => EndedBy::Gate,
                    };
                    return this.fail(ended, context);
                }
                Poll::Ready(Some(Ok(mut frame))) => {
                    if let Some(trailers) = frame.trailers_mut() {
                        response::clean(trailers, &prepared.snapshot.names);
                    }
                    // One that never pauses would never be looked after. The first part of an answer costs nothing here.
                    let record = &mut this.record;
                    if let Some(pause) = pause {
                        pause.over();
                    }
                    if pace.total.is_some_and(|total| record.elapsed() >= total) {
                        record.upstream_failed(UpstreamError::TotalTimeout.kind());
                        record.ended_by = EndedBy::Upstream;
                        return this.fail(AnswerError::Upstream(UpstreamError::TotalTimeout), context);
                    }
                    let is_long = record.bytes_out > 0 && record.elapsed() >= LOOK;
                    if is_long && let Some(why) = watch::refusal(record, prepared) {
                        record.ended_by = EndedBy::Gate;
                        return this.fail(AnswerError::Ended(why), context);
                    }
                    Some(Ok(frame))
                }
                Poll::Ready(Some(Err(error))) => {
                    this.record.upstream_failed(error.kind());
                    Some(Err(AnswerError::Upstream(error)))
                }
                Poll::Ready(None) => None,
            },
        };
        match frame {
            None => {
                this.complete();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                // What the client did not send whole the upstream could not answer whole.
                if !matches!(error, AnswerError::Upstream(UpstreamError::Upload(_))) {
                    this.record.ended_by = EndedBy::Upstream;
                }
                this.fail(error, context)
            }
            Some(Ok(frame)) => {
                this.record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Tunnel(_) => true,
            Content::Streamed { body, .. } => body.is_end_stream() && self.failed.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Tunnel(_) => SizeHint::with_exact(0),
            Content::Streamed { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            self.record.bytes_in = upload.bytes();
        }
    }
}
