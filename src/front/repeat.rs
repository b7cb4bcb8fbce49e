//! Calls with an Idempotency-Key: their fingerprints as they pass by, the answers that are kept of them, and what comes
//! again.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;

use super::proxy::{Call, Proxy};
use super::session;
use crate::gate::idempotency::Printer;
use crate::gate::settle::{Repeat, Repeated};
use crate::policy::head::Head;
use crate::policy::rejection::Rejection;
use crate::store::answers::{Claim, Fingerprint, Kept};
use crate::timer::Timer;
use crate::upstream::upload::UploadFault;
use crate::upstream::{Reply, ReplyBody, UpstreamError};

/// Longest body of a call that comes again, in bytes: it is read whole before it is known whether it is the same.
const REPEATED_MAX: usize = 1024 * 1024;

/// Longest answer that is kept, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Fields of an answer that are kept. Others speak of one answer only, or of one client.
const KEPT: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::LOCATION,
    header::ETAG,
    header::LAST_MODIFIED,
    header::LINK,
    header::CACHE_CONTROL,
];

/// The fingerprint of a request before its body.
pub(super) fn printer(head: &Head<'_>) -> Printer {
    let target = head.raw().uri.path_and_query().map_or("", |target| target.as_str());
    Printer::of(head.raw().method, target)
}

pin_project! {
    /// A request body whose fingerprint is known once it has passed by whole.
    pub(super) struct Printed<B> {
        #[pin]
        body: B,
        printer: Option<Printer>,
        fingerprint: Arc<OnceLock<Fingerprint>>,
    }
}

impl<B> Printed<B> {
    pub(super) const fn new(body: B, printer: Printer, fingerprint: Arc<OnceLock<Fingerprint>>) -> Self {
        Self { body, printer: Some(printer), fingerprint }
    }
}

impl<B: Body<Data = Bytes>> Body for Printed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let polled = std::task::ready!(this.body.as_mut().poll_frame(context));
        if let Some((printer, data)) = this.printer.as_mut().zip(polled.as_ref().and_then(|frame| frame.as_ref().ok()))
            && let Some(data) = data.data_ref()
        {
            printer.body(data);
        }
        // Who knows the length does not ask for an end.
        if (polled.is_none() || this.body.is_end_stream())
            && let Some(printer) = this.printer.take()
        {
            _ = this.fingerprint.set(printer.finish());
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Call<'_> {
    /// Finds out whether a call is the one that its key stands for, and what becomes of it then. Gives its body, too.
    ///
    /// # Errors
    /// What [`Gate::repeat`](crate::gate::Gate::repeat) refuses with, and `request-too-large`, `request-timeout`,
    /// `request-malformed` for the body.
    pub(super) async fn again<'s, 'g, B>(
        &mut self,
        proxy: &'g Proxy,
        head: &Head<'_>,
        repeat: Repeat<'s, 'g>,
        body: B,
    ) -> Result<(Repeated<'s, 'g>, Bytes), Rejection>
    where
        B: Body<Data = Bytes, Error = UploadFault>,
    {
        let live = &self.scope.prepared.snapshot;
        let patience = live.limits.body_timeout;
        let body = session::read(body, REPEATED_MAX, &proxy.timer, patience).await?;
        self.now = proxy.gate.clock().now();
        let mut printer = printer(head);
        printer.body(&body);
        let fingerprint = printer.finish();
        let repeated = proxy.gate.repeat(live, repeat, fingerprint, self.now.steady, &mut self.known).await?;
        Ok((repeated, body))
    }
}

/// Keeps an answer before it goes on: who comes again after the connection broke must find it. One that is too long, has
/// trailers or comes too slowly goes on without being kept.
///
/// # Errors
/// The answer breaks off.
pub(super) async fn keep(
    reply: Reply,
    claim: Claim<'_>,
    timer: &Timer,
    stall: Option<Duration>,
) -> Result<Reply, UpstreamError> {
    let Reply { head, mut body } = reply;
    let (mut ahead, mut whole) = (VecDeque::new(), BytesMut::new());
    let is_stream =
        head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let fits = !is_stream && body.size_hint().lower() <= ANSWER_MAX as u64;
    while fits && !body.is_end_stream() {
        let next = match stall {
            None => body.frame().await,
            Some(stall) => match timer.timeout(stall, pin!(body.frame())).await {
                Ok(next) => next,
                Err(_) => return Ok(Reply { head, body: ReplyBody::after(ahead, body) }),
            },
        };
        let Some(frame) = next.transpose()? else { break };
        let data = frame.data_ref().cloned();
        ahead.push_back(frame);
        match data {
            Some(data) if whole.len() + data.len() <= ANSWER_MAX => whole.extend_from_slice(&data),
            _ => return Ok(Reply { head, body: ReplyBody::after(ahead, body) }),
        }
    }
    if fits {
        claim.keep(Kept { status: head.status, fields: kept_fields(&head.headers), body: whole.freeze() });
    }
    Ok(Reply { head, body: ReplyBody::after(ahead, body) })
}

fn kept_fields(fields: &HeaderMap) -> Vec<(HeaderName, http::HeaderValue)> {
    let kept = fields.iter().filter(|(name, _)| KEPT.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
