//! An admitted call on its way to an upstream, and the answer on its way back.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderValue, Response, Version, header};
use http_body::Body;
use http_body_util::BodyExt;

use super::body::Answer;
use super::connection::Scope;
use super::pace::Pace;
use super::proxy::{Call, Proxy};
use super::rates;
use super::repeat;
use super::response::{self, Dialect};
use super::switch::{self, Switch};
use super::trailers::Filtered;
use super::watch::Vigil;
use super::websocket::Key;
use crate::config::Snapshot;
use crate::gate::settle::Hold;
use crate::policy::call::Passage;
use crate::policy::flow::Outcome;
use crate::policy::head::Head;
use crate::policy::ids::SessionId;
use crate::policy::rejection::Rejection;
use crate::policy::route::ForwardAuthorization;
use crate::policy::session::Session;
use crate::policy::time::Now;
use crate::policy::violation::Field;
use crate::telemetry::record::CallRecord;
use crate::upstream::forward::{CallIds, Interim, Outgoing};
use crate::upstream::upload::{Patience, Progress, Upload, UploadFault};
use crate::upstream::{Repeat, Reply, UpstreamError};

impl Call<'_> {
    /// Sends a call on and makes an answer of what comes of it.
    pub(super) async fn forward<B>(
        mut self,
        proxy: &Proxy,
        head: &Head<'_>,
        passage: Passage<'_>,
        hold: Option<Hold<'_>>,
        body: B,
        mut record: Box<CallRecord>,
    ) -> Response<Answer>
    where
        B: Body<Data = Bytes, Error = UploadFault> + Send + 'static,
    {
        let Scope { prepared, edge, .. } = self.scope;
        let (live, route) = (&prepared.snapshot, passage.route());
        let Some((pool, label)) = passage.pool().and_then(|id| prepared.pools.get(id.0)) else {
            return self.refuse(Rejection::Internal, record);
        };
        record.upstream = *label;
        let replacement = match replacement(live, &passage, self.now) {
            Ok(replacement) => replacement,
            Err(rejection) => return self.refuse(rejection, record),
        };
        let upload = if head.raw().has_body {
            let body = Filtered::new(body, Arc::clone(prepared));
            let body = match hold.as_ref().and_then(Hold::fingerprint) {
                None => body.boxed_unsync(),
                Some(fingerprint) => {
                    repeat::Printed::new(body, repeat::printer(head), Arc::clone(fingerprint)).boxed_unsync()
                }
            };
            let patience = Patience { stall: live.limits.body_timeout, rate: live.limits.body_rate };
            Upload::stream(body, route.max_body, patience, &proxy.timer)
        } else {
            if let Some(fingerprint) = hold.as_ref().and_then(Hold::fingerprint) {
                _ = fingerprint.set(repeat::printer(head).finish());
            }
            Upload::Empty
        };
        let progress = upload.progress();
        let session = self.known.session.as_deref().zip(self.known.session_id);
        let session = session.map(|(session, id)| (session, session_value(head, id)));
        // HTTP/1.0 does not know interim responses.
        let hint = self.hint.filter(|_| head.raw().version == Version::HTTP_11);
        let interim = |parts: &Parts| {
            if let Some(hint) = hint
                && let Some(bytes) = response::interim(parts, &live.names, &prepared.via)
            {
                hint(&bytes);
            }
        };
        let key = switch::key(head);
        // Of a session without a flow this is nothing.
        let steps = self.known.session.as_ref().and_then(|session| session.steps());
        let step = steps.as_ref().and_then(|(flow, steps)| Some(flow.step_name(steps.last()?)));
        let outgoing = Outgoing {
            head,
            passage: &passage,
            names: &live.names,
            edge,
            ids: &CallIds {
                request: record.request_id.clone(),
                correlation: record.correlation.clone(),
                session: session.as_ref().map(|(_, id)| id.clone()),
            },
            via: if head.raw().version == Version::HTTP_2 { &prepared.via_http2 } else { &prepared.via },
            host: pool.config().host,
            replacement: replacement.as_ref(),
            websocket_key: key.as_ref().map(|Key(key)| key),
            step,
            sent: hold.as_ref().map(Hold::sent),
            interim: Some(Interim(&interim)),
        };
        let again = match head.verb() {
            verb if route.retry_idempotent && verb.is_idempotent() => Repeat::Idempotent,
            verb if verb.is_safe() && upload.is_empty() => Repeat::Safe,
            _ => Repeat::IfUnsent,
        };
        let config = pool.config();
        let timeout = route.response_timeout.unwrap_or(config.response_timeout);
        let pace = Pace {
            stall: route.stall_timeout.unwrap_or(config.stall_timeout),
            total: route.total_timeout.unwrap_or(config.total_timeout),
        };
        let left = pace.total.map(|total| total.saturating_sub(record.elapsed()));
        let sent = {
            let mut sending = pin!(async {
                let sending = pool.send(&outgoing, upload, again, timeout);
                match left {
                    None => sending.await,
                    Some(left) => {
                        proxy.timer.timeout(left, pin!(sending)).await.unwrap_or(Err(UpstreamError::TotalTimeout))
                    }
                }
            });
            match &progress {
                None => sending.await,
                Some(upload) => {
                    let mut vigil = Vigil::default();
                    let looked_after = poll_fn(|context| match sending.as_mut().poll(context) {
                        Poll::Ready(sent) => Poll::Ready(Ok(sent)),
                        Poll::Pending => vigil.poll_end(upload, &record, prepared, context).map(Err),
                    });
                    match looked_after.await {
                        Ok(sent) => sent,
                        Err(rejection) => {
                            record.bytes_in = upload.bytes();
                            self.now = proxy.gate.clock().now();
                            return self.refuse(rejection, record);
                        }
                    }
                }
            }
        };
        let mut claim = None;
        if let Some(hold) = hold {
            let outcome = match &sent {
                Ok(reply) => Outcome::of_status(reply.head.status.as_u16()),
                Err(error) => outcome(error, again, hold.sent().load(Ordering::Relaxed)),
            };
            let (mark, keeps) = hold.settle(outcome, proxy.gate.clock().now().steady);
            (record.step, claim) = (Some(mark), keeps);
        }
        match sent {
            Ok(reply) => {
                record.first_byte = Some(record.elapsed());
                let reply = match claim {
                    None => reply,
                    Some(claim) => match Box::pin(repeat::keep(reply, claim, &proxy.timer, pace.stall)).await {
                        Ok(reply) => reply,
                        Err(error) => return self.fail(proxy, &error, progress.as_deref(), record),
                    },
                };
                match Switch::of(&reply, head) {
                    None => self.relay(reply, progress, session, pace, record),
                    Some(switch) => self.switch(proxy, reply, switch, key.as_ref(), session, record),
                }
            }
            Err(error) => self.fail(proxy, &error, progress.as_deref(), record),
        }
    }

    /// Passes an upstream's answer on.
    fn relay(
        &self,
        reply: Reply,
        progress: Option<Arc<Progress>>,
        session: Option<(&Session, HeaderValue)>,
        pace: Pace,
        mut record: Box<CallRecord>,
    ) -> Response<Answer> {
        let Reply { head: mut parts, body } = reply;
        self.dress(&mut parts, session, &mut record);
        // Where a length was announced, trailers would come too early.
        let dialect = match self.dialect {
            Dialect::Grpc if !parts.headers.contains_key(header::CONTENT_LENGTH) => response::dialect(&parts.headers),
            Dialect::Grpc | Dialect::Http => Dialect::Http,
        };
        let prepared = Arc::clone(&self.scope.prepared);
        self.share(Response::from_parts(parts, Answer::streamed(body, prepared, dialect, record, progress, pace)))
    }

    /// Makes the head of an upstream's answer ours.
    pub(super) fn dress(&self, parts: &mut Parts, session: Option<(&Session, HeaderValue)>, record: &mut CallRecord) {
        let live = &self.scope.prepared.snapshot;
        response::clean(&mut parts.headers, &live.names);
        parts.headers.append(header::VIA, self.scope.prepared.via.clone());
        parts.version = Version::HTTP_11;
        record.status = parts.status.as_u16();
        response::add_ids(&mut parts.headers, &live.names, record, session, self.now.steady);
        rates::tell(&mut parts.headers, live, &self.known.rated);
    }

    pub(super) fn fail(
        &self,
        proxy: &Proxy,
        error: &UpstreamError,
        progress: Option<&Progress>,
        mut record: Box<CallRecord>,
    ) -> Response<Answer> {
        record.bytes_in = progress.map_or(0, Progress::bytes);
        proxy.recorder.stats().upstream_failed(record.upstream, error.kind());
        if !matches!(error, UpstreamError::Upload(_)) {
            let cause = std::error::Error::source(error).map(tracing::field::display);
            let upstream = proxy.recorder.telemetry().labels().name(record.upstream);
            let request_id = record.request_id();
            tracing::warn!(upstream = &*upstream, request_id, cause, "upstream call failed: {error}");
        }
        let mut response = self.refuse(error.rejection(), record);
        let via = &self.scope.prepared.snapshot.via;
        response::set_proxy_error(response.headers_mut(), via, error.proxy_error(), error.rejection());
        response
    }
}

