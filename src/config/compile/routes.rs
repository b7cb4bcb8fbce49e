//! Routes to the route table. The session endpoint is route number 0, on every host.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::nearest::{did_you_mean, listed};
use crate::config::raw::{self, At, AuthorizationAction, BodyLimit, File, Headers, RetryAction};
use crate::config::snapshot::{Cors, CorsConfig};
use crate::policy::headers::{HeaderRules, Mode};
use crate::policy::method::{MethodSet, Verb};
use crate::policy::route::{Action, ForwardAuthorization, PoolId, Route, RouteConflict, RouteTable};
use crate::policy::scopes::{ScopeNames, ScopeRule};
use crate::policy::target::{self, SESSION_PATH};

use super::context::Context;
use super::cors;
use super::headers::{self, Changes};
use super::scopes::Scopes;
use super::tokens;
use super::upstreams::PoolNames;

/// The name of the session endpoint.
const SESSION: &str = "session";

/// The name of the route to the key set.
const KEY_SET: &str = "key-set";

/// Most routes: their numbers have 16 bits, and some are ours.
const ROUTES_MAX: usize = 60_000;

/// Conflicts after which no more are looked for: each one costs a new table.
const CONFLICTS_MAX: usize = 100;

/// What all routes start from.
struct Defaults<'f> {
    mode: Mode,
    changes: Changes,
    headers: Arc<HeaderRules>,
    max_body: Option<u64>,
    pools: &'f PoolNames<'f>,
}

pub(super) fn table(cx: &mut Context<'_>, file: &File, pools: &PoolNames<'_>) -> (RouteTable, ScopeNames, Cors) {
    let mode = headers::mode(&file.headers);
    let changes = Changes::compile(cx, &file.headers);
    let mut rules = HeaderRules::of(mode);
    changes.apply(&mut rules);
    let max_body = bytes(*file.limits.body);
    let defaults = Defaults { mode, changes, headers: Arc::new(rules), max_body, pools };

    let mut scopes = Scopes::default();
    let mut table = Table { routes: RouteTable::default(), conflicts: 0 };
    let session_headers = Arc::clone(&defaults.headers);
    let session = session(&defaults, file, scopes.rule(cx, &file.sessions.scopes));
    let unrouted = file.cors.as_ref().and_then(|table| cors::sharing(cx, table, MethodSet::ALL));
    // The same for all routes without a table of their own; but for the methods, unless those were written.
    let own_methods = file.cors.as_ref().is_some_and(|table| table.methods.is_none());
    let default = |route: &Route| {
        let all = unrouted.as_deref()?;
        let methods = if own_methods { route.methods } else { all.methods };
        Some(Arc::new(CorsConfig { methods, ..all.clone() }))
    };
    let mut cors = Cors { routes: vec![default(&session)], unrouted: unrouted.clone() };
    table.add(cx, session, 0..0);

    let key_set = file.tokens.as_ref().map(|tokens| &tokens.key_set_path);
    if let Some(path) = key_set
        && check_literal(cx, path)
    {
        let route = key_set_route(path, &session_headers);
        cors.routes.push(default(&route));
        table.add(cx, route, path.span());
    }

    if file.routes.is_empty() {
        cx.missing(0..0, "routes", "there is no route", "add [[routes]] with a name, a path and an upstream");
    }
    if file.routes.len() > ROUTES_MAX {
        cx.mistake(file.routes[ROUTES_MAX].span(), format!("there are more than {ROUTES_MAX} routes"));
        return (table.routes, scopes.into_names(), cors);
    }
    let mut names = vec![SESSION];
    names.extend(key_set.map(|_| KEY_SET));
    for written in &file.routes {
        let name = cx.name("route", written.name.as_ref(), written.span(), "order", &names);
        names.extend(name);
        let route = route(cx, written, name.unwrap_or_default(), &defaults, &mut scopes);
        let Some(route) = route else { continue };
        refuse_key_set(cx, written, &route, key_set);
        refuse_replacing(cx, written, file);
        cors.routes.push(match &written.cors {
            Some(own) => cors::sharing(cx, own, route.methods),
            None => default(&route),
        });
        let at = written.path.as_ref().map_or(written.span(), At::span);
        table.add(cx, route, at);
    }
    (table.routes, scopes.into_names(), cors)
}

