//! The reverse proxy: HTTP in, HTTP out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;

use super::body::Answer;
use super::connection::{Connection, Peer, Scope};
use super::panic::Panicked;
use super::prepared::Prepared;
use super::response::Dialect;
use super::{panic, response, session, switch};
use crate::config::Live;
use crate::gate::settle::Repeated;
use crate::gate::{Admission, Gate, Known};
use crate::policy::head::{Head, RawHead, Sender};
use crate::policy::headers::is_safe_id;
use crate::policy::method::Verb;
use crate::policy::rejection::Rejection;
use crate::policy::time::Now;
use crate::policy::violation::Field;
use crate::telemetry::Recorder;
use crate::telemetry::record::CallRecord;
use crate::timer::Timer;
use crate::upstream::upload::UploadFault;
use crate::upstream::{Upstreams, WorkerPools};

/// Sends the head of an interim response to the client, before the answer.
pub type Hint<'a> = &'a (dyn Fn(&[u8]) + Send + Sync);

/// The front of one worker. Its pools, its counters and its timer are touched by no other thread.
pub struct Proxy {
    pub(super) gate: Arc<Gate>,
    live: Arc<Live>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) timer: Timer,
    upstreams: Arc<Upstreams>,
    pools: WorkerPools,
    prepared: Mutex<Arc<Prepared>>,
}

/// What is known of a call whose head was accepted.
pub(super) struct Call<'a> {
    pub(super) scope: &'a Scope,
    pub(super) known: Known,
    pub(super) now: Now,
    pub(super) hint: Option<Hint<'a>>,
    pub(super) dialect: Dialect,
    /// Who a browser asks for, where that matters.
    origin: Option<&'a HeaderValue>,
}

impl Proxy {
    /// A front for one more worker.
    #[must_use]
    pub fn new(
        gate: Arc<Gate>,
        live: Arc<Live>,
        recorder: Arc<Recorder>,
        timer: Timer,
        upstreams: Arc<Upstreams>,
    ) -> Self {
        let pools = WorkerPools::default();
        let prepared = Prepared::new(live.snapshot(), &gate, (&upstreams, &pools), &recorder, &timer);
        let prepared = Mutex::new(Arc::new(prepared));
        Self { gate, live, recorder, timer, upstreams, pools, prepared }
    }

    /// A client connection begins.
    #[must_use]
    pub fn connect(self: &Arc<Self>, peer: Peer) -> Connection {
        Connection::new(Arc::clone(self), peer)
    }

    /// The connections to upstreams.
    #[must_use]
    pub const fn pools(&self) -> &WorkerPools {
        &self.pools
    }

    /// Generation of the snapshot in force.
    pub(super) fn generation(&self) -> u64 {
        self.live.generation()
    }

    /// What this worker made of the snapshot in force.
    pub(super) fn prepared(&self) -> Arc<Prepared> {
        let mut prepared = self.prepared.lock();
        if prepared.snapshot.generation != self.live.generation() {
            let pools = (&*self.upstreams, &self.pools);
            *prepared = Arc::new(Prepared::new(self.live.snapshot(), &self.gate, pools, &self.recorder, &self.timer));
        }
        Arc::clone(&prepared)
    }

    /// Answers a call. With `refused` the connection knows already that it must not be served, and why; its head is
    /// not looked at then.
    pub async fn answer<B>(
        connection: Arc<Connection>,
        request: Request<B>,
        refused: Option<Rejection>,
        hint: Option<Hint<'_>>,
    ) -> Response<Answer>
    where
        B: Body<Data = Bytes, Error = UploadFault> + Send + 'static,
    {
        let proxy = &connection.proxy;
        let scope = connection.scope();
        let started = Instant::now();
        let now = Now { wall: proxy.gate.clock().wall(), steady: proxy.gate.clock().steady(started) };
        let (parts, body) = request.into_parts();
        let protocol = if connection.peer.http2 { switch::protocol(&parts) } else { None };
        let raw = RawHead {
            method: if protocol.is_some() { &Method::GET } else { &parts.method },
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
            protocol: protocol.as_ref(),
            has_body: !body.is_end_stream(),
            trusted_peer: scope.trusted,
        };
        let cors = scope.prepared.cors.as_ref();
        let origin = cors.and_then(|_| parts.headers.get(header::ORIGIN));
        // To a CONNECT a 200 says that there is a tunnel.
        let dialect = match connection.peer.http2 && parts.method != Method::CONNECT {
            true => response::dialect(&parts.headers),
            false => Dialect::Http,
        };
        let call = Call { scope: &scope, known: Known::default(), now, hint, dialect, origin };
        let begin = |correlation| {
            let recorder = Arc::clone(&proxy.recorder);
            CallRecord::begin(recorder, started, now.wall, connection.arrival(), correlation)
        };
        let live = &scope.prepared.snapshot;
        let head = match refused {
            Some(rejection) => Err(rejection),
            // Over HTTP/1 the connection has counted already.
            None if uri_len(&parts.uri) > live.limits.uri => Err(Rejection::UriTooLong),
            None => Head::parse(raw, &live.names, &live.via),
        };
        match head {
            Ok(head) => {
                let peer = &connection.peer;
                let (certificate, address) = (peer.thumbprint.as_ref(), Some(peer.address.ip()));
                let sender = Sender { tls: peer.tls, certificate, address };
                let head = head.with_body_length(body.size_hint().exact()).with_sender(sender);
                let mut record = begin(correlation(&head));
                record.verb = Some(head.verb());
                if let Some((route, rule)) = cors.and_then(|rules| rules.preflight(live, &head)) {
                    record.route = scope.prepared.label(route);
                    return response::preflight(&scope, rule.answer(&head), record, now.steady);
                }
                let request_id = record.request_id.clone();
                let answered = panic::catch(call.serve(proxy, &head, body, record), &request_id).await;
                answered.unwrap_or_else(|Panicked| {
                    let correlation = correlation(&head).unwrap_or_else(|| request_id.clone());
                    let mut record = begin(Some(correlation));
                    record.verb = Some(head.verb());
                    record.request_id = request_id;
                    let call = Call { scope: &scope, known: Known::default(), now, hint: None, dialect, origin };
                    call.refuse(Rejection::Internal, record)
                })
            }
            Err(rejection) => {
                let sent = refused.is_none().then(|| parts.headers.get(live.names.name(Field::Correlation))).flatten();
                let mut record = begin(usable(sent));
                record.verb = refused.is_none().then(|| Verb::of(&parts.method)).flatten();
                call.refuse(rejection, record)
            }
        }
    }
}

