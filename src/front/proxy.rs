//! The reverse proxy: HTTP in, HTTP out.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::Body;
use http_body_util::BodyExt;
use parking_lot::Mutex;

use super::body::Answer;
use super::connection::{Connection, Peer, Prepared, Scope};
use super::pace::Pace;
use super::panic::Panicked;
use super::response::Dialect;
use super::switch::Switch;
use super::trailers::Filtered;
use super::watch::Vigil;
use super::websocket::Key;
use super::{cors, panic, problem, response, session, switch};
use crate::config::{Live, Snapshot};
use crate::gate::{Admission, Gate, Known};
use crate::policy::call::Passage;
use crate::policy::head::{Head, RawHead};
use crate::policy::headers::is_safe_id;
use crate::policy::ids::SessionId;
use crate::policy::method::Verb;
use crate::policy::rejection::Rejection;
use crate::policy::session::Session;
use crate::policy::time::Now;
use crate::policy::violation::Field;
use crate::telemetry::Recorder;
use crate::telemetry::record::CallRecord;
use crate::timer::Timer;
use crate::upstream::forward::{CallIds, Interim, Outgoing};
use crate::upstream::upload::{Patience, Progress, Upload, UploadFault};
use crate::upstream::{Repeat, Reply, UpstreamError, Upstreams, WorkerPools};

/// Sends the head of an interim response to the client, before the answer.
pub type Hint<'a> = &'a (dyn Fn(&[u8]) + Send + Sync);

/// The front of one worker. Its pools, its counters and its timer are touched by no other thread.
pub struct Proxy {
    gate: Arc<Gate>,
    live: Arc<Live>,
    recorder: Arc<Recorder>,
    timer: Timer,
    upstreams: Arc<Upstreams>,
    pools: WorkerPools,
    prepared: Mutex<Arc<Prepared>>,
}

/// What is known of a call whose head was accepted.
pub(super) struct Call<'a> {
    pub(super) scope: &'a Scope,
    known: Known,
    now: Now,
    hint: Option<Hint<'a>>,
    dialect: Dialect,
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
        let prepared = prepare(live.snapshot(), &gate, (&upstreams, &pools), &recorder, &timer);
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
            *prepared = Arc::new(prepare(self.live.snapshot(), &self.gate, pools, &self.recorder, &self.timer));
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
                let head = head.with_body_length(body.size_hint().exact());
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
            Ok(Admission::Forward(passage)) => return self.forward(proxy, head, passage, body, record).await,
            Ok(Admission::Open(open)) => {
                session::open(&proxy.gate, live, &open, body, &proxy.timer, &mut self.known, &mut self.now).await
            }
            Ok(Admission::Read(call)) => session::read_state(&call, self.now),
            Ok(Admission::End(owned)) => session::close(&proxy.gate, &owned, self.now).await,
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
    fn note(&self, record: &mut CallRecord) {
        if let Some(number) = self.known.route {
            record.route = self.scope.prepared.label(number);
        }
        record.caller.clone_from(&self.known.caller);
        record.session.clone_from(&self.known.session);
        record.session_id = self.known.session_id;
        record.observed = self.known.observed;
    }

    pub(super) fn refuse(&self, rejection: Rejection, record: Box<CallRecord>) -> Response<Answer> {
        self.share(response::refuse(self.scope, rejection, self.dialect, record, &self.known, self.now.steady))
    }

    /// Lets the browsers read an answer that may.
    fn share(&self, mut response: Response<Answer>) -> Response<Answer> {
        let rules = self.scope.prepared.cors.as_ref();
        if let Some(rule) = rules.and_then(|rules| rules.find(self.known.route)) {
            rule.apply(self.origin, response.headers_mut());
        }
        response
    }

    async fn forward<B>(
        mut self,
        proxy: &Proxy,
        head: &Head<'_>,
        passage: Passage<'_>,
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
        let upload = if head.raw().has_body {
            let body = Filtered::new(body, Arc::clone(prepared)).boxed_unsync();
            let patience = Patience { stall: live.limits.body_timeout, rate: live.limits.body_rate };
            Upload::stream(body, route.max_body, patience, &proxy.timer)
        } else {
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
            websocket_key: key.as_ref().map(|Key(key)| key),
            interim: Some(Interim(&interim)),
        };
        let repeat = match head.verb() {
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
        let mut sending = pin!(async {
            let sending = pool.send(&outgoing, upload, repeat, timeout);
            match left {
                None => sending.await,
                Some(left) => {
                    proxy.timer.timeout(left, pin!(sending)).await.unwrap_or(Err(UpstreamError::TotalTimeout))
                }
            }
        });
        let sent = match &progress {
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
        };
        match sent {
            Ok(reply) => {
                record.first_byte = Some(record.elapsed());
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
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
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

fn uri_len(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |target| target.as_str().len())
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

/// The client's correlation id, if it is safe to use.
fn correlation(head: &Head<'_>) -> Option<HeaderValue> {
    let seen = head.seen(Field::Correlation);
    usable(seen.value.filter(|_| seen.lines == 1))
}

fn usable(value: Option<&HeaderValue>) -> Option<HeaderValue> {
    value.filter(|value| is_safe_id(value.as_bytes())).cloned()
}

fn prepare(
    snapshot: Arc<Snapshot>,
    gate: &Arc<Gate>,
    (upstreams, pools): (&Upstreams, &WorkerPools),
    recorder: &Recorder,
    timer: &Timer,
) -> Prepared {
    let labels = recorder.telemetry().labels();
    let routes = snapshot.routes.routes().iter().map(|route| labels.intern(&route.name)).collect();
    let states = upstreams.resolve(snapshot.generation, &snapshot.pools, &snapshot.resolver);
    let pools = pools.resolve(&states, timer);
    let pools = pools
        .into_iter()
        .map(|pool| {
            let label = labels.intern(&pool.config().name);
            (pool, label)
        })
        .collect();
    let via = |version: &str| {
        HeaderValue::try_from(format!("{version} {}", snapshot.via))
            .unwrap_or_else(|_| HeaderValue::from_static("1.1 -"))
    };
    let (via, via_http2) = (via("1.1"), via("2.0"));
    let problems = problem::templates(&snapshot.errors, &snapshot.via);
    let cors = cors::Rules::of(&snapshot);
    Prepared { snapshot, gate: Arc::clone(gate), timer: timer.clone(), routes, pools, via, via_http2, problems, cors }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("generation", &self.generation()).finish_non_exhaustive()
    }
}