fn session(defaults: &Defaults<'_>, file: &File, scopes: ScopeRule) -> Route {
    let methods = [Verb::Get, Verb::Post, Verb::Delete];
    Route {
        name: Arc::from(SESSION),
        hosts: Vec::new(),
        path: SESSION_PATH.into(),
        methods: methods.into_iter().fold(MethodSet::NONE, MethodSet::with),
        action: Action::Session,
        exempt: false,
        sender: file.sessions.sender_constraint.map(tokens::sender),
        scopes,
        headers: Arc::clone(&defaults.headers),
        max_body: defaults.max_body,
        response_timeout: None,
        total_timeout: None,
        stall_timeout: None,
        retry_idempotent: false,
        authorization: ForwardAuthorization::Keep,
    }
}

/// The keys of the tokens that the gate issues are for everybody.
fn key_set_route(path: &str, headers: &Arc<HeaderRules>) -> Route {
    Route {
        name: Arc::from(KEY_SET),
        hosts: Vec::new(),
        path: path.into(),
        methods: MethodSet::NONE.with(Verb::Get),
        action: Action::KeySet,
        exempt: true,
        sender: None,
        scopes: ScopeRule::default(),
        headers: Arc::clone(headers),
        max_body: Some(0),
        response_timeout: None,
        total_timeout: None,
        stall_timeout: None,
        retry_idempotent: false,
        authorization: ForwardAuthorization::Strip,
    }
}

/// A route with the path of the key set would never be found.
fn refuse_key_set(cx: &mut Context<'_>, written: &raw::Table<raw::Route>, route: &Route, key_set: Option<&At<String>>) {
    if let Some(path) = key_set.filter(|path| path.as_str() == &*route.path) {
        let at = written.path.as_ref().map_or(written.span(), At::span);
        cx.mistake_hint(at, format!("{:?} is the path of the key set", &**path), "see tokens.key_set_path");
    }
}

fn refuse_replacing(cx: &mut Context<'_>, written: &raw::Table<raw::Route>, file: &File) {
    if *written.authorization != AuthorizationAction::Replace {
        return;
    }
    if written.exempt {
        let hint = "write \"keep\" or \"strip\"";
        cx.mistake_hint(written.authorization.span(), "on an exempt route nobody is known to issue a token to", hint);
    } else if file.tokens.is_none() {
        cx.mistake_hint(
            written.authorization.span(),
            "the gate issues no tokens",
            "add [tokens] with an issuer and keys",
        );
    }
}

/// The table while it is built.
struct Table {
    routes: RouteTable,
    conflicts: usize,
}

impl Table {
    /// Adds a route, or notes why it cannot be.
    fn add(&mut self, cx: &mut Context<'_>, route: Route, at: Range<usize>) {
        if self.conflicts > CONFLICTS_MAX {
            return;
        }
        let path = route.path.clone();
        let Err(conflict) = self.routes.add(route) else { return };
        self.conflicts += 1;
        match conflict {
            RouteConflict::Pattern(_) => {
                cx.mistake_hint(at, format!("{path:?} is not a path pattern: {conflict}"), "write {id} or {*rest}");
            }
            RouteConflict::Overlap(_) | RouteConflict::Same(_) => cx.mistake(at, conflict.to_string()),
        }
    }
}

