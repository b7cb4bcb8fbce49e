//! HTTP/2 toward upstreams (RFC 9113): the frames are the `h2` crate's, the calls are ours.
//!
//! Why not hyper's client on top of it: that spawns a task or two per call, keeps interim responses to itself, takes a reset
//! with NO_ERROR or CANCEL for the end of a body, and does not say which calls were never processed. Here a call polls its
//! stream as an HTTP/1.1 call polls its socket; one task per connection moves the frames.
//!
//! Memory: a stream holds at most [`STREAM_WINDOW`] of a response that its client does not take, and [`QUEUED_BYTES`] of a
//! request that its upstream does not take. The window of a connection is as large as those of all its streams, so that one
//! slow client cannot stop the others.
//!
//! The parts: [`link`] is a connection and the right to a stream of it, [`request`] makes heads, [`sending`] sends bodies,
//! [`exchange`] brings them together until the head of the response is there, [`reply`] after that, and [`upgraded`] if the
//! stream has left HTTP.

mod exchange;
mod link;
mod reply;
mod request;
mod sending;
mod upgraded;

use h2::Reason;
use http::HeaderMap;

pub(super) use exchange::Exchange;
pub(super) use link::{Link, Slot};
pub(super) use reply::ReplyBody;
pub(super) use upgraded::Upgraded;

use super::UpstreamError;
use crate::policy::fields::is_padded;

/// Bytes of a response that may wait for its client.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of a request that may wait for the connection.
const QUEUED_BYTES: usize = 64 * 1024;

/// Most calls at once on one connection, however many the upstream allows.
const STREAMS_MAX: usize = 128;

/// Most bytes of a head (as RFC 9113 section 6.5.2 counts them).
const HEAD_BYTES: u32 = 64 * 1024;

/// The fields of a response, head or trailers, if there is none that HTTP/1 would read otherwise than it was written.
fn checked(fields: &HeaderMap) -> Result<(), UpstreamError> {
    if fields.values().any(is_padded) { Err(UpstreamError::Malformed("a field value")) } else { Ok(()) }
}

/// A stream or a connection that failed.
fn failure(error: h2::Error) -> UpstreamError {
    if error.is_io() {
        return error.into_io().map_or(UpstreamError::Closed, |error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => UpstreamError::Closed,
            _ => UpstreamError::broken(error),
        });
    }
    match error.reason() {
        Some(reason) if error.is_remote() && error.is_reset() => UpstreamError::StreamReset(reason),
        Some(_) if error.is_remote() => UpstreamError::Closed,
        _ => UpstreamError::Malformed("a violation of HTTP/2"),
    }
}

/// Whether the upstream says that it did not process a request: it refused the stream, or its last one was before (RFC 9113
/// section 8.7).
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let beyond = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    error.is_remote() && (refused || beyond)
}
