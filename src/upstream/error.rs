//! Why an upstream gave no answer: a fact for the operator, and the refusal it becomes.

use std::io;

use super::tls;
use super::upload::UploadFault;
use crate::policy::rejection::{Rejection, Wait};

/// What a client is told to wait when nothing was sent, in seconds.
const RETRY_SOON: Wait = Wait(1);

/// What an endpoint can be blamed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its name does not resolve.
    Name,
    /// It refuses connections, or cannot be reached.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// No answer in time.
    ResponseTimeout,
    /// It ended a connection instead of answering.
    Closed,
    /// What it said was not HTTP.
    Protocol,
    /// It answered 500 to 599.
    ServerError,
}

impl Fault {
    /// For operators.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "its name does not resolve",
            Self::Connect => "it refused a connection or could not be reached",
            Self::ConnectTimeout => "no connection in time",
            Self::ResponseTimeout => "no answer in time",
            Self::Closed => "it closed a connection instead of answering",
            Self::Protocol => "what it answered was not HTTP",
            Self::ServerError => "it answered 500 to 599",
        }
    }
}

/// Why there is no answer, or no whole one. The text never contains a byte of what the upstream sent.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection within the time.
    #[error("no connection to {endpoint} within the time allowed")]
    ConnectTimeout {
        /// Where to.
        endpoint: String,
    },
    /// The name did not resolve.
    #[error("the name of {endpoint} does not resolve")]
    Name {
        /// Where to.
        endpoint: String,
    },
    /// The connection was refused, or the address could not be reached.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// This process has no descriptors or ports left; nothing was sent.
    #[error("no connection to {endpoint} can be opened: this process is out of descriptors or ports")]
    Exhausted {
        /// Where to.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// No agreement on TLS, or on HTTP/2 within it.
    #[error("no TLS with {endpoint}")]
    Handshake {
        /// Where to.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// TLS failed after the handshake: with TLS 1.3 the upstream refuses our certificate only then.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// All HTTP/2 streams that may be had are in use; nothing was sent.
    #[error("all streams of all connections to {endpoint} are in use")]
    Full {
        /// Where to.
        endpoint: String,
    },
    /// It speaks only HTTP/2, and that without the means to switch protocols (RFC 8441); nothing was sent.
    #[error("{endpoint} does not switch protocols over HTTP/2: it did not announce extended CONNECT")]
    NoSwitch {
        /// Where to.
        endpoint: String,
    },
    /// The upstream ended the HTTP/2 stream of the call.
    #[error("the upstream reset the stream: {0}")]
    StreamReset(h2::Reason),
    /// No first byte of the response within the time.
    #[error("no answer within the time allowed")]
    ResponseTimeout,
    /// The call took longer than the total time allowed.
    #[error("no complete answer within the total time allowed")]
    TotalTimeout,
    /// No byte of the body for too long.
    #[error("the answer stopped before it was complete")]
    Stalled,
    /// No endpoint is healthy; nothing was sent.
    #[error("no endpoint is healthy")]
    Unavailable,
    /// As many calls or connections as the limits allow; nothing was sent. Says which limit.
    #[error("too many calls at once: {0}")]
    Overloaded(&'static str),
    /// The upstream closed the connection before the answer was complete.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Reset(#[source] io::Error),
    /// What came was not the HTTP it should be, or could be read in two ways. Says what part of it.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The head or the trailers are larger than we read.
    #[error("the head of the answer is too large")]
    TooLarge,
    /// The client did not deliver the request body.
    #[error("the client did not deliver the request body")]
    Upload(#[source] UploadFault),
}

impl UpstreamError {
    /// A connection that failed while it was used.
    pub(super) fn broken(error: io::Error) -> Self {
        match (tls::cause(&error), error.kind()) {
            (Some(_), _) => Self::Tls(error),
            // TLS that ends without a word (RFC 8446 section 6.1) ends as TCP does: before the answer was complete.
            (None, io::ErrorKind::UnexpectedEof) => Self::Closed,
            (None, _) => Self::Reset(error),
        }
    }

    /// Label of the metric.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::Name { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Exhausted { .. } => "exhausted",
            Self::Handshake { .. } | Self::Tls(_) => "tls",
            Self::Full { .. } => "full",
            Self::ResponseTimeout => "response_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Stalled => "stall_timeout",
            Self::Unavailable => "unavailable",
            Self::Overloaded(_) => "overloaded",
            Self::Closed | Self::Reset(_) | Self::StreamReset(_) => "closed",
            Self::Malformed(_) | Self::TooLarge | Self::NoSwitch { .. } => "protocol",
            Self::Upload(_) => "upload",
        }
    }

    /// The refusal the client is given.
    #[must_use]
    pub const fn rejection(&self) -> Rejection {
        match self {
            Self::ConnectTimeout { .. } | Self::ResponseTimeout | Self::TotalTimeout | Self::Stalled => {
                Rejection::UpstreamTimeout
            }
            Self::Name { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::Tls(_)
            | Self::NoSwitch { .. }
            | Self::Closed
            | Self::Reset(_)
            | Self::StreamReset(_)
            | Self::Malformed(_)
            | Self::TooLarge => Rejection::UpstreamFailed,
            Self::Exhausted { .. } | Self::Full { .. } | Self::Unavailable => {
                Rejection::UpstreamUnavailable(RETRY_SOON)
            }
            Self::Overloaded(_) => Rejection::Overloaded(RETRY_SOON),
            // Of a client that has gone nobody reads the refusal, but its record has one.
            Self::Upload(fault) => match fault.rejection() {
                Some(rejection) => rejection,
                None => Rejection::RequestMalformed,
            },
        }
    }

    /// Whether the attempt that failed with this has sent nothing.
    #[must_use]
    pub const fn is_before_sending(&self) -> bool {
        match self {
            Self::ConnectTimeout { .. }
            | Self::Name { .. }
            | Self::Connect { .. }
            | Self::Exhausted { .. }
            | Self::Handshake { .. }
            | Self::Full { .. }
            | Self::NoSwitch { .. }
            | Self::Unavailable
            | Self::Overloaded(_) => true,
            Self::Tls(_)
            | Self::StreamReset(_)
            | Self::ResponseTimeout
            | Self::TotalTimeout
            | Self::Stalled
            | Self::Closed
            | Self::Reset(_)
            | Self::Malformed(_)
            | Self::TooLarge
            | Self::Upload(_) => false,
        }
    }

    /// Error type of `proxy-status` (RFC 9209 section 2.3).
    #[must_use]
    pub fn proxy_error(&self) -> &'static str {
        use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable};
        match self {
            Self::ConnectTimeout { .. } => "connection_timeout",
            Self::Name { .. } => "dns_error",
            Self::Connect { source, .. } if matches!(source.kind(), HostUnreachable | NetworkUnreachable) => {
                "destination_ip_unroutable"
            }
            Self::Connect { .. } => "connection_refused",
            Self::Handshake { source, .. } | Self::Tls(source) => {
                let certificate = tls::cause(source).is_some_and(tls::is_about_certificates);
                if certificate { "tls_certificate_error" } else { "tls_protocol_error" }
            }
            Self::Exhausted { .. } | Self::Full { .. } | Self::Overloaded(_) => "connection_limit_reached",
            Self::ResponseTimeout | Self::TotalTimeout | Self::Stalled => "http_response_timeout",
            Self::Unavailable => "destination_unavailable",
            Self::Closed | Self::Reset(_) | Self::StreamReset(_) => "connection_terminated",
            Self::Malformed(_) | Self::NoSwitch { .. } => "http_protocol_error",
            Self::TooLarge => "http_response_header_section_size",
            Self::Upload(_) => "http_request_error",
        }
    }

    /// What the endpoint is to be blamed for; none if it is not its fault.
    pub(super) const fn fault(&self) -> Option<Fault> {
        match self {
            Self::ConnectTimeout { .. } => Some(Fault::ConnectTimeout),
            Self::Name { .. } => Some(Fault::Name),
            Self::Connect { .. } | Self::Handshake { .. } | Self::Tls(_) => Some(Fault::Connect),
            Self::ResponseTimeout | Self::Stalled => Some(Fault::ResponseTimeout),
            Self::Closed | Self::Reset(_) | Self::StreamReset(_) => Some(Fault::Closed),
            Self::Malformed(_) | Self::TooLarge => Some(Fault::Protocol),
            Self::Exhausted { .. }
            | Self::Full { .. }
            | Self::NoSwitch { .. }
            | Self::TotalTimeout
            | Self::Unavailable
            | Self::Overloaded(_)
            | Self::Upload(_) => None,
        }
    }
}
