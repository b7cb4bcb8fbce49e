//! The last token of a connection. Clients send the same token call after call: comparing it is cheaper than digesting
//! it, and nothing is shared with other connections.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::auth::{Authenticator, Epoch, Unidentified};
use crate::policy::claims::Caller;

/// Remembers one verified token. Lives no longer than the snapshot whose issuers stand for it, and is of no use once one of
/// them has given up a key.
#[derive(Default)]
pub struct TokenMemo(Mutex<Option<Remembered>>);

struct Remembered {
    token: Box<str>,
    caller: Arc<Caller>,
    epoch: Epoch,
}

impl TokenMemo {
    /// The caller `token` speaks of, as far as is known without asking. Its times are not judged here.
    ///
    /// # Errors
    /// [`Unidentified`].
    pub fn recall(&self, auth: &Authenticator, token: &str) -> Result<Arc<Caller>, Unidentified> {
        let epoch = auth.epoch();
        let mut memo = self.0.lock();
        if let Some(remembered) = &*memo
            && remembered.epoch == epoch
            && *remembered.token == *token
        {
            return Ok(Arc::clone(&remembered.caller));
        }
        let caller = auth.recall(token)?;
        if auth.asks_about(token) {
            return Ok(caller);
        }
        *memo = Some(Remembered { token: token.into(), caller: Arc::clone(&caller), epoch });
        Ok(caller)
    }
}

/// Shows whether there is a token, never which.
impl std::fmt::Debug for TokenMemo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenMemo").field(&self.0.lock().is_some()).finish()
    }
}