/// The credentials that take the place of the caller's, where the route wants that.
fn replacement(live: &Snapshot, passage: &Passage<'_>, now: Now) -> Result<Option<HeaderValue>, Rejection> {
    match (passage.route().authorization, passage.validated()) {
        (ForwardAuthorization::Replace, Some(call)) => {
            let own = live.auth.own().ok_or(Rejection::Internal)?;
            let credentials = own.for_upstream(call.caller(), call.session(), call.id(), now);
            credentials.map(Some).map_err(|_| Rejection::Internal)
        }
        (ForwardAuthorization::Replace | ForwardAuthorization::Keep | ForwardAuthorization::Strip, _) => Ok(None),
    }
}

/// What is known of a step whose call got no answer. `sent` says whether a byte of it may have gone out.
fn outcome(error: &UpstreamError, repeat: Repeat, sent: bool) -> Outcome {
    match error {
        // No upstream takes a request for whole that is not.
        UpstreamError::Upload(_) if sent => Outcome::RolledBack,
        // Of a call that may be sent twice, the first time may have been another story.
        _ if sent && (repeat == Repeat::Idempotent || !error.is_before_sending()) => Outcome::Indeterminate,
        _ => Outcome::Unsent,
    }
}

/// The canonical id; the client's own field if it is that already.
fn session_value(head: &Head<'_>, id: SessionId) -> HeaderValue {
    let mut text = [0; SessionId::TEXT_LEN];
    let canonical = id.write(&mut text);
    match head.seen(Field::SessionId).value {
        Some(value) if value.as_bytes() == canonical.as_bytes() => value.clone(),
        _ => response::session_value(id),
    }
}
