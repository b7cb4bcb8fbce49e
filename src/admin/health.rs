//! Is it alive, does it want calls.

use http::StatusCode;

use super::{Reply, text};

const PLAIN: &str = "text/plain; charset=utf-8";

/// The process answers.
pub(super) fn live() -> Reply {
    text(StatusCode::OK, PLAIN, "alive\n".into())
}

/// A balancer should send calls here.
pub(super) fn ready(draining: bool) -> Reply {
    if draining {
        text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "draining\n".into())
    } else {
        text(StatusCode::OK, PLAIN, "ready\n".into())
    }
}
