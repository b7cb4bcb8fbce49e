//! The body of a request on its way to an upstream: counted, bounded, and never trusted to arrive.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use crate::policy::rejection::Rejection;
use crate::timer::{Deadline, Timer};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with the body of a request, on the client's side. The upstream must not take what it got for the
/// whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UploadFault {
    /// It does not follow its framing.
    #[error("the request body is malformed")]
    Malformed,
    /// No byte came for too long.
    #[error("the client stopped sending the request body")]
    Stalled,
    /// The client closed the connection or reset the stream.
    #[error("the client went away before the end of the request body")]
    Gone,
    /// It is longer than the route allows.
    #[error("the request body is longer than allowed")]
    TooLarge,
}

impl UploadFault {
    /// The answer it deserves; none if nobody is left to read one.
    #[must_use]
    pub const fn rejection(self) -> Option<Rejection> {
        match self {
            Self::Malformed => Some(Rejection::RequestMalformed),
            Self::Stalled => Some(Rejection::RequestTimeout),
            Self::Gone => None,
            Self::TooLarge => Some(Rejection::BodyTooLarge),
        }
    }
}

/// What the rest of a call can see of its upload while the connection sends it.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    waiting: AtomicBool,
}

impl Progress {
    /// Bytes taken from the client so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it is the client that is waited for: it has more to send. How long it may pause is not for the upstream's
    /// time-outs to say.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// How long a client may keep us waiting for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest pause.
    pub stall: Duration,
    /// Fewest bytes per second of waiting, after [`GRACE`]; none: any.
    pub rate: Option<NonZeroU64>,
}

/// Waiting after which a slow body is too slow.
pub const GRACE: Duration = Duration::from_secs(5);

/// The body of an upstream request.
pub enum Upload {
    /// There is none.
    Empty,
    /// It comes from the client.
    Stream(Box<Stream>),
}

/// A body that comes from the client.
pub struct Stream {
    body: UnsyncBoxBody<Bytes, UploadFault>,
    /// Taken from the body, and given back unsent.
    again: Bytes,
    limit: u64,
    patience: Patience,
    /// How long we have waited for the client, and since when we do.
    waited: Duration,
    since: Option<Instant>,
    deadline: Deadline,
    progress: Arc<Progress>,
}

impl Upload {
    /// A body of at most `limit` bytes that is waited for with `patience`.
    pub fn stream(
        body: UnsyncBoxBody<Bytes, UploadFault>,
        limit: Option<u64>,
        patience: Patience,
        timer: &Timer,
    ) -> Self {
        let (deadline, progress) = (timer.deadline(), Arc::default());
        let limit = limit.unwrap_or(u64::MAX);
        Self::Stream(Box::new(Stream {
            body,
            again: Bytes::new(),
            limit,
            patience,
            waited: Duration::ZERO,
            since: None,
            deadline,
            progress,
        }))
    }

    /// Its progress; none if there is no body.
    #[must_use]
    pub fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Stream(stream) => Some(Arc::clone(&stream.progress)),
        }
    }

    /// Puts back the piece that was taken last, because it was not sent.
    pub(super) fn put_back(&mut self, data: Bytes) {
        if let Self::Stream(stream) = self {
            stream.again = data;
        }
    }

    /// Whether there is no body.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Stream {
    /// How long the client may pause now, which begins to be counted.
    fn longest_pause(&mut self) -> Duration {
        let Patience { stall, rate } = self.patience;
        let Some(rate) = rate else { return stall };
        self.since = Some(Instant::now());
        let earned = self.progress.bytes().saturating_mul(1000) / rate;
        let allowed = GRACE.saturating_add(Duration::from_millis(earned));
        stall.min(allowed.saturating_sub(self.waited))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        if !self.again.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.again)))));
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                self.progress.waiting.store(true, Ordering::Relaxed);
                // The deadline runs only while we wait for the client, not while the upstream is slow to take.
                if self.deadline.is_set() {
                    return if self.deadline.poll_elapsed(context).is_ready() {
                        Poll::Ready(Some(Err(UploadFault::Stalled)))
                    } else {
                        Poll::Pending
                    };
                }
                let pause = self.longest_pause();
                self.deadline.reset(pause);
                _ = self.deadline.poll_elapsed(context);
                Poll::Pending
            }
            Poll::Ready(frame) => {
                self.progress.waiting.store(false, Ordering::Relaxed);
                self.deadline.clear();
                if let Some(since) = self.since.take() {
                    self.waited += since.elapsed();
                }
                match frame {
                    None => Poll::Ready(None),
                    Some(Err(fault)) => Poll::Ready(Some(Err(fault))),
                    Some(Ok(frame)) => {
                        let more = frame.data_ref().map_or(0, |data| data.len() as u64);
                        let total = self.progress.bytes.fetch_add(more, Ordering::Relaxed) + more;
                        if total > self.limit {
                            return Poll::Ready(Some(Err(UploadFault::TooLarge)));
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_empty() { "Empty" } else { "Stream" })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(stream) => stream.again.is_empty() && stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(stream) if stream.again.is_empty() => stream.body.size_hint(),
            Self::Stream(stream) => {
                let (rest, again) = (stream.body.size_hint().exact(), stream.again.len() as u64);
                rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + again))
            }
        }
    }
}
