//! The record of one call, filled along its way and emitted when the last byte has left or the client has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::Recorder;
use super::labels::Label;
use crate::policy::claims::Caller;
use crate::policy::flow::StepMark;
use crate::policy::headers::Observed;
use crate::policy::ids::SessionId;
use crate::policy::method::Verb;
use crate::policy::overload::Place;
use crate::policy::rejection::Rejection;
use crate::policy::session::Session;
use crate::policy::severity::Severity;
use crate::policy::time::Timestamp;

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
        })
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

/// A random UUIDv4: an id for logs, not a secret.
fn request_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(crate::random::bytes()).into_uuid();
    let mut text = [0; 36];
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
