//! The process, its listeners, limits, sessions, refusals and logs.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use crate::config::nearest::did_you_mean;
use crate::config::raw::{
    Admin, At, ClientAuthMode, Drain, Errors, File, Limits, Listener, LogFormatName, Logs, Period, ProxyVersion,
    Server, SessionIdForm, Sessions, Size, Table, Tls, TlsVersion,
};
use crate::config::snapshot::{
    AccessLog, AdminConfig, ClientAuth, ErrorConfig, LimitsConfig, ListenerConfig, LogConfig, LogFormat, ProxyConfig,
    ProxyVersions, SessionConfig, TlsConfig, TlsFiles,
};
use crate::policy::rejection;
use crate::policy::session::{ForeignUseRule, Lifetimes};

use super::context::Context;
use super::rates;
use super::secrets;

/// Shortest admin token, in bytes.
const ADMIN_TOKEN_MIN: usize = 16;

/// A year: sessions count their lives in seconds, in 32 bits.
const YEAR: Period = Period::secs(366 * 24 * 3600);

pub(super) fn process<'f>(cx: &mut Context<'_>, server: &'f Server) -> (Option<usize>, &'f str, Vec<IpNet>) {
    let workers = server.workers.as_ref().map(|workers| cx.within(workers, 1..=1024));
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if server.via.is_empty() || !server.via.bytes().all(is_token) {
        let message = format!("{:?} is not a pseudonym (RFC 9110 section 7.6.3)", &**server.via);
        cx.mistake_hint(server.via.span(), message, "use letters, digits, \".\", \"_\" and \"-\"");
    }
    let proxies = server.trusted_proxies.iter().filter_map(|text| network(cx, text)).collect();
    (workers, &server.via, proxies)
}

fn network(cx: &mut Context<'_>, text: &At<String>) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    if network.is_err() {
        let message = format!("{:?} is not a network", &**text);
        cx.mistake_hint(text.span(), message, "write an address with a prefix length, like \"10.0.0.0/8\"");
    }
    network.ok()
}

pub(super) fn drain(cx: &mut Context<'_>, drain: &Drain) -> (Duration, Duration) {
    (cx.within(&drain.delay, Period::secs(0)..=Period::secs(3600)).0, cx.timeout(&drain.deadline))
}

pub(super) fn listeners(cx: &mut Context<'_>, file: &File) -> (Vec<ListenerConfig>, Option<AdminConfig>) {
    if file.listeners.is_empty() {
        cx.missing(0..0, "listeners", "there is no listener", "add [[listeners]] with an address");
    }
    let mut taken: Vec<SocketAddr> = Vec::new();
    let mut listeners = Vec::with_capacity(file.listeners.len());
    for listener in &file.listeners {
        let text = cx.required(listener.address.as_ref(), listener.span(), "address", "0.0.0.0:8443");
        let address = text.and_then(|text| address(cx, text, &mut taken));
        let tls = listener.tls.as_ref().and_then(|table| tls(cx, table));
        let proxy = proxy(cx, listener, &file.server.trusted_proxies);
        listeners.extend(address.map(|address| ListenerConfig { address, tls, proxy }));
    }
    let admin = file.admin.as_ref().and_then(|table| admin(cx, table, &mut taken));
    (listeners, admin)
}

fn address(cx: &mut Context<'_>, text: &At<String>, taken: &mut Vec<SocketAddr>) -> Option<SocketAddr> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        let message = format!("{:?} is not an IP address and port", &**text);
        cx.mistake_hint(text.span(), message, "write it like \"0.0.0.0:8443\" or \"[::]:8443\"");
        return None;
    };
    if let Some(other) = taken.iter().find(|other| overlap(**other, address)) {
        let message = match *other == address {
            true => format!("another listener is at {other}"),
            false => format!("the listener at {other} already takes this port"),
        };
        cx.mistake(text.span(), message);
    }
    taken.push(address);
    Some(address)
}

/// Whether two sockets cannot both listen. Port 0 is any free one.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let wild = |address: SocketAddr| address.ip().is_unspecified() && (address.is_ipv6() || b.is_ipv4() && a.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || wild(a) || wild(b))
}

/// The PROXY protocol of a listener.
fn proxy(cx: &mut Context<'_>, listener: &Listener, trusted: &[At<String>]) -> Option<ProxyConfig> {
    let Some(version) = &listener.proxy_protocol else {
        if let Some(senders) = &listener.proxy_protocol_from {
            let hint = "add proxy_protocol = \"any\", or remove this";
            cx.mistake_hint(senders.span(), "this listener does not take PROXY headers", hint);
        }
        return None;
    };
    let senders = listener.proxy_protocol_from.as_ref();
    if senders.map_or(trusted.is_empty(), |senders| senders.is_empty()) {
        let hint = "list the load balancers in proxy_protocol_from or server.trusted_proxies";
        cx.mistake_hint(version.span(), "nobody may send a PROXY header", hint);
    }
    let versions = match **version {
        ProxyVersion::V1 => ProxyVersions { v1: true, v2: false },
        ProxyVersion::V2 => ProxyVersions { v1: false, v2: true },
        ProxyVersion::Any => ProxyVersions { v1: true, v2: true },
    };
    let senders = senders.map(|senders| senders.iter().filter_map(|text| network(cx, text)).collect());
    Some(ProxyConfig { versions, senders })
}

