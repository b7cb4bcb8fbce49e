//! What is spoken with the endpoints of an upstream: TLS, HTTP/2.

use crate::config::raw::{At, Period, ProtocolName, Table, TlsVersion, Upstream, UpstreamTls};
use crate::upstream::tls::{MinVersion, TlsClient, TlsError, TlsSettings, server_name};
use crate::upstream::{Endpoint, Http2Config, Protocol, Transport};

use super::context::Context;

/// A PING must have been answered before the next one is sent.
const PING_MIN: Period = Period::secs(10);
const PING_MAX: Period = Period::secs(24 * 3600);

pub(super) fn transport(cx: &mut Context<'_>, upstream: &Upstream, endpoints: &[Endpoint]) -> Transport {
    // A broken endpoint has a mistake of its own.
    let complete = endpoints.len() == upstream.endpoints.len() && !endpoints.is_empty();
    let secure = endpoints.iter().any(|endpoint| endpoint.tls);
    let protocol = match *upstream.protocol {
        ProtocolName::Http1 => Protocol::Http1,
        ProtocolName::Http2 => Protocol::Http2,
        ProtocolName::Auto => Protocol::Auto,
    };
    if protocol == Protocol::Auto && complete && !secure {
        let hint = "write \"http1\" or \"http2\", or https:// endpoints";
        cx.mistake_hint(upstream.protocol.span(), "without TLS there is nothing to choose the protocol by", hint);
    }
    let mut http2 = Http2Config::default();
    if let Some(table) = &upstream.http2 {
        if protocol == Protocol::Http1 {
            let hint = "write protocol = \"http2\" or \"auto\", or leave this out";
            cx.mistake_hint(table.span(), "HTTP/2 is not spoken with this upstream", hint);
        }
        http2.max_connections = usize::try_from(table.max_connections.get()).unwrap_or(usize::MAX);
        http2.ping_interval = cx.within(&table.ping_interval, PING_MIN..=PING_MAX).0;
    }
    let tls = match &upstream.tls {
        Some(table) => {
            if complete && !secure {
                cx.mistake_hint(
                    table.span(),
                    "no endpoint is reached over TLS",
                    "write https:// endpoints, or leave this out",
                );
            }
            client(cx, table)
        }
        None if secure => match TlsClient::load(&TlsSettings::default()) {
            Ok(client) => Some(client),
            Err(error) => {
                let at = upstream.endpoints.iter().find(|server| server.url.starts_with("https"));
                cx.mistake(
                    at.map_or_else(|| upstream.endpoints.first().map_or(0..0, At::span), At::span),
                    error.to_string(),
                );
                None
            }
        },
        None => None,
    };
    if upstream.tls.as_ref().is_none_or(|table| table.server_name.is_none()) {
        for (endpoint, text) in
            endpoints.iter().zip(&upstream.endpoints).filter(|(endpoint, _)| complete && endpoint.tls)
        {
            if server_name(&endpoint.host).is_err() {
                let hint = "write the name of its certificate as tls.server_name";
                cx.mistake_hint(text.span(), format!("no certificate can be for {:?}", &*endpoint.host), hint);
            }
        }
    }
    Transport { tls, protocol, http2 }
}

fn client(cx: &mut Context<'_>, table: &Table<UpstreamTls>) -> Option<TlsClient> {
    let before = cx.count();
    let ca = table.ca.as_ref().map(|ca| cx.readable(ca));
    let name = table.server_name.as_ref().and_then(|name| match server_name(name) {
        Ok(found) => Some(found),
        Err(_) => {
            let message = format!("no certificate can be for {:?}", &**name);
            cx.mistake_hint(name.span(), message, "write a host name or an IP address");
            None
        }
    });
    let identity = match (&table.cert, &table.key) {
        (Some(cert), Some(key)) => Some((cx.readable(cert), cx.readable(key))),
        (Some(_), None) => {
            cx.missing(table.span(), "key", "a certificate needs its key", "write key = \"tls/client-key.pem\"");
            None
        }
        (None, Some(_)) => {
            cx.missing(table.span(), "cert", "a key needs its certificate", "write cert = \"tls/client.pem\"");
            None
        }
        (None, None) => None,
    };
    if cx.count() > before {
        return None;
    }
    let min_version = match table.min_version {
        TlsVersion::Tls12 => MinVersion::Tls12,
        TlsVersion::Tls13 => MinVersion::Tls13,
    };
    let settings = TlsSettings { ca, server_name: name, identity, min_version };
    match TlsClient::load(&settings) {
        Ok(client) => Some(client),
        Err(error) => {
            let written = match &error {
                TlsError::Ca(_) => &table.ca,
                TlsError::Identity(_) => &table.cert,
            };
            cx.mistake(written.as_ref().map_or_else(|| table.span(), At::span), error.to_string());
            None
        }
    }
}
