//! The connections of one thread. Who needs one takes it, makes its calls, and gives it back; who comes when all are
//! taken waits in line.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http::{Http1, Http2, Wire};
use super::target::{DialError, Target};

/// Concurrent calls over one HTTP/2 connection.
pub const STREAMS: usize = 50;

/// All connections of a thread.
pub struct Pool {
    target: Arc<Target>,
    permits: Arc<Semaphore>,
    idle: Mutex<VecDeque<Line>>,
    /// HTTP/2 connections that have room for more calls, and how many more.
    shared: tokio::sync::Mutex<Vec<(Http2, usize)>>,
}

/// A connection, or a share of one, and the session that was opened on it.
pub struct Line {
    /// How calls are made.
    pub wire: Wire,
    /// The client whose session it is, as a place among the credentials, and the session-id.
    pub session: Option<(usize, String)>,
}

/// A line that is taken.
pub struct Taken {
    /// The line; none if it broke.
    pub line: Option<Line>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// At most `connections`, none of them made yet.
    pub fn new(target: Arc<Target>, connections: usize) -> Self {
        let lines = if target.http2 { connections * STREAMS } else { connections };
        Self {
            target,
            permits: Arc::new(Semaphore::new(lines.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
        }
    }

    /// Takes a line, waiting for it if need be. The one that has been idle longest comes first, so that all are used.
    ///
    /// # Errors
    /// [`DialError`] if a new one is needed and cannot be had.
    pub async fn take(self: &Arc<Self>) -> Result<Taken, DialError> {
        // The semaphore is never closed; without a permit nothing worse happens than one connection more.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.unwrap_or_else(|_| unreachable!("nobody closes the semaphore"));
        let taken = |line| Taken { line: Some(line), pool: Arc::clone(self), _permit: permit };
        loop {
            let Some(mut line) = self.idle.lock().pop_front() else { break };
            if line.wire.is_usable() {
                return Ok(taken(line));
            }
        }
        let wire = if self.target.http2 { Wire::Two(self.share().await?) } else { self.connection().await? };
        Ok(taken(Line { wire, session: None }))
    }

    async fn connection(&self) -> Result<Wire, DialError> {
        Ok(Wire::One(Box::new(Http1::new(self.target.dial().await?))))
    }

    async fn share(&self) -> Result<Http2, DialError> {
        // Held while dialing: others wait for this connection rather than making their own.
        let mut shared = self.shared.lock().await;
        shared.retain(|(connection, left)| *left > 0 && connection.is_usable());
        if let Some((connection, left)) = shared.first_mut() {
            *left -= 1;
            return Ok(connection.clone());
        }
        let connection = Http2::new(self.target.dial().await?, &self.target).await?;
        shared.push((connection.clone(), STREAMS - 1));
        Ok(connection)
    }
}

/// Gives the line back, if it is still good.
impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take()
            && line.wire.is_usable()
        {
            self.pool.idle.lock().push_back(line);
        }
    }
}
