//! Why an upstream gave no answer: a fact for the operator, and the refusal it becomes.

use std::io;

use super::tls;
use super::upload::UploadFault;
use crate::policy::rejection::{Rejection, Wait};

/// What a client is told to wait when nothing was sent, in seconds.
const RETRY_SOON: Wait = Wait(1);

/// Why there is no answer, or no whole one. The text never contains a byte of what the upstream sent.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection within the time.
    #[error("no connection to {endpoint} within the time allowed")]
    ConnectTimeout {
        /// Where to.
        endpoint: String,
    },
    /// The connection was refused, or the name did not resolve.
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
    /// It speaks only HTTP/2 and does not offer what the client wants to switch to; nothing was sent.
    #[error("{endpoint} does not switch protocols over HTTP/2")]
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

    /// Error type of `proxy-status` (RFC 9209 section 2.3), where it says more than the refusal.
    #[must_use]
    pub fn proxy_error(&self) -> Option<&'static str> {
        match self {
            Self::Handshake { source, .. } | Self::Tls(source) => {
                let certificate = tls::cause(source).is_some_and(tls::is_about_certificates);
                Some(if certificate { "tls_certificate_error" } else { "tls_protocol_error" })
            }
            Self::ConnectTimeout { .. }
            | Self::Connect { .. }
            | Self::Exhausted { .. }
            | Self::Full { .. }
            | Self::NoSwitch { .. }
            | Self::ResponseTimeout
            | Self::Closed
            | Self::Reset(_)
            | Self::StreamReset(_)
            | Self::Malformed(_)
            | Self::TooLarge
            | Self::Upload(_) => None,
        }
    }

    /// Label of the metric.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::Connect { .. } => "connect",
            Self::Exhausted { .. } => "exhausted",
            Self::Handshake { .. } | Self::Tls(_) => "tls",
            Self::Full { .. } => "full",
            Self::ResponseTimeout => "response_timeout",
            Self::Closed | Self::Reset(_) | Self::StreamReset(_) => "closed",
            Self::Malformed(_) | Self::TooLarge | Self::NoSwitch { .. } => "protocol",
            Self::Upload(_) => "upload",
        }
    }

    /// The refusal the client is given.
    #[must_use]
    pub const fn rejection(&self) -> Rejection {
        match self {
            Self::ConnectTimeout { .. } | Self::ResponseTimeout => Rejection::UpstreamTimeout,
            Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::Tls(_)
            | Self::NoSwitch { .. }
            | Self::Closed
            | Self::Reset(_)
            | Self::StreamReset(_)
            | Self::Malformed(_)
            | Self::TooLarge => Rejection::UpstreamFailed,
            Self::Exhausted { .. } | Self::Full { .. } => Rejection::UpstreamUnavailable(RETRY_SOON),
            // Of a client that has gone nobody reads the refusal, but its record has one.
            Self::Upload(fault) => match fault.rejection() {
                Some(rejection) => rejection,
                None => Rejection::RequestMalformed,
            },
        }
    }
}
