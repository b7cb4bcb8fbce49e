//! How issuers are reached.

use std::time::Duration;

use url::Url;

use crate::auth::fetch::{Reach, Trust, is_loopback};
use crate::config::raw::{At, Period};
use crate::upstream::tls::{TlsClient, TlsSettings};

use super::context::Context;

/// An address that is called.
pub(super) fn address(cx: &mut Context<'_>, text: &At<String>) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| url.has_host() && url.fragment().is_none());
    if url.is_none() {
        cx.mistake_hint(text.span(), format!("{:?} is not an address", &**text), "write https://host/path");
    }
    url
}

/// How an address is reached.
pub(super) fn reach(
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
