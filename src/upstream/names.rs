//! The addresses of endpoints. An IP address is what it is; a name is resolved in the background and followed with its
//! TTL, and calls only read what was found last.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig as Servers, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Name servers; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Longest time to an answer of one server.
    pub timeout: Duration,
    /// An answer is good for at least so long,
    pub min_ttl: Duration,
    /// and for at most so long.
    pub max_ttl: Duration,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
        }
    }
}

/// Where an endpoint is.
#[derive(Debug)]
pub(super) enum Addresses {
    /// At these, always.
    Fixed(Vec<SocketAddr>),
    /// Where its name leads.
    Followed(Followed),
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// The first answer is not there yet.
    Nothing,
    /// There was never an answer with an address.
    Failed,
    /// The last good answer.
    At(Arc<[SocketAddr]>),
}

/// A name and what is known of it.
#[derive(Debug)]
pub(super) struct Followed {
    name: Box<str>,
    port: u16,
    known: watch::Sender<Known>,
    turn: AtomicUsize,
    /// Addresses that could not be reached when they were tried last: they are tried after the others.
    unreached: Mutex<Vec<SocketAddr>>,
    pub(super) resolved: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Addresses {
    pub(super) fn of(host: &str, port: u16) -> Self {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Self::Fixed(vec![SocketAddr::new(ip, port)]);
        }
        // RFC 6761 section 6.3: it needs no name server.
        if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Self::Fixed(local.map(|ip| SocketAddr::new(ip, port)).to_vec());
        }
        Self::Followed(Followed {
            name: host.into(),
            port,
            known: watch::Sender::new(Known::Nothing),
            turn: AtomicUsize::new(0),
            unreached: Mutex::default(),
            resolved: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Whether the endpoint is still at this address.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Followed(followed) => match &*followed.known.borrow() {
                Known::At(addresses) => addresses.contains(&address),
                Known::Nothing | Known::Failed => true,
            },
        }
    }

    /// All that are known now.
    pub(super) fn now(&self) -> Vec<SocketAddr> {
        match self {
            Self::Fixed(addresses) => addresses.clone(),
            Self::Followed(followed) => match &*followed.known.borrow() {
                Known::At(addresses) => addresses.to_vec(),
                Known::Nothing | Known::Failed => Vec::new(),
            },
        }
    }

    /// All, in the order in which a connection tries them; empty if the name does not resolve. Waits only for the very
    /// first answer.
    pub(super) async fn to_try(&self) -> Vec<SocketAddr> {
        let Self::Followed(followed) = self else { return self.now() };
        let mut known = followed.known.subscribe();
        // The sender lives as long as this.
        _ = known.wait_for(|known| *known != Known::Nothing).await;
        let mut addresses = self.now();
        if let Some(first) = followed.turn.fetch_add(1, Ordering::Relaxed).checked_rem(addresses.len()) {
            addresses.rotate_left(first);
        }
        let unreached = followed.unreached.lock();
        if !unreached.is_empty() {
            addresses.sort_by_key(|address| unreached.contains(address));
        }
        addresses
    }

    /// Remembers whether an address could be reached.
    pub(super) fn tried(&self, address: SocketAddr, reached: bool) {
        let Self::Followed(followed) = self else { return };
        let mut unreached = followed.unreached.lock();
        unreached.retain(|known| *known != address);
        if !reached {
            unreached.push(address);
        }
    }
}