impl Call<'_> {
    async fn serve<B>(
        mut self,
        proxy: &Proxy,
        head: &Head<'_>,
        body: B,
        mut record: Box<CallRecord>,
    ) -> Response<Answer>
    where
        B: Body<Data = Bytes, Error = UploadFault> + Send + 'static,
    {
        let live = &self.scope.prepared.snapshot;
        let admission = proxy.gate.admit(live, head, self.now, &self.scope.memo, &mut self.known).await;
        self.note(&mut record);
        record.admitted = Some(record.elapsed());
        let outcome = match admission {
            Err(rejection) => Err(rejection),
            Ok(Admission::Forward(passage, hold)) => {
                return self.forward(proxy, head, passage, hold, body, record).await;
            }
            Ok(Admission::Repeat(repeat)) => match Box::pin(self.again(proxy, head, *repeat, body)).await {
                Err(rejection) => Err(rejection),
                Ok((Repeated::Replay(kept), _)) => {
                    self.note(&mut record);
                    return self.share(response::replay(self.scope, &kept, record, &self.known, self.now.steady));
                }
                Ok((Repeated::Forward(again), body)) => {
                    self.note(&mut record);
                    let (passage, hold) = *again;
                    let body = Full::new(body).map_err(|never: Infallible| match never {});
                    return Box::pin(self.forward(proxy, head, passage, Some(hold), body, record)).await;
                }
            },
            Ok(Admission::Open(open)) => {
                session::open(&proxy.gate, live, &open, body, &proxy.timer, &mut self.known, &mut self.now).await
            }
            Ok(Admission::Read(call)) => session::read_state(live, &call, self.now),
            Ok(Admission::End(owned)) => session::close(&proxy.gate, &owned, self.now).await,
            Ok(Admission::KeySet) => session::key_set(live),
        };
        match outcome {
            Ok(outcome) => {
                self.note(&mut record);
                self.share(response::answer(self.scope, outcome, record, &self.known, self.now.steady))
            }
            Err(rejection) => self.refuse(rejection, record),
        }
    }

    /// Copies what became known into the record.
    fn note(&mut self, record: &mut CallRecord) {
        if let Some(number) = self.known.route {
            record.route = self.scope.prepared.label(number);
        }
        record.caller.clone_from(&self.known.caller);
        record.session.clone_from(&self.known.session);
        record.session_id = self.known.session_id;
        record.observed = self.known.observed;
        record.place = self.known.place.take().or(record.place.take());
        let exceeded = self.known.rated.exceeded;
        record.exceeded = exceeded.map(|(rule, severity)| (self.scope.prepared.rule_label(rule), severity));
        record.counts_bytes = self.scope.prepared.snapshot.sessions.budget.is_some_and(|budget| budget.bytes.is_some());
        record.step = self.known.step;
    }

    pub(super) fn refuse(&self, rejection: Rejection, record: Box<CallRecord>) -> Response<Answer> {
        self.share(response::refuse(self.scope, rejection, self.dialect, record, &self.known, self.now.steady))
    }

    /// Lets the browsers read an answer that may.
    pub(super) fn share(&self, mut response: Response<Answer>) -> Response<Answer> {
        let rules = self.scope.prepared.cors.as_ref();
        if let Some(rule) = rules.and_then(|rules| rules.find(self.known.route)) {
            rule.apply(self.origin, response.headers_mut());
        }
        response
    }
}

fn uri_len(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |target| target.as_str().len())
}

/// The client's correlation id, if it is safe to use.
fn correlation(head: &Head<'_>) -> Option<HeaderValue> {
    let seen = head.seen(Field::Correlation);
    usable(seen.value.filter(|_| seen.lines == 1))
}

fn usable(value: Option<&HeaderValue>) -> Option<HeaderValue> {
    value.filter(|value| is_safe_id(value.as_bytes())).cloned()
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("generation", &self.generation()).finish_non_exhaustive()
    }
}
