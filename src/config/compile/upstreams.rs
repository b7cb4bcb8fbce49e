//! Upstreams to pools.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use url::{Host, Url};

use crate::config::raw::{At, BalanceName, Ejection, File, HealthCheck, HostAction, Period, Resolver, Upstream};
use crate::policy::route::PoolId;
use crate::policy::target;
use crate::upstream::config::{Balance, BreakerConfig, BudgetConfig, EjectionConfig, ProbeConfig};
use crate::upstream::{Endpoint, HostField, PoolConfig, ResolverConfig};

use super::context::Context;
use super::transport::transport;

/// Largest weight of an endpoint.
const WEIGHT_MAX: u32 = 1000;

/// Calls that may wait for a connection where nothing is said.
const PENDING: u32 = 1024;

/// The names of all upstreams, to be looked up by routes.
pub(super) struct PoolNames<'f> {
    names: Vec<&'f str>,
    /// Whether some upstream has no name that could be read: then an unknown name may be that one.
    complete: bool,
}

impl<'f> PoolNames<'f> {
    /// The pool named so.
    pub(super) fn find(&self, name: &str) -> Option<PoolId> {
        self.names.iter().position(|known| *known == name).map(PoolId)
    }

    /// All names.
    pub(super) fn all(&self) -> impl Iterator<Item = &'f str> {
        self.names.iter().copied()
    }

    /// Whether a name that is not here is surely wrong.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }
}

pub(super) fn pools<'f>(cx: &mut Context<'_>, file: &'f File) -> (Vec<PoolConfig>, PoolNames<'f>) {
    if file.upstreams.is_empty() {
        cx.missing(0..0, "upstreams", "there is no upstream", "add [[upstreams]] with a name and endpoints");
    }
    let mut names = PoolNames { names: Vec::new(), complete: !file.upstreams.is_empty() };
    let mut pools = Vec::with_capacity(file.upstreams.len());
    for upstream in &file.upstreams {
        let name = cx.name("upstream", upstream.name.as_ref(), upstream.span(), "orders", &names.names);
        match name {
            Some(name) => names.names.push(name),
            None => names.complete = false,
        }
        if upstream.endpoints.is_empty() {
            let hint = "write endpoints = [\"http://host:port\"]";
            cx.missing(upstream.span(), "endpoints", "the upstream has no endpoint", hint);
        }
        pools.push(pool(cx, upstream, name.unwrap_or_default()));
    }
    (pools, names)
}

fn pool(cx: &mut Context<'_>, upstream: &Upstream, name: &str) -> PoolConfig {
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(upstream.endpoints.len());
    let mut weights = Vec::with_capacity(upstream.endpoints.len());
    for server in &upstream.endpoints {
        if !(1..=WEIGHT_MAX).contains(&server.weight) {
            let allowed = format!("allowed: 1 to {WEIGHT_MAX}");
            cx.mistake_hint(server.span(), format!("the weight {} is out of range", server.weight), allowed);
        }
        let endpoint = match parse(&server.url) {
            Ok(endpoint) => endpoint,
            Err((message, hint)) => {
                cx.mistake_hint(server.span(), format!("{:?} {message}", server.url), hint);
                continue;
            }
        };
        if endpoints.contains(&endpoint) {
            cx.mistake(server.span(), format!("{:?} is listed twice", server.url));
        }
        endpoints.push(endpoint);
        weights.push(server.weight);
    }
    let transport = transport(cx, upstream, &endpoints);
    PoolConfig {
        name: Arc::from(name),
        endpoints,
        weights,
        balance: match upstream.balance {
            BalanceName::RoundRobin => Balance::RoundRobin,
            BalanceName::LeastRequests => Balance::LeastRequests,
            BalanceName::RingHash => Balance::RingHash,
        },
        connect_timeout: cx.timeout(&upstream.connect_timeout),
        response_timeout: cx.timeout(&upstream.response_timeout),
        total_timeout: cx.limit(&upstream.total_timeout),
        stall_timeout: cx.limit(&upstream.stall_timeout),
        idle_timeout: cx.timeout(&upstream.idle_timeout),
        max_idle: usize::try_from(upstream.max_idle.get()).unwrap_or(usize::MAX),
        host: match upstream.host {
            HostAction::Preserve => HostField::Preserve,
            HostAction::Endpoint => HostField::Endpoint,
        },
        probe: upstream.health.as_ref().map(|health| probe(cx, health)),
        ejection: ejection(cx, &upstream.ejection),
        slow_start: cx.within(&upstream.slow_start, Period::secs(0)..=Period::secs(3600)).0,
        breaker: breaker(cx, upstream),
        budget: BudgetConfig {
            percent: cx.within(&upstream.retry_budget.percent, 0..=100),
            min_per_second: *upstream.retry_budget.min_per_second,
        },
        transport,
    }
}

fn breaker(cx: &mut Context<'_>, upstream: &Upstream) -> BreakerConfig {
    if let (Some(pending), None) = (&upstream.max_pending, &upstream.max_connections) {
        let hint = "set max_connections, or remove this";
        cx.mistake_hint(pending.span(), "no call waits where the connections have no limit", hint);
    }
    let limit = |most: &Option<At<NonZeroU32>>| most.as_ref().map(|most| **most);
    BreakerConfig {
        max_connections: limit(&upstream.max_connections),
        max_requests: limit(&upstream.max_requests),
        max_pending: upstream.max_pending.as_ref().map_or(PENDING, |most| **most),
    }
}

