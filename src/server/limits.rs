//! How much, and for how long, a peer may make a worker wait or keep.

use std::time::Duration;

/// Limits of connections. Each connection reads them once, when it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request head with its final empty line; more is refused with 431. Default 32 KiB.
    pub head_bytes: usize,
    /// Bytes of a request target; more is refused with 414. Default 8 KiB.
    pub uri_bytes: usize,
    /// Header field lines of a request; more is refused with 431. Default 100. Over HTTP/2 the front counts.
    pub fields: usize,
    /// From the first byte of a head to its end, and from the accept to the first byte. Default 10 s.
    pub head_timeout: Duration,
    /// For a whole TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a connection may wait without a call. Default 60 s.
    pub idle_timeout: Duration,
    /// How long a client may pause inside a request body while we want more of it. Default 30 s.
    pub body_timeout: Duration,
    /// How long the rest of a body that the front left unread is discarded, so that the connection can go on. Default 1 s.
    pub discard_timeout: Duration,
    /// How long a client may take no byte of an answer that is ready. Default 30 s.
    pub write_timeout: Duration,
    /// How long a connection is idle before it gives back its buffers. Default 250 ms: busy ones keep them.
    pub sleep_after: Duration,
    /// From the begin of a drain to the end of the connections that are left. Default 30 s.
    pub drain_timeout: Duration,
    /// Open connections, all workers together; at the limit accepting pauses. Default 65,536.
    pub max_connections: usize,
    /// Calls on one HTTP/1 connection before it is closed. Default: no limit.
    pub max_requests_per_connection: u64,
    /// Concurrent streams of one HTTP/2 connection. Default 128.
    pub h2_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            head_bytes: 32 * 1024,
            uri_bytes: 8 * 1024,
            fields: 100,
            head_timeout: seconds(10),
            handshake_timeout: seconds(10),
            idle_timeout: seconds(60),
            body_timeout: seconds(30),
            discard_timeout: seconds(1),
            write_timeout: seconds(30),
            sleep_after: Duration::from_millis(250),
            drain_timeout: seconds(30),
            max_connections: 65_536,
            max_requests_per_connection: u64::MAX,
            h2_streams: 128,
        }
    }
}
