//! The registry of clients for the operator: who is in it, and how many live sessions each has.

use std::collections::HashMap;

use http::StatusCode;
use serde::Serialize;

use super::{Admin, Refusal, Reply, json};
use crate::config::clients::Report;
use crate::policy::clients::Client;
use crate::policy::ids::ClientId;
use crate::store::AnyStore;

/// Clients on a page unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 10_000;

const UNKNOWN: Refusal = Refusal(StatusCode::NOT_FOUND, "the registry has no client with this id");
const NO_REGISTRY: Refusal =
    Refusal(StatusCode::NOT_FOUND, "there is no registry of clients, so all of them are allowed; set clients.path");

/// The registry, and a page of it.
#[derive(Serialize)]
struct Page<'a> {
    registry: Registry<'a>,
    clients: Vec<View<'a>>,
    /// To be given as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct Registry<'a> {
    path: String,
    clients: usize,
    enabled: usize,
    /// Whole seconds since it was read.
    age: u64,
    /// `accepted`, or `refused`: then the clients in force are those from before.
    last_reload: &'static str,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
}

/// A client as the operator sees it.
#[derive(Serialize)]
struct View<'a> {
    client_id: &'a str,
    name: Option<&'a str>,
    enabled: bool,
    /// Absent: whatever its tokens have.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<&'a [Box<str>]>,
    live_sessions: u64,
    /// Null: no cap.
    max_live_sessions: Option<u32>,
    /// Absent: that of every client.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateView>,
}

/// A rate: so many calls at once, and in how many seconds as many again.
#[derive(Serialize)]
struct RateView {
    burst: u32,
    full_in: u64,
}

impl<'a> View<'a> {
    fn of(id: &'a str, client: &'a Client, live: &HashMap<&str, u64>, usual: Option<u32>) -> Self {
        Self {
            client_id: id,
            name: client.name.as_deref(),
            enabled: client.enabled,
            scopes: client.scopes.as_deref(),
            live_sessions: live.get(id).copied().unwrap_or(0),
            max_live_sessions: client.live_cap.or_usual(usual),
            rate: client.rate.map(|rate| RateView { burst: rate.burst(), full_in: rate.full_in().as_secs() }),
        }
    }
}

/// `GET /clients?enabled=&after=&limit=`
pub(super) fn list(admin: &Admin, query: &str) -> Result<Reply, Refusal> {
    let (mut enabled, mut after, mut limit) = (None, None, PAGE);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "enabled" => {
                let parsed = value.parse::<bool>();
                enabled = Some(parsed.map_err(|_| Refusal(StatusCode::BAD_REQUEST, "enabled is true or false"))?);
            }
            "after" => after = Some(value),
            "limit" => {
                let parsed = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                limit = parsed.ok_or(Refusal(StatusCode::BAD_REQUEST, "limit is a number from 1 to 10000"))?;
            }
            _ => return Err(Refusal(StatusCode::BAD_REQUEST, "the parameters are enabled, after and limit")),
        }
    }
    let snapshot = admin.live.snapshot();
    let registry = snapshot.clients.as_ref().ok_or(NO_REGISTRY)?;
    let (clients, Report { age, refusal, .. }) = (registry.snapshot(), registry.report());
    let wanted = |(_, client): &(&str, &Client)| enabled.is_none_or(|enabled| client.enabled == enabled);
    let page: Vec<_> = clients.after(after.as_deref()).filter(wanted).take(limit).collect();
    let live = live(admin, |id| page.binary_search_by_key(&id, |(id, _)| id).is_ok());
    let live = live.iter().map(|(id, count)| (id.as_str(), *count)).collect();
    let usual = snapshot.sessions.max_live_per_client;
    let next = (page.len() == limit).then(|| page.last().map(|(id, _)| *id)).flatten();
    let registry = Registry {
        path: registry.path().display().to_string(),
        clients: clients.len(),
        enabled: clients.enabled(),
        age: age.as_secs(),
        last_reload: if refusal.is_some() { "refused" } else { "accepted" },
        refusal: refusal.as_deref(),
    };
    let clients = page.iter().map(|(id, client)| View::of(id, client, &live, usual)).collect();
    Ok(json(StatusCode::OK, &Page { registry, clients, next }))
}

/// `GET /clients/{id}`
pub(super) fn show(admin: &Admin, id: &str) -> Result<Reply, Refusal> {
    let snapshot = admin.live.snapshot();
    let clients = snapshot.clients.as_ref().ok_or(NO_REGISTRY)?.snapshot();
    let client = clients.get(id).ok_or(UNKNOWN)?;
    let live = live(admin, |own| own == id).into_values().map(|count| (id, count)).collect();
    Ok(json(StatusCode::OK, &View::of(id, client, &live, snapshot.sessions.max_live_per_client)))
}

fn live(admin: &Admin, wanted: impl Fn(&str) -> bool) -> HashMap<ClientId, u64> {
    let AnyStore::Memory(store) = admin.gate.store();
    store.live_of(wanted)
}
