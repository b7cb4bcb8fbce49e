//! Why an upstream gave no answer: a fact for the operator, and the refusal it becomes.

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
        source: std::io::Error,
    },
    /// This process has no descriptors or ports left; nothing was sent.
    #[error("no connection to {endpoint} can be opened: this process is out of descriptors or ports")]
    Exhausted {
        /// Where to.
        endpoint: String,
        /// Why.
        source: std::io::Error,
    },
    /// No first byte of the response within the time.
    #[error("no answer within the time allowed")]
    ResponseTimeout,
    /// The upstream closed the connection before the answer was complete.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Reset(#[source] std::io::Error),
    /// What came was not HTTP/1, or could be read in two ways. Says what part of it.
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
    /// Label of the metric.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::Connect { .. } => "connect",
            Self::Exhausted { .. } => "exhausted",
            Self::ResponseTimeout => "response_timeout",
            Self::Closed | Self::Reset(_) => "closed",
            Self::Malformed(_) | Self::TooLarge => "protocol",
            Self::Upload(_) => "upload",
        }
    }

    /// The refusal the client is given.
    #[must_use]
    pub const fn rejection(&self) -> Rejection {
        match self {
            Self::ConnectTimeout { .. } | Self::ResponseTimeout => Rejection::UpstreamTimeout,
            Self::Connect { .. } | Self::Closed | Self::Reset(_) | Self::Malformed(_) | Self::TooLarge => {
                Rejection::UpstreamFailed
            }
            Self::Exhausted { .. } => Rejection::UpstreamUnavailable(RETRY_SOON),
            // Of a client that has gone nobody reads the refusal, but its record has one.
            Self::Upload(fault) => match fault.rejection() {
                Some(rejection) => rejection,
                None => Rejection::RequestMalformed,
            },
        }
    }
}
