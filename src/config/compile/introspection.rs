//! Issuers that are asked about tokens.

use secrecy::SecretString;

use crate::auth::introspection::IntrospectionConfig;
use crate::config::raw::{At, Introspection, Period, Table};

use super::context::Context;
use super::reach::{address, reach};
use super::secrets::{self, Secret};

pub(super) fn introspection(cx: &mut Context<'_>, table: &Table<Introspection>) -> Option<IntrospectionConfig> {
    let positive_ttl = cx.within(&table.positive_ttl, Period::secs(0)..=Period::secs(3600)).0;
    let negative_ttl = cx.within(&table.negative_ttl, Period::secs(0)..=Period::secs(300)).0;
    let url = cx.required(table.url.as_ref(), table.span(), "url", "https://login.example.com/introspect");
    let client_id = cx.required(table.client_id.as_ref(), table.span(), "client_id", "gate").map(|id| id.to_string());
    let secret = match &table.client_secret {
        Some(reference) => secret(cx, reference),
        None => {
            let hint = "write client_secret = { file = \"..\" }";
            cx.missing(table.span(), "client_secret", "\"client_secret\" is missing", hint);
            None
        }
    };
    let reached = url.and_then(|text| {
        let url = address(cx, text)?;
        let reach = reach(cx, &url, text.span(), table.ca.as_ref(), table.allow_http, &table.timeout)?;
        Some((url, reach))
    });
    let ((url, reach), client_id, client_secret) = (reached?, client_id?, secret?);
    Some(IntrospectionConfig { url, reach, client_id, client_secret, positive_ttl, negative_ttl })
}

fn secret(cx: &mut Context<'_>, reference: &At<crate::config::raw::SecretRef>) -> Option<SecretString> {
    let Secret { bytes, origin } = secrets::read(cx, reference)?;
    let text = std::str::from_utf8(&bytes).map(SecretString::from);
    if text.is_err() {
        cx.mistake(reference.span(), format!("{origin} is not text"));
    }
    text.ok()
}
