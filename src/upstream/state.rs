//! What all workers know of a pool: health, limits, addresses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::breaker::Breaker;
use super::budget::Reserve;
use super::config::{Endpoint, PoolConfig};
use super::error::Fault;
use super::health::{Change, Health, Report};
use super::names::Addresses;

/// An endpoint, as all workers see it.
#[derive(Debug)]
pub struct EndpointState {
    pub(super) endpoint: Endpoint,
    /// `host:port`.
    label: Arc<str>,
    pub(super) addresses: Addresses,
    pub(super) health: Health,
    counts: EndpointCounts,
}

/// Totals of an endpoint.
#[derive(Debug, Default)]
struct EndpointCounts {
    ejections: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
}

impl EndpointState {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            endpoint: endpoint.clone(),
            label: endpoint.label().into(),
            addresses: Addresses::of(&endpoint.host, endpoint.port),
            health: Health::default(),
            counts: EndpointCounts::default(),
        }
    }

    /// `host:port`, its label.
    #[must_use]
    pub const fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The addresses it is at.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.addresses.now()
    }

    /// Times it was ejected.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.counts.ejections.load(Ordering::Relaxed)
    }

    /// Probes that it passed, and that it failed.
    #[must_use]
    pub fn probes(&self) -> (u64, u64) {
        (self.counts.passed.load(Ordering::Relaxed), self.counts.failed.load(Ordering::Relaxed))
    }

    /// How often its name was resolved, and could not be; none for an address.
    #[must_use]
    pub fn resolutions(&self) -> Option<(u64, u64)> {
        match &self.addresses {
            Addresses::Fixed(_) => None,
            Addresses::Followed(name) => {
                Some((name.resolved.load(Ordering::Relaxed), name.failed.load(Ordering::Relaxed)))
            }
        }
    }

    pub(super) fn probed(&self, passed: bool) {
        let count = if passed { &self.counts.passed } else { &self.counts.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pool, as all workers see it.
#[derive(Debug)]
pub struct PoolState {
    config: PoolConfig,
    endpoints: Vec<Arc<EndpointState>>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) reserve: Reserve,
    /// Held while it is decided whether one more may be ejected.
    ejecting: Mutex<()>,
    unavailable: AtomicU64,
    exhausted: AtomicU64,
}

impl PoolState {
    /// A pool of its own, that shares nothing with one before.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        Self::after(config, None)
    }

    /// A pool that keeps what is known of endpoints it shares with the one before.
    pub(super) fn after(config: PoolConfig, before: Option<&Self>) -> Self {
        let known = |endpoint: &Endpoint| {
            let same = |state: &&Arc<EndpointState>| state.endpoint == *endpoint;
            before.and_then(|before| before.endpoints.iter().find(same).cloned())
        };
        let endpoints: Vec<_> = config
            .endpoints
            .iter()
            .map(|endpoint| known(endpoint).unwrap_or_else(|| Arc::new(EndpointState::new(endpoint))))
            .collect();
        // As long as the limits are the same, what is open and runs counts on.
        let breaker = before.filter(|before| before.config.breaker == config.breaker);
        let breaker = breaker.map(|before| Arc::clone(&before.breaker));
        for endpoint in &endpoints {
            endpoint.health.forget(config.probe.is_none(), config.ejection.is_none());
        }
        Self {
            breaker: breaker.unwrap_or_else(|| Arc::new(Breaker::new(&config.breaker))),
            reserve: Reserve::new(Instant::now()),
            ejecting: Mutex::default(),
            unavailable: AtomicU64::new(before.map_or(0, Self::unavailable)),
            exhausted: AtomicU64::new(before.map_or(0, Self::exhausted)),
            endpoints,
            config,
        }
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Its endpoints, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<EndpointState>] {
        &self.endpoints
    }

    /// The health of an endpoint of this pool.
    #[must_use]
    pub fn report(&self, endpoint: &EndpointState) -> Report {
        endpoint.health.report(self.config.slow_start, Instant::now())
    }

    /// Calls that wait for a connection.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.breaker.pending()
    }

    /// Calls refused because no endpoint was healthy.
    #[must_use]
    pub fn unavailable(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed)
    }

    /// Calls refused for too many running ones, and for too many connections.
    #[must_use]
    pub fn overloaded(&self) -> [u64; 2] {
        self.breaker.refused()
    }

    /// Retries that were due and not made, because there had been too many.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    pub(super) fn refused_unavailable(&self) {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn budget_exhausted(&self) {
        self.exhausted.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has been answered.
    pub(super) fn succeeded(&self, endpoint: &EndpointState) {
        let change = endpoint.health.succeeded(Instant::now);
        self.tell(endpoint, change, "");
    }

    /// A call, or a trial, has failed by a fault of the endpoint.
    pub(super) fn failed(&self, endpoint: &EndpointState, fault: Fault, trial: bool) {
        let Some(rules) = &self.config.ejection else { return };
        let _ejecting = self.ejecting.lock();
        let now = Instant::now();
        let room = || self.may_eject(endpoint, rules.max_percent);
        let change = endpoint.health.failed(fault.as_str(), trial, rules, room, now);
        if matches!(change, Some(Change::Ejected(_))) {
            endpoint.counts.ejections.fetch_add(1, Ordering::Relaxed);
        }
        self.tell(endpoint, change, fault.as_str());
    }

    /// Whether one more may be ejected: one always, else up to the share.
    fn may_eject(&self, candidate: &EndpointState, max_percent: u32) -> bool {
        let others = self.endpoints.iter().filter(|other| !std::ptr::eq(&raw const ***other, candidate));
        let out = others.filter(|other| self.report(other).standing == super::Standing::Ejected).count() as u64;
        out == 0 || (out + 1) * 100 <= self.endpoints.len() as u64 * u64::from(max_percent)
    }

    pub(super) fn tell(&self, endpoint: &EndpointState, change: Option<Change>, reason: &str) {
        let (upstream, endpoint) = (&*self.config.name, &*endpoint.label);
        match change {
            None => {}
            Some(Change::Up) => tracing::info!(upstream, endpoint, "upstream endpoint is back"),
            Some(Change::Unhealthy) => tracing::warn!(upstream, endpoint, reason, "upstream endpoint is unhealthy"),
            Some(Change::Ejected(lasts)) => {
                tracing::warn!(upstream, endpoint, reason, ?lasts, "upstream endpoint is ejected");
            }
        }
    }
}

#[cfg(test)]
impl PoolState {
    /// How the endpoints stand, in the order of the configuration.
    pub(super) fn standings(&self) -> Vec<super::Standing> {
        self.endpoints.iter().map(|endpoint| self.report(endpoint).standing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Standing;

    fn break_down(pool: &PoolState, place: usize) {
        for _ in 0..5 {
            pool.failed(&pool.endpoints()[place], Fault::Closed, false);
        }
    }

    #[test]
    fn only_a_share_is_ejected_but_one_always() {
        for (count, percent, out) in [(1, 10, 1), (2, 50, 1), (4, 50, 2), (4, 10, 1), (3, 100, 3)] {
            let base = PoolConfig::of(count);
            let ejection =
                base.ejection.map(|rules| super::super::config::EjectionConfig { max_percent: percent, ..rules });
            let pool = PoolState::new(PoolConfig { ejection, ..base });
            (0..usize::from(count)).for_each(|place| break_down(&pool, place));
            let ejected = pool.standings().into_iter().filter(|found| *found == Standing::Ejected).count();
            assert_eq!(ejected, out, "{percent} % of {count}");
        }
    }
}
