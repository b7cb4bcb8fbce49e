//! Sessions at rest: the contract of a store, and the list of stores.
//!
//! | store | an acknowledged opening survives | seen by |
//! |---|---|---|
//! | [`memory`] | the process: no | one gate |
//!
//! Every store promises:
//! - an ended session is never found live again; it stays findable by its key as its own tombstone for a while;
//! - visits to one session take effect one after another, and a refused visit changes nothing;
//! - of two openings with the same Idempotency-Key and payload, one opens and the other finds;
//! - a cap on live sessions is never exceeded, and never makes room by ending a session.

pub mod answers;
pub mod memory;

#[cfg(test)]
mod contract;

use std::sync::Arc;

use crate::policy::clients::Clients;
use crate::policy::flow::Flow;
use crate::policy::ids::{Owner, SessionId, SessionKey};
use crate::policy::rejection::Rejection;
use crate::policy::session::{EndCause, Lifetimes, Progress, Session, Standing};
use crate::policy::time::Timestamp;

/// What makes a repeated opening safe.
#[derive(Debug, Clone, Copy)]
pub struct IdempotentOpening {
    /// Digest of the owner and the Idempotency-Key.
    pub name: [u8; 32],
    /// Digest of the payload.
    pub payload: [u8; 32],
    /// When the name is forgotten.
    pub until: Timestamp,
}

/// A session that is to be opened.
#[derive(Debug)]
pub struct Opening {
    /// Its id, drawn by the caller.
    pub id: SessionId,
    /// Who opens it.
    pub owner: Arc<Owner>,
    /// The scopes of the token it is opened with.
    pub scope: Arc<str>,
    /// How long it lives.
    pub lifetimes: Lifetimes,
    /// Most live sessions its client may have.
    pub cap: Option<u32>,
    /// The flow it follows.
    pub flow: Option<Arc<Flow>>,
    /// Its idempotency, if the client asked for it.
    pub idempotent: Option<IdempotentOpening>,
}

/// A session that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub id: SessionId,
    /// The session.
    pub session: Arc<Session>,
    /// Whether an earlier opening is repeated.
    pub replayed: bool,
}

/// Which sessions an operator means; all given parts must fit.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// This one.
    pub key: Option<SessionKey>,
    /// Those of this client.
    pub client: Option<Box<str>>,
    /// Those of this subject.
    pub subject: Option<Box<str>>,
    /// Those opened before this moment.
    pub issued_before: Option<Timestamp>,
    /// Those that are live, suspended, or ended in this way. An expiry counts once the sweeper has come by.
    pub standing: Option<Standing>,
    /// Those whose client these do not allow.
    pub barred_by: Option<Arc<Clients>>,
}

impl Selector {
    /// Whether `session` is meant.
    #[must_use]
    pub fn selects(&self, session: &Session) -> bool {
        let owner = session.owner();
        self.key.is_none_or(|key| key == session.key())
            && self.client.as_deref().is_none_or(|client| client == owner.client.as_str())
            && (self.subject.is_none() || self.subject == owner.subject)
            && self.issued_before.is_none_or(|moment| session.opened() < moment)
            && self.standing.is_none_or(|standing| standing == session.settled_standing())
            && self.barred_by.as_ref().is_none_or(|clients| !clients.allow(owner.client.as_str()))
    }
}

/// What every store does. All times are steady.
pub trait SessionStore {
    /// Opens a session, or finds the one that an earlier opening with the same Idempotency-Key made.
    ///
    /// # Errors
    /// `session-limit` at the cap, `idempotency-key-reused` for another payload.
    fn open(&self, opening: Opening, now: Timestamp) -> impl Future<Output = Result<Opened, Rejection>> + Send;

    /// The session named by `key`, ended ones included while they are remembered.
    ///
    /// # Errors
    /// None in memory; a remote store may be out of reach.
    fn find(&self, key: SessionKey) -> impl Future<Output = Result<Option<Arc<Session>>, Rejection>> + Send;

    /// One atomic visit to what changes in a session. `visit` may run more than once; it gets a copy that replaces the
    /// original only if it agrees.
    ///
    /// # Errors
    /// `session-not-found`, or whatever `visit` refuses with.
    fn transact<T: Send>(
        &self,
        key: SessionKey,
        visit: impl Fn(&mut Progress) -> Result<T, Rejection> + Send,
        now: Timestamp,
    ) -> impl Future<Output = Result<T, Rejection>> + Send;

    /// Writes down what became of a step: `visit` agrees always. Nobody waits for it, for who would is perhaps gone; a
    /// remote store puts it in a queue.
    fn settle(&self, session: &Session, visit: impl FnOnce(&mut Progress) + Send);

    /// Ends a session, if it has not ended yet. Says whether it did.
    ///
    /// # Errors
    /// None in memory; a remote store may be out of reach.
    fn end(
        &self,
        key: SessionKey,
        cause: EndCause,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, Rejection>> + Send;

    /// Up to `limit` selected sessions in the order of their keys, beginning behind `after`.
    ///
    /// # Errors
    /// None in memory; a remote store may be out of reach.
    fn list(
        &self,
        selector: &Selector,
        after: Option<SessionKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Arc<Session>>, Rejection>> + Send;
}

/// The list of stores.
#[derive(Debug)]
pub enum AnyStore {
    /// In this process.
    Memory(memory::MemoryStore),
}

impl SessionStore for AnyStore {
    async fn open(&self, opening: Opening, now: Timestamp) -> Result<Opened, Rejection> {
        match self {
            Self::Memory(store) => store.open(opening, now).await,
        }
    }

    async fn find(&self, key: SessionKey) -> Result<Option<Arc<Session>>, Rejection> {
        match self {
            Self::Memory(store) => store.find(key).await,
        }
    }

    async fn transact<T: Send>(
        &self,
        key: SessionKey,
        visit: impl Fn(&mut Progress) -> Result<T, Rejection> + Send,
        now: Timestamp,
    ) -> Result<T, Rejection> {
        match self {
            Self::Memory(store) => store.transact(key, visit, now).await,
        }
    }

    fn settle(&self, session: &Session, visit: impl FnOnce(&mut Progress) + Send) {
        match self {
            Self::Memory(store) => store.settle(session, visit),
        }
    }

    async fn end(&self, key: SessionKey, cause: EndCause, now: Timestamp) -> Result<bool, Rejection> {
        match self {
            Self::Memory(store) => store.end(key, cause, now).await,
        }
    }

    async fn list(
        &self,
        selector: &Selector,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<Arc<Session>>, Rejection> {
        match self {
            Self::Memory(store) => store.list(selector, after, limit).await,
        }
    }
}
