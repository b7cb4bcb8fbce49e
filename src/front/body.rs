//! The body of an answer. It carries the record of its call, so that the call is recorded when its last byte has left
//! or the client has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Prepared;
use super::response;
use super::tunnel::{self, Tunnel};
use crate::gate::Gate;
use crate::policy::claims::Caller;
use crate::policy::session::{Ended, Session, Standing};
use crate::telemetry::record::{CallRecord, EndedBy};
use crate::timer::Deadline;
use crate::upstream::upload::Progress;
use crate::upstream::{ReplyBody, UpstreamError};

/// How often a stream that pauses looks whether its token or session has ended, and how old one that never pauses is when
/// it begins to look at every part.
const LOOK: Duration = Duration::from_secs(1);

/// An answer that breaks off; the client must not take what it got for the whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The upstream's answer broke off.
    #[error("the upstream broke its answer off")]
    Upstream(#[source] UpstreamError),
    /// The token or the session ended under a long-lived stream.
    #[error("the token or the session of this stream has ended")]
    Ended,
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
    Streamed { body: ReplyBody, prepared: Arc<Prepared>, pace: Pace, pause: Option<Box<Pause>> },
    /// None: what follows the head is not HTTP.
    Tunnel(Box<Tunnel>),
}

/// How fast an upstream must answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Longest time between two bytes of the body.
    pub(super) stall: Option<Duration>,
    /// Longest time from the beginning of the call to the last byte.
    pub(super) total: Option<Duration>,
}

impl Pace {
    /// What is too late at this moment; `paused` is how long no byte has come.
    fn late(&self, paused: Duration, whole: Duration) -> Option<UpstreamError> {
        if self.total.is_some_and(|total| whole >= total) {
            return Some(UpstreamError::TotalTimeout);
        }
        self.stall.is_some_and(|stall| paused >= stall).then_some(UpstreamError::Stalled)
    }

    /// When to look next.
    fn next(&self, paused: Duration, whole: Duration) -> Duration {
        let left = |limit: Option<Duration>, passed| limit.map_or(LOOK, |limit| limit.saturating_sub(passed));
        LOOK.min(left(self.stall, paused)).min(left(self.total, whole))
    }
}

/// Looks after an answer that has paused.
#[derive(Debug)]
struct Pause {
    /// When it began; none: the answer moves.
    began: Option<Instant>,
    /// Runs on while the answer moves: setting it at every part would cost more than a look too many.
    deadline: Deadline,
    armed: bool,
    /// Bytes of the request body when it was looked at last.
    sent: u64,
    watch: Option<Watch>,
}

/// What a stream needs to know when it must end.
#[derive(Debug)]
struct Keeper {
    gate: Arc<Gate>,
    session: Arc<Session>,
    caller: Arc<Caller>,
}

/// Looks after a stream that has paused.
#[derive(Debug)]
pub(super) struct Watch {
    keeper: Keeper,
    deadline: Deadline,
    ended: Ended,
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

    /// An answer that streams from an upstream. It ends when the token or the session of its call does.
    pub(super) fn streamed(
        body: ReplyBody,
        prepared: Arc<Prepared>,
        record: Box<CallRecord>,
        upload: Option<Arc<Progress>>,
        pace: Pace,
    ) -> Self {
        let content = Content::Streamed { body, prepared, pace, pause: None };
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
    /// would not even see that there was an answer.
    fn fail(&mut self, error: AnswerError, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.failed = Some(error);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Keeper {
    /// The keeper of a call with a session; exempt calls have none.
    fn of(record: &CallRecord, prepared: &Prepared) -> Option<Self> {
        let (session, caller) = (Arc::clone(record.session.as_ref()?), Arc::clone(record.caller.as_ref()?));
        Some(Self { gate: Arc::clone(&prepared.gate), session, caller })
    }

    fn must_end(&self) -> bool {
        let now = self.gate.clock().now();
        self.caller.usable_until() <= now.wall || !matches!(self.session.standing(now.steady), Standing::Live)
    }
}

impl Watch {
    /// A watch over a call; none if it has no session.
    pub(super) fn over(record: &CallRecord, prepared: &Prepared) -> Option<Self> {
        let keeper = Keeper::of(record, prepared)?;
        let (mut deadline, ended) = (prepared.timer.deadline(), Arc::clone(&keeper.session).ended());
        deadline.reset(LOOK);
        Some(Self { keeper, deadline, ended })
    }

    /// Whether the stream must end. Only one that has paused for a while is looked after, so that the short ones pay
    /// nothing.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.deadline.poll_elapsed(context).is_ready() {
            // From here on the end of the session wakes the stream at once.
            if Pin::new(&mut self.ended).poll(context).is_ready() || self.keeper.must_end() {
                return Poll::Ready(());
            }
            self.deadline.reset(LOOK);
        }
        let ended = matches!(self.keeper.session.settled_standing(), Standing::Ended(_));
        if ended { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Pause {
    fn begin(record: &CallRecord, prepared: &Prepared) -> Box<Self> {
        let deadline = prepared.timer.deadline();
        Box::new(Self { began: None, deadline, armed: false, sent: 0, watch: Watch::over(record, prepared) })
    }

    /// A byte has come.
    const fn over(&mut self) {
        self.began = None;
    }

    /// Why the answer must break off, if it must: it is late, or the stream has ended.
    fn poll_end(
        &mut self,
        pace: &Pace,
        record: &CallRecord,
        upload: Option<&Progress>,
        context: &mut Context<'_>,
    ) -> Poll<AnswerError> {
        // An upstream may wait for the rest of the request: that is no pause of its own.
        if let Some(upload) = upload.filter(|upload| upload.is_waiting() || upload.bytes() != self.sent) {
            self.sent = upload.bytes();
            self.began = None;
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        if !self.armed {
            self.armed = true;
            self.deadline.reset(pace.next(Duration::ZERO, record.elapsed()));
        }
        while self.deadline.poll_elapsed(context).is_ready() {
            let (paused, whole) = (began.elapsed(), record.elapsed());
            if let Some(error) = pace.late(paused, whole) {
                return Poll::Ready(AnswerError::Upstream(error));
            }
            self.deadline.reset(pace.next(paused, whole));
        }
        match &mut self.watch {
            Some(watch) => watch.poll_end(context).map(|()| AnswerError::Ended),
            None => Poll::Pending,
        }
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
            Content::Streamed { body, prepared, pace, pause } => match Pin::new(body).poll_frame(context) {
                Poll::Pending => {
                    let pause = pause.get_or_insert_with(|| Pause::begin(&this.record, prepared));
                    let ended = match pause.poll_end(pace, &this.record, this.upload.as_deref(), context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(ended) => ended,
                    };
                    this.record.ended_by = match &ended {
                        AnswerError::Upstream(error) => {
                            this.record.upstream_failed(error.kind());
                            EndedBy::Upstream
                        }
                        AnswerError::Ended => EndedBy::Gate,
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
                    if is_long && Keeper::of(record, prepared).is_some_and(|keeper| keeper.must_end()) {
                        record.ended_by = EndedBy::Gate;
                        return this.fail(AnswerError::Ended, context);
                    }
                    Some(Ok(frame))
                }
                Poll::Ready(Some(Err(error))) => Some(Err(AnswerError::Upstream(error))),
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
