//! The last token of a connection. Clients send the same token call after call: comparing it is cheaper than digesting
//! it, and nothing is shared with other connections.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::auth::Authenticator;
use crate::policy::claims::Caller;
use crate::policy::rejection::Rejection;

/// Remembers one verified token. Lives no longer than the snapshot whose keys verified it.
#[derive(Default)]
pub struct TokenMemo(Mutex<Option<(Box<str>, Arc<Caller>)>>);

impl TokenMemo {
    /// The caller `token` speaks of. Its times are not judged here.
    ///
    /// # Errors
    /// `token-invalid`.
    pub fn identify(&self, auth: &Authenticator, token: &str) -> Result<Arc<Caller>, Rejection> {
        let mut memo = self.0.lock();
        if let Some((remembered, caller)) = &*memo
            && **remembered == *token
        {
            return Ok(Arc::clone(caller));
        }
        let caller = auth.identify(token)?;
        *memo = Some((token.into(), Arc::clone(&caller)));
        Ok(caller)
    }
}

/// Shows whether there is a token, never which.
impl std::fmt::Debug for TokenMemo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenMemo").field(&self.0.lock().is_some()).finish()
    }
}
