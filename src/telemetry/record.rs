//! The record of one call, filled along its way and emitted when the last byte has left or the client has.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::HeaderValue;
use uuid::fmt::Hyphenated;

use super::Recorder;
use super::labels::Label;
use crate::policy::claims::Caller;
use crate::policy::flow::StepMark;
use crate::policy::head::Head;
use crate::policy::headers::Observed;
use crate::policy::ids::SessionId;
use crate::policy::method::Verb;
use crate::policy::overload::Place;
use crate::policy::rejection::Rejection;
use crate::policy::session::Session;
use crate::policy::severity::Severity;
use crate::policy::time::Timestamp;
use crate::policy::violation::Field;

/// Longest path that is kept of a call, in bytes.
pub const PATH_MAX: usize = 1024;

/// Longest host that is kept of a call, in bytes.
pub const HOST_MAX: usize = 255;

/// Who brought a call to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The gateway: it answered itself, or the answer went out whole.
    Gate,
    /// The client left before the answer was complete.
    Client,
    /// The upstream broke its answer off.
    Upstream,
}

impl EndedBy {
    /// Name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// How a call came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Over HTTP/2.
    pub http2: bool,
    /// Over TLS.
    pub tls: bool,
}

/// What of a call only the trail tells. Made for every call where there is a trail, and for none elsewhere.
#[derive(Debug, Default)]
pub struct Details {
    /// Host and path in one piece of memory.
    text: Box<str>,
    host: usize,
    /// Whether there was a query. It may hold secrets, so it is not kept.
    pub query: bool,
    /// Whether a body follows.
    pub body: bool,
    /// The ruled fields that were there: bit `field as u8` for each.
    pub fields: u8,
    /// Its number among the calls of its session; 0 until the session is known.
    pub number: u32,
}

impl Details {
    /// What is kept of a head: without the query, and no more than [`HOST_MAX`] and [`PATH_MAX`] bytes of the rest.
    #[must_use]
    pub fn of(head: &Head<'_>) -> Self {
        let (host, path) = (head.host(), head.raw_path());
        let host = &host[..host.floor_char_boundary(HOST_MAX)];
        let path = &path[..path.floor_char_boundary(PATH_MAX)];
        let mut text = String::with_capacity(host.len() + path.len());
        text.push_str(host);
        text.push_str(path);
        let there = Field::ALL.into_iter().filter(|field| head.seen(*field).lines > 0);
        let fields = there.fold(0, |fields, field| fields | 1 << field as u8);
        let (query, body) = (head.query().is_some(), head.raw().has_body);
        Self { text: text.into(), host: host.len(), query, body, fields, number: 0 }
    }

    /// The host the call was for, and its path.
    #[must_use]
    pub fn host_and_path(&self) -> (&str, &str) {
        self.text.split_at(self.host)
    }
}

/// Everything that is told of one call.
#[derive(Debug)]
pub struct CallRecord {
    recorder: Arc<Recorder>,
    started: Instant,
    /// Wall time at the beginning.
    pub time: Timestamp,
    /// Names this call: a UUID.
    pub request_id: HeaderValue,
    /// Ties it to others: the client's, or the request id if it sent none.
    pub correlation: HeaderValue,
    /// How it came in.
    pub arrival: Arrival,
    /// The method, if it is one that is forwarded.
    pub verb: Option<Verb>,
    /// The route.
    pub route: Label,
    /// The upstream pool.
    pub upstream: Label,
    /// Who called, once proven.
    pub caller: Option<Arc<Caller>>,
    /// The session, once ownership was proven.
    pub session: Option<Arc<Session>>,
    /// Its id, for logs that show it.
    pub session_id: Option<SessionId>,
    /// Broken rules that refused nothing.
    pub observed: Observed,
    /// A rate rule that had nothing left for the call, and what that leads to.
    pub exceeded: Option<(Label, Severity)>,
    /// Its place among those that run, where there are only so many.
    pub place: Option<Place>,
    /// Whether the session is told of the bytes.
    pub counts_bytes: bool,
    /// The step of its session's flow that it is. Their names are the flow's: [`Session::flow`].
    pub step: Option<StepMark>,
    /// Why it was refused, if it was.
    pub rejection: Option<Rejection>,
    /// The status that was sent.
    pub status: u16,
    /// Time from the beginning to the admission.
    pub admitted: Option<Duration>,
    /// Time from the beginning to the upstream's first byte.
    pub first_byte: Option<Duration>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Who ended it. Until the answer is complete: the client, by leaving.
    pub ended_by: EndedBy,
    /// What only the trail tells; none: the call is not in the trail.
    pub details: Option<Details>,
}

impl CallRecord {
    /// The record of a call that begins now.
    #[must_use]
    pub fn begin(
        recorder: Arc<Recorder>,
        started: Instant,
        time: Timestamp,
        arrival: Arrival,
        correlation: Option<HeaderValue>,
    ) -> Box<Self> {
        let request_id = request_id();
        Box::new(Self {
            recorder,
            started,
            time,
            correlation: correlation.unwrap_or_else(|| request_id.clone()),
            request_id,
            arrival,
            verb: None,
            route: Label::NONE,
            upstream: Label::NONE,
            caller: None,
            session: None,
            session_id: None,
            observed: Observed::default(),
            exceeded: None,
            place: None,
            counts_bytes: false,
            step: None,
            rejection: None,
            status: 0,
            admitted: None,
            first_byte: None,
            bytes_in: 0,
            bytes_out: 0,
            ended_by: EndedBy::Client,
            details: None,
        })
    }

    /// Notes whose session it is, once that is proven.
    pub fn enter(&mut self, session: &Option<Arc<Session>>) {
        self.session.clone_from(session);
        if let (Some(details), Some(session)) = (&mut self.details, session)
            && details.number == 0
        {
            details.number = session.number_call();
        }
    }

    /// Counts a failure of the upstream under this call.
    pub fn upstream_failed(&self, kind: &'static str) {
        self.recorder.stats().upstream_failed(self.upstream, kind);
    }

    /// Time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The request id as text.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or("-")
    }

    /// The code under which the call is counted: `ok` for one that was passed on or answered as asked.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.rejection.map_or("ok", Rejection::code)
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        // A call that panicked is recorded by who answers it.
        if std::thread::panicking() {
            return;
        }
        let call = &*self;
        if call.counts_bytes
            && let Some(session) = &call.session
        {
            session.spend(call.bytes_in.saturating_add(call.bytes_out));
        }
        call.recorder.record(call);
    }
}

/// Ids that are made at once: they share one piece of memory, so that to make and to clone one allocates nothing.
const BATCH: usize = 32;

thread_local! {
    static IDS: RefCell<BytesMut> = RefCell::default();
}

/// A random UUIDv4: an id for logs, not a secret.
fn request_id() -> HeaderValue {
    let text = IDS.with_borrow_mut(|ids| {
        if ids.is_empty() {
            *ids = BytesMut::with_capacity(BATCH * Hyphenated::LENGTH);
            for _ in 0..BATCH {
                let id = uuid::Builder::from_random_bytes(crate::random::bytes()).into_uuid();
                ids.extend_from_slice(id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes());
            }
        }
        ids.split_to(Hyphenated::LENGTH).freeze()
    });
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
