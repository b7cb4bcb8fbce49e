//! The last token of a connection. Clients send the same token call after call: comparing it is cheaper than digesting
//! it, and nothing is shared with other connections.

use parking_lot::Mutex;

use crate::auth::{Epoch, Unidentified};
use crate::config::Snapshot;
use crate::policy::clients::Registered;

/// Remembers one verified token and what the registry of clients makes of it. Lives no longer than the snapshot whose
/// issuers stand for it, and is of no use once one of them has given up a key or the registry has changed.
#[derive(Default)]
pub struct TokenMemo(Mutex<Option<Remembered>>);

struct Remembered {
    token: Box<str>,
    epoch: Epoch,
    /// That of the registry.
    generation: u64,
    registered: Registered,
}

impl TokenMemo {
    /// The caller `token` speaks of, as far as is known without asking, as the registry has its client now. Its times are
    /// not judged here.
    ///
    /// # Errors
    /// [`Unidentified`].
    pub fn recall(&self, live: &Snapshot, token: &str) -> Result<Registered, Unidentified> {
        // Read before keys and clients are: what is remembered may be newer than these say, never older.
        let epoch = live.auth.epoch();
        let generation = live.clients.as_ref().map_or(0, |registry| registry.generation());
        let mut memo = self.0.lock();
        if let Some(remembered) = &*memo
            && remembered.epoch == epoch
            && remembered.generation == generation
            && *remembered.token == *token
        {
            return Ok(remembered.registered.clone());
        }
        let registered = live.register(live.auth.recall(token)?);
        // What an issuer said of a token lasts only for a while.
        if !live.auth.asks_about(token) {
            *memo = Some(Remembered { token: token.into(), epoch, generation, registered: registered.clone() });
        }
        Ok(registered)
    }
}

/// Shows whether there is a token, never which.
impl std::fmt::Debug for TokenMemo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenMemo").field(&self.0.lock().is_some()).finish()
    }
}
