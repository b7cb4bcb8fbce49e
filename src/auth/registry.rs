//! What is known of issuers in this process, and what is done for them in the background. It outlives reloads.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Authenticator;
use super::introspection::Introspection;
use super::key_set::KeySet;

/// The issuers of the process.
#[derive(Debug, Default)]
pub struct Issuers {
    current: Mutex<Vec<Duty>>,
    changed: Notify,
}

/// What is done in the background.
#[derive(Debug, Clone)]
enum Duty {
    Keep(Arc<KeySet>),
    Ask(Arc<Introspection>),
}

impl Issuers {
    /// Lets `auth`, which is about to be put in force, go on with what is known.
    pub fn adopt(&self, auth: &mut Authenticator) {
        let mut current = self.current.lock();
        let (mut sets, mut asked) = (Vec::new(), Vec::new());
        for duty in current.drain(..) {
            match duty {
                Duty::Keep(set) => sets.push(set),
                Duty::Ask(introspection) => asked.push(introspection),
            }
        }
        auth.adopt(&sets, &asked);
        let keep = auth.key_sets().iter().cloned().map(Duty::Keep);
        *current = keep.chain(auth.introspections().cloned().map(Duty::Ask)).collect();
        self.changed.notify_one();
    }

    /// Keeps key sets up to date and asks about tokens, for ever.
    pub async fn supervise(&self) {
        let mut tasks: Vec<(Duty, AbortOnDropHandle<()>)> = Vec::new();
        loop {
            let wanted = self.current.lock().clone();
            tasks.retain(|(duty, _)| wanted.contains(duty));
            for duty in wanted {
                if !tasks.iter().any(|(known, _)| *known == duty) {
                    let task = AbortOnDropHandle::new(tokio::spawn(duty.clone().run()));
                    tasks.push((duty, task));
                }
            }
            self.changed.notified().await;
        }
    }
}

impl PartialEq for Duty {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Keep(set), Self::Keep(other)) => Arc::ptr_eq(set, other),
            (Self::Ask(introspection), Self::Ask(other)) => Arc::ptr_eq(introspection, other),
            (Self::Keep(_), Self::Ask(_)) | (Self::Ask(_), Self::Keep(_)) => false,
        }
    }
}

impl Duty {
    async fn run(self) {
        match self {
            Self::Keep(set) => set.keep().await,
            Self::Ask(introspection) => introspection.serve().await,
        }
    }
}