fn probe(cx: &mut Context<'_>, health: &HealthCheck) -> ProbeConfig {
    let path = &health.path;
    let plain = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let target = PathAndQuery::try_from(path.as_str()).ok().filter(|_| plain).unwrap_or_else(|| {
        let hint = "write it as it is sent, like \"/healthz\"";
        cx.mistake_hint(path.span(), format!("{:?} is not a path", &**path), hint);
        PathAndQuery::from_static("/")
    });
    let host = health.host.as_ref().and_then(|host| {
        let value = HeaderValue::from_str(host).ok().filter(|_| target::is_host(host.as_bytes()));
        if value.is_none() {
            cx.mistake(host.span(), format!("{:?} is not a host", &**host));
        }
        value
    });
    let interval = cx.within(&health.interval, Period(Duration::from_millis(100))..=Period::secs(3600));
    let timeout = cx.timeout(&health.timeout);
    if timeout > interval.0 {
        let hint = format!("make it at most the interval, {interval}");
        cx.mistake_hint(health.timeout.span(), "the next probe would begin before this one ends", hint);
    }
    if health.expect.is_empty() {
        cx.mistake_hint(health.expect.span(), "no status is healthy", "write expect = [200]");
    }
    let expect = health.expect.iter().map(|status| cx.within(status, 200..=599)).collect();
    ProbeConfig {
        path: target,
        host,
        interval: interval.0,
        timeout,
        expect,
        rise: cx.within(&health.rise, 1..=100),
        fall: cx.within(&health.fall, 1..=100),
    }
}

fn ejection(cx: &mut Context<'_>, ejection: &Ejection) -> Option<EjectionConfig> {
    let (base, max) = (cx.timeout(&ejection.base), cx.timeout(&ejection.max));
    if base > max {
        let at = [&ejection.base, &ejection.max].map(|period| period.span());
        let at = at.iter().find(|span| !span.is_empty()).cloned().unwrap_or_default();
        cx.mistake(at, "the first ejection (base) cannot last longer than the longest (max)");
    }
    let config = EjectionConfig {
        failures: cx.within(&ejection.failures, 1..=1000),
        server_errors: ejection.server_errors,
        base,
        max,
        max_percent: cx.within(&ejection.max_percent, 1..=100),
    };
    ejection.enabled.then_some(config)
}

pub(super) fn resolver(cx: &mut Context<'_>, resolver: &Resolver) -> ResolverConfig {
    let servers = resolver.servers.iter().filter_map(|text| {
        let server = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
        if server.is_err() {
            let hint = "write it like \"10.0.0.53\" or \"127.0.0.1:5353\"";
            cx.mistake_hint(text.span(), format!("{:?} is not the address of a name server", &**text), hint);
        }
        server.ok()
    });
    let servers = servers.collect();
    let (min, max) = (
        cx.within(&resolver.min_ttl, Period(Duration::from_millis(100))..=Period::secs(24 * 3600)),
        cx.timeout(&resolver.max_ttl),
    );
    if min.0 > max {
        let at = [&resolver.min_ttl, &resolver.max_ttl].map(|period| period.span());
        let at = at.iter().find(|span| !span.is_empty()).cloned().unwrap_or_default();
        cx.mistake(at, "min_ttl cannot be longer than max_ttl");
    }
    let timeout = cx.within(&resolver.timeout, Period(Duration::from_millis(10))..=Period::secs(60)).0;
    ResolverConfig { servers, timeout, min_ttl: min.0, max_ttl: max }
}

fn parse(text: &str) -> Result<Endpoint, (&'static str, &'static str)> {
    const HOW: &str = "write http://host:port or https://host:port";
    let not_one = ("is not the address of a server", HOW);
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => return Err(not_one),
    };
    let tls = url.scheme() == "https";
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("holds credentials", HOW));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(("has a path or query", "paths are forwarded as they come; leave it out"));
    }
    let host = match url.host().ok_or(not_one)? {
        Host::Domain(name) => Box::from(name),
        Host::Ipv4(address) => address.to_string().into(),
        Host::Ipv6(address) => address.to_string().into(),
    };
    let port = url.port().unwrap_or(if tls { 443 } else { 80 });
    if port == 0 {
        return Err(("has no usable port", HOW));
    }
    // The usual port is left out, as clients do (RFC 9110 section 4.2.3).
    let bare = url.host_str().ok_or(not_one)?;
    let authority = url.port().map_or_else(|| bare.to_owned(), |port| format!("{bare}:{port}"));
    let authority = HeaderValue::from_str(&authority).map_err(|_| not_one)?;
    Ok(Endpoint { host, port, authority, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_ports() {
        for (text, host, port, authority) in [
            ("http://127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://127.0.0.1:9000/", "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://Orders.Internal", "orders.internal", 80, "orders.internal"),
            ("http://[::1]:8080", "::1", 8080, "[::1]:8080"),
            ("https://orders.internal", "orders.internal", 443, "orders.internal"),
            ("https://orders.internal:8443", "orders.internal", 8443, "orders.internal:8443"),
        ] {
            let endpoint = parse(text).unwrap();
            assert_eq!((&*endpoint.host, endpoint.port, endpoint.authority.to_str().unwrap()), (host, port, authority));
            assert_eq!(endpoint.tls, text.starts_with("https"));
        }
        for wrong in [
            "",
            "127.0.0.1:9000",
            "localhost:9000",
            "http://a:1/b",
            "http://a:1?b",
            "http://u:p@a:1",
            "http://a:0",
            "http://",
            "ftp://a",
            "http://a:99999",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
