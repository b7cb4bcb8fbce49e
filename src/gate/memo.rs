//! The last token of a connection. Clients send the same token call after call: comparing it is cheaper than digesting
//! it, and nothing is shared with other connections.

use parking_lot::Mutex;

use crate::config::Snapshot;
use crate::policy::clients::Registered;
use crate::policy::rejection::Rejection;

/// Remembers one verified token and what the registry of clients makes of it. Lives no longer than the snapshot whose
/// keys verified it.
#[derive(Default)]
pub struct TokenMemo(Mutex<Option<Remembered>>);

struct Remembered {
    token: Box<str>,
    /// That of the registry.
    generation: u64,
    registered: Registered,
}

impl TokenMemo {
    /// The caller `token` speaks of, as the registry has its client now. Its times are not judged here.
    ///
    /// # Errors
    /// `token-invalid`.
    pub fn identify(&self, live: &Snapshot, token: &str) -> Result<Registered, Rejection> {
        let registry = live.clients.as_ref();
        // Read before the clients are: what is remembered may be newer than this says, never older.
        let generation = registry.map_or(0, |registry| registry.generation());
        let mut memo = self.0.lock();
        if let Some(remembered) = &*memo
            && remembered.generation == generation
            && *remembered.token == *token
        {
            return Ok(remembered.registered.clone());
        }
        let caller = live.auth.identify(token)?;
        let registered = match registry {
            Some(registry) => registry.clients().register(caller, live.auth.scopes()),
            None => Registered::unlisted(caller),
        };
        *memo = Some(Remembered { token: token.into(), generation, registered: registered.clone() });
        Ok(registered)
    }
}

/// Shows whether there is a token, never which.
impl std::fmt::Debug for TokenMemo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenMemo").field(&self.0.lock().is_some()).finish()
    }
}
