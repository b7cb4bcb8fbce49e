//! The key sets that issuers publish.

use crate::auth::key_set::{KeySetConfig, Source};
use crate::config::raw::{At, KeySet, Period, Table};

use super::context::Context;
use super::reach::{address, reach};

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

/// Where one of two values was written.
fn either<T>(first: &At<T>, second: &At<T>) -> std::ops::Range<usize> {
    if first.span().is_empty() { second.span() } else { first.span() }
}
