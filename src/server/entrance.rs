//! What a connection meets at its listener before HTTP: the PROXY protocol, then TLS. Replaced while running.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::proxy_protocol::ProxyProtocol;
use super::tls::{Tls, TlsError};
use crate::config::snapshot::ListenerConfig;

/// The entrance of a listener, shared by its workers.
#[derive(Debug, Default)]
pub struct Entrance(ArcSwap<Steps>);

/// What new connections go through.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) proxy: Option<ProxyProtocol>,
    pub(super) tls: Option<Tls>,
}

impl Entrance {
    /// Reads the files that a listener names. `trusted` may speak the PROXY protocol where the listener lists nobody.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn open(config: &ListenerConfig, trusted: &[IpNet]) -> Result<Self, TlsError> {
        let proxy = config.proxy.as_ref().map(|proxy| ProxyProtocol {
            versions: proxy.versions,
            senders: proxy.senders.clone().unwrap_or_else(|| trusted.to_vec()),
        });
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        Ok(Self(ArcSwap::from_pointee(Steps { proxy, tls })))
    }

    /// Whether connections are shaken hands with.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.0.load().tls.is_some()
    }

    /// Takes the steps of another one. New connections go through them; those that are open go on.
    pub fn replace(&self, with: &Self) {
        self.0.store(with.current());
    }

    /// What the next connection goes through.
    pub(super) fn current(&self) -> Arc<Steps> {
        self.0.load_full()
    }
}