fn tls(cx: &mut Context<'_>, tls: &Table<Tls>) -> Option<TlsConfig> {
    let mut certificates = Vec::with_capacity(tls.certs.len() + 1);
    if tls.cert.is_some() || tls.key.is_some() || tls.certs.is_empty() {
        certificates.push(files(cx, tls.cert.as_ref(), tls.key.as_ref(), tls.span()));
    }
    for more in &tls.certs {
        certificates.push(files(cx, more.cert.as_ref(), more.key.as_ref(), more.span()));
    }
    let clients = clients(cx, tls);
    let tls13_only = match tls.min_version {
        TlsVersion::Tls12 => false,
        TlsVersion::Tls13 => true,
    };
    Some(TlsConfig { certificates: certificates.into_iter().collect::<Option<_>>()?, clients, tls13_only })
}

fn files(
    cx: &mut Context<'_>,
    cert: Option<&At<String>>,
    key: Option<&At<String>>,
    table: Range<usize>,
) -> Option<TlsFiles> {
    let cert = cx.required(cert, table.clone(), "cert", "tls/cert.pem").map(|cert| cx.readable(cert));
    let key = cx.required(key, table, "key", "tls/key.pem").map(|key| cx.readable(key));
    Some(TlsFiles { cert: cert?, key: key? })
}

/// What is asked of clients.
fn clients(cx: &mut Context<'_>, tls: &Table<Tls>) -> Option<ClientAuth> {
    let Some(authorities) = &tls.client_ca else {
        let crl = tls.client_crl.as_ref().map(At::span);
        let mode = tls.client_auth.as_ref().map(At::span);
        let forward = tls.forward_client_cert.then(|| tls.forward_client_cert.span());
        if !cx.is_touched(tls.span(), "client_ca") {
            for at in [crl, mode, forward].into_iter().flatten() {
                let hint = "add client_ca, the file of their authorities";
                cx.mistake_hint(at, "client certificates are not asked for", hint);
            }
        }
        return None;
    };
    Some(ClientAuth {
        authorities: cx.readable(authorities),
        revoked: tls.client_crl.as_ref().map(|lists| cx.readable(lists)),
        required: match tls.client_auth.as_deref() {
            None | Some(ClientAuthMode::Required) => true,
            Some(ClientAuthMode::Optional) => false,
        },
        forward: *tls.forward_client_cert,
    })
}

fn admin(cx: &mut Context<'_>, admin: &Admin, taken: &mut Vec<SocketAddr>) -> Option<AdminConfig> {
    let token = admin.token.as_ref().and_then(|reference| {
        let secret = secrets::read(cx, reference)?;
        let text = std::str::from_utf8(&secret.bytes).unwrap_or_default();
        if text.len() < ADMIN_TOKEN_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let rule = format!("an admin token has at least {ADMIN_TOKEN_MIN} visible ASCII characters and no space");
            cx.mistake(reference.span(), format!("{}: {rule}", secret.origin));
        }
        Some(SecretString::from(text))
    });
    address(cx, &admin.address, taken).map(|address| AdminConfig { address, token })
}

pub(super) fn limits(cx: &mut Context<'_>, limits: &Limits) -> LimitsConfig {
    // Below 8 KiB the HTTP library takes no buffer; beyond 63 KiB no target fits its type.
    let head = cx.within(&limits.head, Size::kib(8)..=Size::kib(1024));
    let uri = cx.within(&limits.uri, Size(256)..=Size::kib(63));
    if uri > head {
        cx.mistake(limits.uri.span(), format!("the target is part of the head, which is limited to {head}"));
    }
    LimitsConfig {
        head: usize::try_from(head.0).unwrap_or(usize::MAX),
        uri: usize::try_from(uri.0).unwrap_or(usize::MAX),
        handshake_timeout: cx.timeout(&limits.handshake_timeout),
        head_timeout: cx.timeout(&limits.head_timeout),
        body_timeout: cx.timeout(&limits.body_timeout),
        write_timeout: cx.timeout(&limits.write_timeout),
        idle_timeout: cx.timeout(&limits.idle_timeout),
        max_connections: usize::try_from(limits.max_connections.get()).unwrap_or(usize::MAX),
        h2_streams: limits.h2_streams.get(),
        requests_per_connection: limits.requests_per_connection.as_deref().copied(),
        body_rate: limits
            .body_rate
            .as_ref()
            .and_then(|rate| NonZeroU64::new(cx.within(rate, Size(1)..=Size::kib(1 << 20)).0)),
    }
}