fn route(
    cx: &mut Context<'_>,
    written: &raw::Table<raw::Route>,
    name: &str,
    defaults: &Defaults<'_>,
    scopes: &mut Scopes,
) -> Option<Route> {
    let rule = scopes.rule(cx, &written.scopes);
    if written.exempt {
        refuse_checks(cx, written);
    }
    let headers = match &written.headers {
        Some(own) => own_headers(cx, own, defaults),
        None => Arc::clone(&defaults.headers),
    };
    let hosts = hosts(cx, &written.hosts);
    let methods = methods(cx, written.methods.as_ref(), written.span());
    let response_timeout: Option<Duration> = written.response_timeout.as_ref().map(|period| cx.timeout(period));
    let pool = pool(cx, written, defaults.pools);
    let path = cx.required(written.path.as_ref(), written.span(), "path", "/orders/{id}");
    let path = path.filter(|path| check_path(cx, path))?;
    Some(Route {
        name: Arc::from(name),
        hosts,
        path: path.as_str().into(),
        methods,
        // Without its pool the route still shows whether it conflicts; no snapshot is made of it.
        action: Action::Forward(pool.unwrap_or(PoolId(0))),
        exempt: written.exempt,
        sender: written.sender_constraint.as_deref().copied().map(tokens::sender),
        scopes: rule,
        headers,
        max_body: written.max_body.as_ref().map_or(defaults.max_body, |limit| bytes(**limit)),
        response_timeout,
        total_timeout: written.total_timeout.as_ref().map(|limit| cx.limit(limit)),
        stall_timeout: written.stall_timeout.as_ref().map(|limit| cx.limit(limit)),
        retry_idempotent: match written.retry {
            RetryAction::Safe => false,
            RetryAction::Idempotent => true,
        },
        authorization: match *written.authorization {
            AuthorizationAction::Keep => ForwardAuthorization::Keep,
            AuthorizationAction::Strip => ForwardAuthorization::Strip,
            AuthorizationAction::Replace => ForwardAuthorization::Replace,
        },
    })
}

fn refuse_checks(cx: &mut Context<'_>, written: &raw::Route) {
    let message = "an exempt route checks nothing";
    let hint = "remove this, or exempt";
    if !written.scopes.all.is_empty() || !written.scopes.any.is_empty() {
        cx.mistake_hint(written.scopes.span(), message, hint);
    }
    if let Some(headers) = &written.headers {
        cx.mistake_hint(headers.span(), message, hint);
    }
    if let Some(demanded) = &written.sender_constraint {
        cx.mistake_hint(demanded.span(), message, hint);
    }
}

fn own_headers(cx: &mut Context<'_>, own: &Headers, defaults: &Defaults<'_>) -> Arc<HeaderRules> {
    headers::refuse_names(cx, own);
    let mode = if own.mode.is_some() { headers::mode(own) } else { defaults.mode };
    let mut rules = HeaderRules::of(mode);
    defaults.changes.apply(&mut rules);
    Changes::compile(cx, own).apply(&mut rules);
    Arc::new(rules)
}

fn pool(cx: &mut Context<'_>, written: &raw::Table<raw::Route>, pools: &PoolNames<'_>) -> Option<PoolId> {
    let name = cx.required(written.upstream.as_ref(), written.span(), "upstream", "orders")?;
    let pool = pools.find(name);
    if pool.is_none() && pools.is_complete() {
        let guess = did_you_mean(name, pools.all()).or_else(|| {
            let all: Vec<&str> = pools.all().take(5).collect();
            Some(format!("there is {}", listed(&all)))
        });
        cx.mistake_guess(name.span(), format!("no upstream is named {:?}", &**name), guess);
    }
    pool
}

