//! From the file as written to a [`Snapshot`], or to every mistake in it.
//!
//! Each part judges its tables, notes what is wrong in the [`Context`], and goes on with something harmless in its
//! place; a snapshot is made only if nothing was noted.

mod clients;
mod context;
mod cors;
mod flows;
mod headers;
mod introspection;
mod issuers;
mod key_sets;
mod rates;
mod reach;
mod routes;
mod scopes;
mod secrets;
mod server;
mod tokens;
mod transport;
mod upstreams;

use std::path::Path;
use std::sync::Arc;

use crate::auth::{Authenticator, CACHE_CAPACITY};

use super::document::Touched;
use super::error::{ConfigErrors, Found};
use super::raw::{File, VERSION};
use super::snapshot::Snapshot;
use context::Context;
pub(in crate::config) use context::plain;

/// Everything that is wrong.
pub(super) struct Wrong {
    /// With the file itself.
    pub(super) found: Vec<Found>,
    /// With files that it names and that are read as it is.
    pub(super) files: Vec<ConfigErrors>,
}

/// Compiles `file`. Relative paths in it start at `folder`; `touched` says what of it could not be read.
///
/// # Errors
/// Every mistake.
pub(super) fn compile(file: &File, touched: &Touched, folder: &Path, generation: u64) -> Result<Snapshot, Wrong> {
    let mut cx = Context::new(folder, touched);
    check_version(&mut cx, file);

    let (workers, via, trusted_proxies) = server::process(&mut cx, &file.server);
    let (drain_delay, drain_deadline) = server::drain(&mut cx, &file.server.drain);
    let (listeners, admin) = server::listeners(&mut cx, file);
    let limits = server::limits(&mut cx, &file.limits);
    let sessions = server::sessions(&mut cx, &file.sessions);
    let errors = server::errors(&mut cx, &file.errors);
    let logs = server::logs(&mut cx, &file.logs);
    let names = headers::names(&mut cx, &file.headers);
    let (pools, pool_names) = upstreams::pools(&mut cx, file);
    let resolver = upstreams::resolver(&mut cx, &file.resolver);
    let (routes, scopes, cors) = routes::table(&mut cx, file, &pool_names);
    let rates = rates::rules(&mut cx, file, &routes);
    let overload = file.overload.as_ref().and_then(|table| rates::overload(&mut cx, table));
    let flows = flows::flows(&mut cx, file, &routes);
    let issuers = issuers::issuers(&mut cx, file);
    let clients = file.clients.as_ref().and_then(|table| clients::registry(&mut cx, table));

    let own = tokens::tokens(&mut cx, file);
    let dpop = tokens::dpop(&mut cx, &file.dpop);

    if cx.count() > 0 {
        return Err(cx.into_wrong());
    }
    Ok(Snapshot {
        generation,
        workers,
        listeners,
        admin,
        drain_deadline,
        drain_delay,
        limits,
        names,
        routes,
        cors,
        rates,
        overload,
        flows,
        pools,
        resolver,
        auth: Authenticator::new(issuers, scopes, CACHE_CAPACITY).with_own(own),
        dpop,
        clients,
        sessions,
        trusted_proxies,
        errors,
        logs,
        via: Arc::from(via),
    })
}

fn check_version(cx: &mut Context<'_>, file: &File) {
    match &file.version {
        Some(version) if **version == VERSION => {}
        Some(version) => {
            cx.mistake(version.span(), format!("this program reads version {VERSION}, not {}", **version));
        }
        None => {
            cx.missing(0..0, "version", "\"version\" is missing", format!("start the file with version = {VERSION}"))
        }
    }
}
