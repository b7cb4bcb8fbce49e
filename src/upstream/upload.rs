//! The body of a request on its way to an upstream: counted, bounded, and never trusted to arrive.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use crate::timer::{Deadline, Timer};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with a body, on the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFault {
    /// It broke off, or its framing did.
    Broken,
    /// It is longer than the route allows.
    TooLarge,
    /// Nothing came for too long.
    Stalled,
}

/// What the rest of a call can see of its upload while the connection sends it.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    state: AtomicU8,
}

const DONE: u8 = 1;
const BROKEN: u8 = 2;
const TOO_LARGE: u8 = 3;
const STALLED: u8 = 4;

impl Progress {
    /// Bytes taken from the client so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the client has sent all of it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DONE
    }

    /// What went wrong on the client's side.
    #[must_use]
    pub fn fault(&self) -> Option<UploadFault> {
        match self.state.load(Ordering::Relaxed) {
            BROKEN => Some(UploadFault::Broken),
            TOO_LARGE => Some(UploadFault::TooLarge),
            STALLED => Some(UploadFault::Stalled),
            _ => None,
        }
    }
}

/// The body did not arrive as it should; the upstream must not take what it got for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body was not delivered whole")]
pub struct UploadFailed;

/// The body of an upstream request.
pub enum Upload {
    /// There is none.
    Empty,
    /// It comes from the client.
    Stream(Box<Stream>),
}

/// A body that comes from the client.
pub struct Stream {
    body: UnsyncBoxBody<Bytes, BoxError>,
    limit: u64,
    stall: Duration,
    deadline: Deadline,
    progress: Arc<Progress>,
}

impl Upload {
    /// A body of at most `limit` bytes that may pause for `stall`.
    pub fn stream(body: UnsyncBoxBody<Bytes, BoxError>, limit: Option<u64>, stall: Duration, timer: &Timer) -> Self {
        let (deadline, progress) = (timer.deadline(), Arc::default());
        Self::Stream(Box::new(Stream { body, limit: limit.unwrap_or(u64::MAX), stall, deadline, progress }))
    }

    /// Its progress; none if there is no body.
    #[must_use]
    pub fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Stream(stream) => Some(Arc::clone(&stream.progress)),
        }
    }

    /// Whether there is no body.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Stream {
    fn fail(&self, state: u8) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        self.progress.state.store(state, Ordering::Relaxed);
        Poll::Ready(Some(Err(UploadFailed)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                // The deadline runs only while we wait for the client, not while the upstream is slow to take.
                if self.deadline.is_set() {
                    return if self.deadline.poll_elapsed(context).is_ready() {
                        self.fail(STALLED)
                    } else {
                        Poll::Pending
                    };
                }
                self.deadline.reset(self.stall);
                _ = self.deadline.poll_elapsed(context);
                Poll::Pending
            }
            Poll::Ready(frame) => {
                self.deadline.clear();
                match frame {
                    None => {
                        self.progress.state.store(DONE, Ordering::Relaxed);
                        Poll::Ready(None)
                    }
                    Some(Err(_)) => self.fail(BROKEN),
                    Some(Ok(frame)) => {
                        let more = frame.data_ref().map_or(0, |data| data.len() as u64);
                        let total = self.progress.bytes.fetch_add(more, Ordering::Relaxed) + more;
                        if total > self.limit {
                            return self.fail(TOO_LARGE);
                        }
                        if self.body.is_end_stream() {
                            self.progress.state.store(DONE, Ordering::Relaxed);
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                }
            }
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(stream) => stream.body.size_hint(),
        }
    }
}
