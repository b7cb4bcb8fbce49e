//! What is known of issuers in this process, and what is done for them in the background. It outlives reloads.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Authenticator;
use super::key_set::KeySet;

/// The issuers of the process.
#[derive(Debug, Default)]
pub struct Issuers {
    key_sets: Mutex<Vec<Arc<KeySet>>>,
    changed: Notify,
}

impl Issuers {
    /// Lets `auth`, which is about to be put in force, go on with what is known.
    pub fn adopt(&self, auth: &mut Authenticator) {
        let mut known = self.key_sets.lock();
        auth.adopt(&known);
        *known = auth.key_sets().to_vec();
        self.changed.notify_one();
    }

    /// Keeps key sets up to date, for ever.
    pub async fn supervise(&self) {
        let mut tasks: Vec<(Arc<KeySet>, AbortOnDropHandle<()>)> = Vec::new();
        loop {
            let wanted = self.key_sets.lock().clone();
            tasks.retain(|(set, _)| wanted.iter().any(|wanted| Arc::ptr_eq(wanted, set)));
            for set in wanted {
                if !tasks.iter().any(|(known, _)| Arc::ptr_eq(known, &set)) {
                    let task = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&set).keep()));
                    tasks.push((set, task));
                }
            }
            self.changed.notified().await;
        }
    }
}
