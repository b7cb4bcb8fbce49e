//! Who may call from the pages of other origins.

use std::sync::Arc;

use http::header::HeaderName;
use url::Url;

use crate::config::raw::{At, Cors, Period, Table};
use crate::config::snapshot::{CorsConfig, Origins};
use crate::policy::method::MethodSet;

use super::context::Context;
use super::routes;

/// What a table shares of calls that take `methods`; nothing if it has no origins.
pub(super) fn sharing(cx: &mut Context<'_>, table: &Table<Cors>, methods: MethodSet) -> Option<Arc<CorsConfig>> {
    let origins = origins(cx, &table.origins);
    if origins == Origins::Any && *table.credentials {
        let hint = "list the origins, or leave credentials out";
        cx.mistake_hint(table.credentials.span(), "browsers take no credentials where every origin may call", hint);
    }
    let methods = match &table.methods {
        Some(written) => routes::methods(cx, Some(written), table.span()),
        None => methods,
    };
    let max_age = cx.within(&table.max_age, Period::secs(0)..=Period::secs(24 * 3600)).0;
    let config = CorsConfig {
        methods,
        headers: names(cx, &table.headers),
        expose: names(cx, &table.expose),
        credentials: *table.credentials,
        max_age,
        origins,
    };
    (config.origins != Origins::Listed(Vec::new())).then(|| Arc::new(config))
}

fn origins(cx: &mut Context<'_>, written: &At<Vec<At<String>>>) -> Origins {
    if let [only] = written.as_slice()
        && only.as_str() == "*"
    {
        return Origins::Any;
    }
    let mut listed = Vec::with_capacity(written.len());
    for text in written.iter() {
        match text.as_str() {
            "*" => cx.mistake_hint(text.span(), "\"*\" is every origin", "let it stand alone"),
            _ if is_origin(text) => listed.push(text.as_str().into()),
            _ => {
                let hint = "write it as browsers do: \"https://shop.example.com\" or \"https://*.example.com\"";
                cx.mistake_hint(text.span(), format!("{:?} is not an origin", &**text), hint);
            }
        }
    }
    Origins::Listed(listed)
}

/// Whether a browser could send this: a scheme, a host in lower case, and a port unless it is the usual one.
fn is_origin(text: &str) -> bool {
    let one = text.replacen("://*.", "://any.", 1);
    let origin = Url::parse(&one).map(|url| url.origin());
    !one.contains('*') && origin.is_ok_and(|origin| origin.is_tuple() && origin.ascii_serialization() == one)
}

fn names(cx: &mut Context<'_>, written: &[At<String>]) -> Vec<HeaderName> {
    let mut names = Vec::with_capacity(written.len());
    for text in written {
        match HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => names.push(name),
            Err(_) => cx.mistake(text.span(), format!("{:?} is not a field name", &**text)),
        }
    }
    names
}
