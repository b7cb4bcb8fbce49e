//! Keeps the registry of clients current, and the sessions in line with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::config::Live;
use crate::config::clients::Registry;
use crate::gate::Gate;
use crate::policy::clients::Clients;
use crate::store::Selector;

/// How often the registry of clients is looked at. A change is taken at the second look that finds it.
const LOOK: Duration = Duration::from_millis(250);

/// Reads the registry of clients again when it has changed, and ends the sessions of those that are barred, whether by
/// that or by a reload of the configuration.
pub(super) async fn keep(gate: Arc<Gate>, live: Arc<Live>) {
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut enforced: Option<Arc<Clients>> = None;
    loop {
        interval.tick().await;
        let snapshot = live.snapshot();
        if snapshot.clients.as_ref().is_some_and(Registry::has_changed) {
            let snapshot = Arc::clone(&snapshot);
            // A long registry takes a while, and this thread has other duties.
            _ = tokio::task::spawn_blocking(move || snapshot.clients.as_ref().map(reload)).await;
        }
        let clients = snapshot.clients.as_ref().map(Registry::snapshot);
        let same = enforced.as_ref().map(Arc::as_ptr) == clients.as_ref().map(Arc::as_ptr);
        if !same
            && let Some(clients) = &clients
            && !enforced.is_some_and(|before| before.all_allowed_by(clients))
        {
            let barred = Selector { barred_by: Some(Arc::clone(clients)), ..Selector::default() };
            match gate.revoke(&barred).await {
                Ok(0) => {}
                Ok(revoked) => tracing::info!(revoked, "sessions of barred clients revoked"),
                Err(rejection) => {
                    tracing::error!(code = rejection.code(), "sessions of barred clients cannot be revoked");
                    // At the next look again.
                    enforced = None;
                    continue;
                }
            }
        }
        enforced = clients;
    }
}

fn reload(registry: &Registry) {
    let path = registry.path().display();
    match registry.reload() {
        Ok(()) => tracing::info!(%path, clients = registry.clients().len(), "registry of clients reloaded"),
        Err(reason) => {
            let reason = &*reason;
            tracing::error!(%path, reason, "registry of clients refused; the one before stays in force");
        }
    }
}
