//! One call over one connection, by either protocol.

mod h1;
mod h2;

use super::chance::Chance;
use super::scenario::Request;
use super::template::Values;

pub use h1::Http1;
pub use h2::Http2;

/// Largest answer body that is kept, in bytes; the rest is read and dropped.
pub const BODY_MAX: usize = 1 << 20;

/// A way to make calls one after the other: a connection, or over HTTP/2 a share of one.
pub enum Wire {
    /// HTTP/1.1.
    One(Box<Http1>),
    /// HTTP/2.
    Two(Http2),
}

/// What is wanted of an answer beside its status.
#[derive(Clone, Copy)]
pub struct Wanted<'w> {
    /// Values of these fields; names in lowercase.
    pub fields: &'w [String],
    /// Whether the body of this status is kept.
    pub body: &'w (dyn Fn(u16) -> bool + Sync),
}

/// An answer. It is reused from call to call.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What was found of the wanted fields, in their order.
    pub fields: Vec<Option<String>>,
    /// The body, if it was wanted.
    pub body: Vec<u8>,
}

impl Answer {
    fn clear(&mut self, fields: usize) {
        self.status = 0;
        self.fields.clear();
        self.fields.resize(fields, None);
        self.body.clear();
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = BODY_MAX.saturating_sub(self.body.len());
        self.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// There was no connection to be had.
    Connect,
    /// The connection ended before the answer did.
    Closed,
    /// The answer is not HTTP.
    Malformed,
    /// It took longer than a call may take.
    Timeout,
    /// A value that later steps need was not in the answer.
    Capture,
}

impl CallError {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Connect, Self::Closed, Self::Malformed, Self::Timeout, Self::Capture];

    /// A name for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Capture => "capture",
        }
    }
}

impl Wire {
    /// Makes a call and reads its whole answer.
    ///
    /// # Errors
    /// [`CallError`]; an HTTP/1.1 connection is of no use then.
    pub async fn exchange(
        &mut self,
        request: &Request,
        values: &Values<'_>,
        chance: &mut Chance,
        wanted: Wanted<'_>,
        answer: &mut Answer,
    ) -> Result<(), CallError> {
        answer.clear(wanted.fields.len());
        match self {
            Self::One(connection) => connection.exchange(request, values, chance, wanted, answer).await,
            Self::Two(connection) => connection.exchange(request, values, chance, wanted, answer).await,
        }
    }

    /// Whether another call can be made.
    pub fn is_usable(&mut self) -> bool {
        match self {
            Self::One(connection) => connection.is_usable(),
            Self::Two(connection) => connection.is_usable(),
        }
    }
}