impl Followed {
    /// Follows the name until it is dropped.
    pub(super) async fn follow(&self, config: &ResolverConfig) {
        let mut failures: u32 = 0;
        loop {
            let wait = match self.resolve(config).await {
                Ok((addresses, ttl)) => {
                    failures = 0;
                    self.found(addresses);
                    ttl.clamp(config.min_ttl, config.max_ttl)
                }
                Err(reason) => {
                    failures = failures.saturating_add(1);
                    self.missed(&reason, failures);
                    config.min_ttl.saturating_mul(1 << failures.min(5)).min(config.max_ttl)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn resolve(&self, config: &ResolverConfig) -> Result<(Vec<IpAddr>, Duration), String> {
        // Made anew each time, so that changes of resolv.conf and hosts are seen without a reload.
        let resolver = resolver(config).map_err(|error| error.to_string())?;
        let answer = resolver.lookup_ip(&*self.name).await.map_err(|error| error.to_string())?;
        let ttl = answer.valid_until().saturating_duration_since(Instant::now());
        // Sorted, so that the order of an answer is not taken for news.
        let mut addresses: Vec<_> = answer.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok((addresses, ttl)) }
    }

    fn found(&self, addresses: Vec<IpAddr>) {
        self.resolved.fetch_add(1, Ordering::Relaxed);
        let addresses: Arc<[_]> = addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect();
        let next = Known::At(addresses);
        let changed = self.known.send_if_modified(|known| {
            let changed = *known != next;
            *known = next;
            changed
        });
        if changed {
            self.unreached.lock().clear();
            tracing::info!(name = &*self.name, addresses = ?&*self.known.borrow(), "upstream name resolved");
        }
    }

    fn missed(&self, reason: &str, failures: u32) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let never = self.known.send_if_modified(|known| {
            let never = *known == Known::Nothing;
            if never {
                *known = Known::Failed;
            }
            never
        });
        // Not each time: it may last.
        if never || failures.is_power_of_two() {
            tracing::warn!(
                name = &*self.name,
                reason,
                failures,
                "upstream name cannot be resolved; the addresses known last stay in use"
            );
        }
    }
}

fn resolver(config: &ResolverConfig) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = if config.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = config.servers.iter().map(|server| {
            let mut one = NameServerConfig::udp_and_tcp(server.ip());
            one.connections.iter_mut().for_each(|connection| connection.port = server.port());
            one
        });
        let servers = Servers::from_parts(None, Vec::new(), servers.collect());
        Resolver::builder_with_config(servers, TokioRuntimeProvider::default())
    };
    let options: &mut ResolverOpts = builder.options_mut();
    // What was found is kept here.
    options.cache_size = 0;
    options.timeout = config.timeout;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_name_server() {
        for (host, first) in [("10.0.0.5", "10.0.0.5:80"), ("::1", "[::1]:80"), ("LocalHost", "127.0.0.1:80")] {
            let addresses = Addresses::of(host, 80);
            assert_eq!(addresses.to_try().await[0], address(first));
            assert!(matches!(addresses, Addresses::Fixed(_)));
        }
    }

    #[tokio::test]
    async fn a_name_keeps_its_last_good_addresses() {
        let addresses = Addresses::of("orders.internal", 80);
        let Addresses::Followed(followed) = &addresses else { panic!("{addresses:?}") };
        assert!(addresses.has(address("10.0.0.9:80")), "nothing is known to be gone");
        followed.missed("SERVFAIL", 1);
        assert!(addresses.to_try().await.is_empty());
        followed.found(vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()]);
        followed.missed("SERVFAIL", 1);
        assert_eq!(addresses.now().len(), 2);
        followed.found(vec!["10.0.0.2".parse().unwrap()]);
        assert!(addresses.has(address("10.0.0.2:80")) && !addresses.has(address("10.0.0.1:80")));
    }

    #[tokio::test]
    async fn addresses_are_tried_in_turn_and_those_out_of_reach_last() {
        let addresses = Addresses::of("orders.internal", 80);
        let Addresses::Followed(followed) = &addresses else { panic!("{addresses:?}") };
        followed.found(["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec());
        let (first, second) = (addresses.to_try().await[0], addresses.to_try().await[0]);
        assert_ne!(first, second);
        addresses.tried(first, false);
        for _ in 0..3 {
            assert_eq!(addresses.to_try().await, [second, first]);
        }
        addresses.tried(first, true);
        assert_ne!(addresses.to_try().await[0], addresses.to_try().await[0]);
    }
}
