//! Why an upstream gave no answer: a fact for the operator, and the refusal it becomes.

use super::upload::UploadFault;
use crate::policy::rejection::{Rejection, Wait};

/// What a client is told to wait when nothing was sent, in seconds.
const RETRY_SOON: Wait = Wait(1);

/// Why there is no answer.
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
    /// The connection broke, or what came back was not HTTP.
    #[error("the connection broke or did not carry HTTP")]
    Protocol(#[source] hyper::Error),
    /// The client did not deliver the request body.
    #[error("the client did not deliver the request body: {0:?}")]
    Upload(UploadFault),
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
            Self::Protocol(_) => "protocol",
            Self::Upload(_) => "upload",
        }
    }

    /// The refusal the client is given.
    #[must_use]
    pub const fn rejection(&self) -> Rejection {
        match self {
            Self::ConnectTimeout { .. } | Self::ResponseTimeout => Rejection::UpstreamTimeout,
            Self::Connect { .. } | Self::Protocol(_) => Rejection::UpstreamFailed,
            Self::Exhausted { .. } => Rejection::UpstreamUnavailable(RETRY_SOON),
            Self::Upload(UploadFault::Broken) => Rejection::RequestMalformed,
            Self::Upload(UploadFault::TooLarge) => Rejection::BodyTooLarge,
            Self::Upload(UploadFault::Stalled) => Rejection::RequestTimeout,
        }
    }
}
