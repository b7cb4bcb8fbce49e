//! Upstreams to pools.

use std::sync::Arc;

use http::HeaderValue;
use url::{Host, Url};

use crate::config::raw::{At, File, HostAction, Upstream};
use crate::policy::route::PoolId;
use crate::upstream::{Endpoint, HostField, PoolConfig};

use super::context::Context;
use super::transport::transport;

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
    for text in &upstream.endpoints {
        let Some(endpoint) = endpoint(cx, text) else { continue };
        if endpoints.contains(&endpoint) {
            cx.mistake(text.span(), format!("{:?} is listed twice", &**text));
        }
        endpoints.push(endpoint);
    }
    let transport = transport(cx, upstream, &endpoints);
    PoolConfig {
        name: Arc::from(name),
        endpoints,
        connect_timeout: cx.timeout(&upstream.connect_timeout),
        response_timeout: cx.timeout(&upstream.response_timeout),
        idle_timeout: cx.timeout(&upstream.idle_timeout),
        max_idle: usize::try_from(upstream.max_idle.get()).unwrap_or(usize::MAX),
        host: match upstream.host {
            HostAction::Preserve => HostField::Preserve,
            HostAction::Endpoint => HostField::Endpoint,
        },
        transport,
    }
}

fn endpoint(cx: &mut Context<'_>, text: &At<String>) -> Option<Endpoint> {
    match parse(text) {
        Ok(endpoint) => Some(endpoint),
        Err((message, hint)) => {
            cx.mistake_hint(text.span(), format!("{:?} {message}", &**text), hint);
            None
        }
    }
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