pub(super) fn sessions(cx: &mut Context<'_>, sessions: &Sessions) -> SessionConfig {
    let life = || Period::secs(1)..=YEAR;
    let (idle, absolute) = (cx.within(&sessions.idle, life()), cx.within(&sessions.absolute, life()));
    if idle > absolute {
        // The one that was written is the one that is wrong.
        let at = [&sessions.idle, &sessions.absolute].map(|period| period.span());
        let at = at.iter().find(|span| !span.is_empty()).cloned().unwrap_or_default();
        cx.mistake(at, format!("sessions cannot be idle ({idle}) for longer than they live ({absolute})"));
    }
    let status = match *sessions.create_status {
        201 => StatusCode::CREATED,
        200 => StatusCode::OK,
        other => {
            let message = format!("{other} is not a status of a successful POST /session");
            cx.mistake_hint(sessions.create_status.span(), message, "write 201 or 200");
            StatusCode::CREATED
        }
    };
    SessionConfig {
        lifetimes: Lifetimes { idle: idle.0, absolute: absolute.0 },
        max_live_per_client: sessions.max_live_per_client.as_ref().map(|most| most.get()),
        budget: sessions.budget.as_ref().and_then(|table| rates::budget(cx, table)),
        on_foreign_use: sessions.on_foreign_use.as_ref().map(|rule| ForeignUseRule {
            after: cx.within(&rule.suspend_after, 1..=10_000),
            within: cx.within(&rule.within, life()).0,
        }),
        create_status: status,
        tombstone_ttl: cx.within(&sessions.tombstone.ttl, life()).0,
        tombstone_max: usize::try_from(*sessions.tombstone.max).unwrap_or(usize::MAX),
        idempotency_ttl: cx.within(&sessions.idempotency_ttl, life()).0,
    }
}

pub(super) fn errors(cx: &mut Context<'_>, errors: &Errors) -> ErrorConfig {
    let base = &errors.type_base;
    let printable = base.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>".contains(&byte));
    if Url::parse(base).is_err() || !printable {
        cx.mistake(base.span(), format!("{:?} is not an absolute URI", &**base));
    } else if !base.ends_with(['/', ':', '#', '=']) {
        let hint = format!("end it with \"/\", \":\", \"#\" or \"=\": \"{}/\"", &**base);
        cx.mistake_hint(base.span(), "problem codes are appended to the base as it is", hint);
    }
    let mut status = HashMap::with_capacity(errors.status.len());
    for (code, wanted) in &errors.status {
        let known = rejection::TABLE.iter().map(|row| row.code);
        let Some(code) = known.clone().find(|known| *known == code.as_str()) else {
            let guess = did_you_mean(code, known);
            cx.mistake_guess(code.span(), format!("there is no problem code {:?}", &**code), guess);
            continue;
        };
        status.extend(refusal_status(cx, wanted.span(), **wanted).map(|wanted| (code, wanted)));
    }
    ErrorConfig { type_base: base.as_str().into(), status }
}

fn refusal_status(cx: &mut Context<'_>, at: Range<usize>, status: u16) -> Option<StatusCode> {
    let valid = StatusCode::from_u16(status).ok().filter(|valid| valid.is_client_error() || valid.is_server_error());
    if valid.is_none() {
        cx.mistake_hint(at, format!("{status} is not a status of a refusal"), "allowed: 400 to 599");
    }
    valid
}

pub(super) fn logs(cx: &mut Context<'_>, logs: &Logs) -> LogConfig {
    let access = match logs.access.as_str() {
        "off" => AccessLog::Off,
        "stdout" => AccessLog::Stdout,
        path if path.contains('/') && !path.ends_with('/') => AccessLog::File(cx.path(path)),
        other => {
            let hint = did_you_mean(other, ["off", "stdout"]);
            let hint = hint.unwrap_or_else(|| "write \"stdout\", \"off\" or a path with a \"/\" in it".to_owned());
            cx.mistake_hint(logs.access.span(), format!("{other:?} is not a place for the access log"), hint);
            AccessLog::Off
        }
    };
    LogConfig {
        access,
        format: match logs.format {
            LogFormatName::Auto => LogFormat::Auto,
            LogFormatName::Json => LogFormat::Json,
            LogFormatName::Text => LogFormat::Text,
        },
        clear_session_ids: logs.session_id == SessionIdForm::Clear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_overlap_on_the_same_port() {
        for (a, b, both) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "[::]:1", true),
            ("0.0.0.0:1", "[::]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(overlap(a.parse().unwrap(), b.parse().unwrap()), both, "{a} {b}");
        }
    }
}
