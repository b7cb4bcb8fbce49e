//! What a reload cannot change.

use super::snapshot::{ListenerConfig, Snapshot};

impl Snapshot {
    /// The keys in which `next` differs from what this process was started with, and which it cannot change while it
    /// runs: a reload takes everything else and says these need a restart.
    #[must_use]
    pub fn changes_needing_restart(&self, next: &Self) -> Vec<&'static str> {
        // Certificates are read again at a reload; whether there is TLS at all is fixed with the socket.
        let sockets = |listeners: &[ListenerConfig]| -> Vec<_> {
            listeners.iter().map(|listener| (listener.address, listener.tls.is_some())).collect()
        };
        let admin = |snapshot: &Self| snapshot.admin.as_ref().map(|admin| admin.address);
        [
            (self.workers != next.workers, "server.workers"),
            (sockets(&self.listeners) != sockets(&next.listeners), "listeners"),
            (admin(self) != admin(next), "admin.address"),
            (self.logs.access != next.logs.access, "logs.access"),
            (self.logs.format != next.logs.format, "logs.format"),
            (self.logs.clear_session_ids != next.logs.clear_session_ids, "logs.session_id"),
        ]
        .into_iter()
        .filter_map(|(differs, key)| differs.then_some(key))
        .collect()
    }
}
