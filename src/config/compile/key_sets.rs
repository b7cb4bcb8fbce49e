//! Where issuers publish what the gate asks them for, and how they are reached.

use std::time::Duration;

use url::Url;

use crate::auth::fetch::{Reach, Trust, is_loopback};
use crate::auth::key_set::{KeySetConfig, Source};
use crate::config::raw::{At, KeySet, Period, Table};
use crate::upstream::tls::{TlsClient, TlsSettings};

use super::context::Context;

const DAY: Period = Period::secs(24 * 3600);
const MONTH: Period = Period::secs(30 * 24 * 3600);

pub(super) fn key_set(
    cx: &mut Context<'_>,
    table: &Table<KeySet>,
    issuer: Option<&At<String>>,
) -> Option<KeySetConfig> {
    let min = cx.within(&table.min_refresh, Period::secs(1)..=DAY);
    let max = cx.within(&table.max_refresh, Period::secs(1)..=DAY);
    if min > max {
        cx.mistake(either(&table.min_refresh, &table.max_refresh), "min_refresh cannot be longer than max_refresh");
    }
    let max_stale = cx.within(&table.max_stale, Period::secs(1)..=MONTH);
    if max_stale < max {
        let hint = "make it longer than max_refresh, at least by as long as the issuer may be away";
        cx.mistake_hint(
            either(&table.max_stale, &table.max_refresh),
            "a set would be given up before it is fetched again",
            hint,
        );
    }
    let cooldown = cx.within(&table.cooldown, Period::secs(1)..=Period::secs(3600)).0;
    let wait = cx.within(&table.wait, Period::secs(0)..=Period::secs(30)).0;
    let source = match (&table.url, issuer) {
        (Some(url), _) => Source::Url(address(cx, url)?),
        (None, Some(issuer)) => match Source::discovery(issuer) {
            Ok(source) => source,
            Err(_) => {
                let hint = "write where it publishes its keys as key_set.url";
                cx.mistake_hint(table.span(), "the issuer is no address to discover them at", hint);
                return None;
            }
        },
        (None, None) => {
            let hint = "write the iss of its tokens as issuer, or where the keys are as key_set.url";
            cx.missing(table.span(), "url", "there is no issuer to discover the keys of", hint);
            return None;
        }
    };
    let at = table.url.as_ref().map_or_else(|| table.span(), At::span);
    let reach = reach(cx, source.url(), at, table.ca.as_ref(), table.allow_http, &table.timeout)?;
    Some(KeySetConfig { source, reach, refresh: min.0..=max.0, cooldown, wait, max_stale: max_stale.0 })
}

/// An address that is called.
fn address(cx: &mut Context<'_>, text: &At<String>) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| url.has_host() && url.fragment().is_none());
    if url.is_none() {
        cx.mistake_hint(text.span(), format!("{:?} is not an address", &**text), "write https://host/path");
    }
    url
}

fn reach(
    cx: &mut Context<'_>,
    url: &Url,
    at: std::ops::Range<usize>,
    ca: Option<&At<String>>,
    allow_http: bool,
    timeout: &At<Period>,
) -> Option<Reach> {
    let timeout = cx.within(timeout, Period(Duration::from_millis(100))..=Period::secs(60)).0;
    let before = cx.count();
    let file = ca.map(|ca| cx.readable(ca));
    if cx.count() > before {
        return None;
    }
    // Without TLS it may do without the authorities of the system, which need not be there.
    let trust = if url.scheme() == "https" || file.is_some() {
        match TlsClient::load(&TlsSettings { ca: file, ..TlsSettings::default() }) {
            Ok(client) => {
                let (config, fingerprint) = client.config();
                Some(Trust::new(config, fingerprint))
            }
            Err(error) => {
                cx.mistake(ca.map_or(at, At::span), error.to_string());
                return None;
            }
        }
    } else {
        None
    };
    let reach = Reach { trust, allow_http, timeout };
    if let Err(why) = reach.permits(url) {
        let hint = match url.scheme() {
            "http" if !is_loopback(url) => "write https://, or allow_http = true where the network can be trusted",
            _ => "write https://host/path",
        };
        cx.mistake_hint(at, format!("{:?} {why}", shown(url)), hint);
        return None;
    }
    Some(reach)
}

/// An address without a password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for an address that has a host.
    _ = url.set_username("");
    _ = url.set_password(None);
    url.into()
}

/// Where one of two values was written.
fn either<T>(first: &At<T>, second: &At<T>) -> std::ops::Range<usize> {
    if first.span().is_empty() { second.span() } else { first.span() }
}