fn hosts(cx: &mut Context<'_>, written: &[At<String>]) -> Vec<Box<str>> {
    let mut hosts: Vec<Box<str>> = Vec::with_capacity(written.len());
    for text in written {
        let host: Box<str> = text.to_ascii_lowercase().into();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if !name.is_ascii() {
            let message = format!("{:?} is not ASCII", &**text);
            cx.mistake_hint(text.span(), message, "write the name as DNS has it (xn--..)");
        } else if !target::is_host(name.as_bytes()) || name.starts_with('.') {
            let hint = "write a name like \"shop.example.com\" or \"*.example.com\"";
            cx.mistake_hint(text.span(), format!("{:?} is not a host", &**text), hint);
        } else if name.ends_with('.') {
            cx.mistake_hint(
                text.span(),
                format!("{:?} ends with a dot", &**text),
                "leave the dot out; calls with it match",
            );
        } else if target::host_name(name) != name {
            cx.mistake_hint(text.span(), format!("{:?} has a port", &**text), "leave the port out");
        } else if hosts.contains(&host) {
            cx.mistake(text.span(), format!("{:?} is listed twice", &**text));
        } else {
            hosts.push(host);
        }
    }
    hosts
}

pub(super) fn methods(cx: &mut Context<'_>, written: Option<&At<Vec<At<String>>>>, route: Range<usize>) -> MethodSet {
    let Some(written) = written else { return MethodSet::ALL };
    if written.is_empty() && !cx.is_touched(route, "methods") {
        cx.mistake_hint(written.span(), "the route takes no method", "leave the key out to take all");
    }
    let mut methods = MethodSet::NONE;
    for text in written.iter() {
        match Verb::named(text) {
            Some(verb) => methods = methods.with(verb),
            None => {
                let names = Verb::ALL.map(Verb::as_str);
                let guess = did_you_mean(text, names);
                let guess = guess.unwrap_or_else(|| format!("there is {}", listed(&names)));
                cx.mistake_hint(text.span(), format!("{:?} is not a method this gateway forwards", &**text), guess);
            }
        }
    }
    methods
}

/// Whether a path pattern can match calls, and no others than it seems to.
fn check_path(cx: &mut Context<'_>, path: &At<String>) -> bool {
    let (message, hint) = match unmatchable(path) {
        Some(found) => found,
        None => return true,
    };
    cx.mistake_guess(path.span(), format!("{:?} {message}", &**path), hint);
    false
}

/// Whether a path means itself and nothing else.
fn check_literal(cx: &mut Context<'_>, path: &At<String>) -> bool {
    if path.contains(['{', '}']) {
        cx.mistake(path.span(), format!("{:?} has a parameter", &**path));
        return false;
    }
    check_path(cx, path)
}

fn unmatchable(path: &str) -> Option<(&'static str, Option<String>)> {
    let foreign = |char: char| char.is_control() || char == ' ' || !char.is_ascii();
    if !path.starts_with('/') {
        return Some(("does not start with \"/\"", Some(format!("write {:?}", format!("/{path}")))));
    }
    if path == SESSION_PATH {
        return Some(("is the session endpoint, which is always there", Some("see [sessions]".to_owned())));
    }
    if path.contains(foreign) {
        return Some(("has characters that no path has", Some("write them percent-encoded, like %20".to_owned())));
    }
    if path.contains(['?', '#']) {
        return Some(("has a query or fragment", Some("routes match the path only".to_owned())));
    }
    if path.split('/').any(|segment| segment.starts_with(':')) {
        return Some(("has a literal \":\"", Some("write parameters as {id}".to_owned())));
    }
    if path.split('/').any(|segment| matches!(segment, "*" | "**")) {
        return Some(("has a literal \"*\"", Some("write {*rest} for all that follows".to_owned())));
    }
    match target::canonical(path) {
        Ok(canonical) if canonical == path => None,
        Ok(canonical) => Some(("is not in canonical form", Some(format!("write {canonical:?}")))),
        Err(_) => Some((
            "can match no call: dot segments, backslashes, %2F, %5C, %00 and broken escapes are refused before",
            None,
        )),
    }
}

fn bytes(limit: BodyLimit) -> Option<u64> {
    limit.0.map(|size| size.0)
}
