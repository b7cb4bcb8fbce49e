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

pub(super) use exchange::Exchange;
pub(super) use reply::ReplyBody;
pub(super) use upgraded::Upgraded;
pub(super) use wire::Wire;
