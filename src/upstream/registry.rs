//! The pools of the process, and what is done for them in the background. What is known of endpoints outlives reloads where a
//! pool keeps its name and an endpoint its address.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::config::PoolConfig;
use super::names::{Addresses, ResolverConfig};
use super::probe;
use super::state::{EndpointState, PoolState};

/// The pools of the process.
#[derive(Debug, Default)]
pub struct Upstreams {
    current: Mutex<Current>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Current {
    generation: u64,
    pools: Vec<Arc<PoolState>>,
    resolver: ResolverConfig,
}

impl Upstreams {
    /// The pools for these configurations, in their order: those there are, while their configuration stays the same;
    /// of one that changed, the endpoints that did not. A generation that has been overtaken changes nothing for others.
    pub fn resolve(&self, generation: u64, wanted: &[PoolConfig], resolver: &ResolverConfig) -> Vec<Arc<PoolState>> {
        let mut current = self.current.lock();
        let state = |config: &PoolConfig| {
            let before = current.pools.iter().find(|pool| pool.config().name == config.name);
            match before {
                Some(before) if before.config() == config => Arc::clone(before),
                before => Arc::new(PoolState::after(config.clone(), before.map(|pool| &**pool))),
            }
        };
        let pools: Vec<_> = wanted.iter().map(state).collect();
        if generation > current.generation {
            *current = Current { generation, pools: pools.clone(), resolver: resolver.clone() };
            self.changed.notify_one();
        }
        pools
    }

    /// All pools in use.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<PoolState>> {
        self.current.lock().pools.clone()
    }

    /// Probes endpoints and follows names, for ever.
    pub async fn supervise(&self) {
        let mut tasks: Vec<(Duty, Task)> = Vec::new();
        loop {
            let wanted = self.duties();
            tasks.retain(|(duty, _)| wanted.contains(duty));
            for duty in wanted {
                if !tasks.iter().any(|(known, _)| *known == duty) {
                    let task = Task(tokio::spawn(duty.clone().run()));
                    tasks.push((duty, task));
                }
            }
            self.changed.notified().await;
        }
    }

    fn duties(&self) -> Vec<Duty> {
        let current = self.current.lock();
        let mut duties = Vec::new();
        for pool in &current.pools {
            for endpoint in pool.endpoints() {
                if pool.config().probe.is_some() {
                    duties.push(Duty::Probe(Arc::clone(pool), Arc::clone(endpoint)));
                }
                if matches!(endpoint.addresses, Addresses::Followed(_)) {
                    duties.push(Duty::Follow(Arc::clone(endpoint), current.resolver.clone()));
                }
            }
        }
        duties
    }
}

/// What is done in the background.
#[derive(Debug, Clone)]
enum Duty {
    Probe(Arc<PoolState>, Arc<EndpointState>),
    Follow(Arc<EndpointState>, ResolverConfig),
}

impl PartialEq for Duty {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Probe(pool, endpoint), Self::Probe(other, at)) => {
                Arc::ptr_eq(pool, other) && Arc::ptr_eq(endpoint, at)
            }
            (Self::Follow(endpoint, config), Self::Follow(other, with)) => {
                Arc::ptr_eq(endpoint, other) && config == with
            }
            (Self::Probe(..), Self::Follow(..)) | (Self::Follow(..), Self::Probe(..)) => false,
        }
    }
}

impl Duty {
    async fn run(self) {
        match self {
            Self::Probe(pool, endpoint) => probe::run(&pool, &endpoint).await,
            Self::Follow(endpoint, config) => {
                if let Addresses::Followed(name) = &endpoint.addresses {
                    name.follow(&config).await;
                }
            }
        }
    }
}

/// Ends with its handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::Standing;
    use crate::upstream::error::Fault;

    #[test]
    fn what_runs_counts_after_a_reload() {
        let upstreams = Upstreams::default();
        let resolve = |generation, config: &PoolConfig| {
            upstreams.resolve(generation, std::slice::from_ref(config), &ResolverConfig::default())[0].clone()
        };
        let mut config = PoolConfig::of(1);
        config.breaker.max_requests = std::num::NonZeroU32::new(1);
        let before = resolve(1, &config);
        let running = before.breaker.call().unwrap();
        let changed = PoolConfig { connect_timeout: Duration::from_secs(1), ..config };
        let after = resolve(2, &changed);
        assert!(!Arc::ptr_eq(&before, &after) && after.breaker.call().is_err());
        assert_eq!(after.overloaded(), [1, 0]);
        drop(running);
        assert!(after.breaker.call().is_ok());
    }

    #[test]
    fn health_outlives_a_reload() {
        let upstreams = Upstreams::default();
        let resolve = |generation, config: &PoolConfig| {
            upstreams.resolve(generation, std::slice::from_ref(config), &ResolverConfig::default())[0].clone()
        };
        let before = resolve(1, &PoolConfig::of(2));
        for _ in 0..5 {
            before.failed(&before.endpoints()[0], Fault::Closed, false);
        }
        assert!(Arc::ptr_eq(&before, &resolve(2, &PoolConfig::of(2))), "nothing changed");
        let changed = PoolConfig { connect_timeout: Duration::from_secs(1), ..PoolConfig::of(3) };
        let after = resolve(3, &changed);
        assert_eq!(after.standings(), [Standing::Ejected, Standing::Healthy, Standing::Healthy]);
        let off = PoolConfig { ejection: None, ..PoolConfig::of(3) };
        assert_eq!(resolve(4, &off).standings(), [Standing::Healthy; 3], "nothing would bring it back");
        resolve(2, &PoolConfig::of(1));
        assert_eq!(upstreams.all()[0].config(), &off, "who comes late changes nothing");
    }
}
