//! The pools: which endpoints get calls, and why others do not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use super::{Admin, Reply, json};
use crate::upstream::{EndpointState, PoolState, WorkerEndpoint};

/// A pool, all workers together.
pub(super) struct Pool {
    pub(super) state: Arc<PoolState>,
    pub(super) connects: u64,
    pub(super) reuses: u64,
    pub(super) retries: u64,
    /// In the order of the configuration.
    pub(super) endpoints: Vec<WorkerEndpoint>,
}

/// All pools in use.
pub(super) fn all(admin: &Admin) -> Vec<Pool> {
    let fresh = |state: Arc<PoolState>| {
        let endpoints = vec![WorkerEndpoint::default(); state.endpoints().len()];
        Pool { state, connects: 0, reuses: 0, retries: 0, endpoints }
    };
    let mut pools: Vec<Pool> = admin.upstreams.all().into_iter().map(fresh).collect();
    for worker in (admin.proxies)().iter().flat_map(|proxy| proxy.pools().all()) {
        // A worker without calls since a reload still has the pools of before.
        let Some(pool) = pools.iter_mut().find(|pool| Arc::ptr_eq(&pool.state, worker.state())) else { continue };
        let counts = worker.counts();
        pool.connects += counts.connects.load(Ordering::Relaxed);
        pool.reuses += counts.reuses.load(Ordering::Relaxed);
        pool.retries += counts.retries.load(Ordering::Relaxed);
        for (sum, more) in pool.endpoints.iter_mut().zip(worker.endpoints()) {
            sum.calls += more.calls;
            sum.connections += more.connections;
            sum.idle += more.idle;
        }
    }
    pools
}

#[derive(Serialize)]
struct Shown {
    name: Arc<str>,
    available: bool,
    calls: usize,
    pending: usize,
    retries: u64,
    retry_budget_exhausted: u64,
    refused: Refused,
    endpoints: Vec<ShownEndpoint>,
}

#[derive(Serialize)]
struct Refused {
    unhealthy: u64,
    requests: u64,
    connections: u64,
}

#[derive(Serialize)]
struct ShownEndpoint {
    endpoint: Arc<str>,
    addresses: Vec<std::net::SocketAddr>,
    state: &'static str,
    since: Option<String>,
    reason: &'static str,
    calls: usize,
    connections: usize,
    idle: usize,
    ejections: u64,
    probes: Results,
    resolutions: Option<Results>,
}

#[derive(Serialize)]
struct Results {
    success: u64,
    failure: u64,
}

impl From<(u64, u64)> for Results {
    fn from((success, failure): (u64, u64)) -> Self {
        Self { success, failure }
    }
}

/// `GET /pools`.
pub(super) fn list(admin: &Admin) -> Reply {
    let now = admin.gate.clock().wall();
    let ago = |span: Duration| now.before(span).to_string();
    let pools: Vec<_> = all(admin).iter().map(|pool| show(pool, ago)).collect();
    json(StatusCode::OK, &serde_json::json!({ "pools": pools }))
}

fn show(pool: &Pool, ago: impl Fn(Duration) -> String) -> Shown {
    let state = &pool.state;
    let endpoint = |(endpoint, found): (&Arc<EndpointState>, &WorkerEndpoint)| {
        let report = state.report(endpoint);
        ShownEndpoint {
            endpoint: Arc::clone(endpoint.label()),
            addresses: endpoint.addresses(),
            state: report.standing.as_str(),
            since: report.since.map(&ago),
            reason: report.reason,
            calls: found.calls,
            connections: found.connections,
            idle: found.idle,
            ejections: endpoint.ejections(),
            probes: endpoint.probes().into(),
            resolutions: endpoint.resolutions().map(Results::from),
        }
    };
    let endpoints: Vec<_> = state.endpoints().iter().zip(&pool.endpoints).map(endpoint).collect();
    let [requests, connections] = state.overloaded();
    Shown {
        name: Arc::clone(&state.config().name),
        available: endpoints.iter().any(|endpoint| endpoint.state != "unhealthy"),
        calls: endpoints.iter().map(|endpoint| endpoint.calls).sum(),
        pending: state.pending(),
        retries: pool.retries,
        retry_budget_exhausted: state.exhausted(),
        refused: Refused { unhealthy: state.unavailable(), requests, connections },
        endpoints,
    }
}
