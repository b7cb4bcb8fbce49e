//! HTTP/1.1 toward upstreams, written and read by the task of the call itself.
//!
//! Why our own: hyper's client puts a task and a channel between a call and its socket, and wants a second header map to
//! write the request from. Both cost more than the whole admission of a call. Here a connection at rest is a socket and
//! two buffers, and a call that uses it polls the socket directly.
//!
//! The parts: [`wire`] moves bytes, [`sending`] frames the request, [`head`] and [`decoder`] read the response and do no
//! IO, [`exchange`] brings them together until the head of the response is there, [`reply`] after that,
//! and [`upgraded`] if the connection has left HTTP.

mod decoder;
mod exchange;
mod head;
mod reply;
mod section;
mod sending;
#[cfg(test)]
mod tests;
mod upgraded;
mod wire;

pub(super) use exchange::{Exchange, Failed};
pub use reply::ReplyBody;
pub use upgraded::Upgraded;
pub(super) use wire::Wire;

/// Whether a trailer field of this name must not be sent: it frames, routes, authenticates or describes the message
/// (RFC 9110 section 6.5.1), so a recipient that merges trailers into the head could be misled.
pub(super) fn is_forbidden_trailer(name: &http::HeaderName) -> bool {
    matches!(
        name.as_str(),
        "age"
            | "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "location"
            | "max-forwards"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "vary"
            | "via"
            | "www-authenticate"
    )
}
