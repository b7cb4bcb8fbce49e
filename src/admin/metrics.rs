//! One scrape: the counters of all workers, merged.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use http::StatusCode;

use super::{Admin, Refusal, Reply, pools, text};
use crate::policy::session::EndCause;
use crate::policy::severity::Severity;
use crate::store::AnyStore;
use crate::store::memory::{AGES, Ages};
use crate::telemetry::labels::Label;
use crate::telemetry::metrics::{self as metric, Exposition};
use crate::telemetry::stats::{CallKey, Durations};
use crate::telemetry::steps::{GAP_BUCKETS, StepTable};

/// Prometheus text, version 0.0.4.
pub(super) fn scrape(admin: &Admin) -> Result<Reply, Refusal> {
    let mut out = Exposition::default();
    out.count(&metric::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
    add_calls(&mut out, admin);
    add_upstreams(&mut out, admin);
    add_sessions(&mut out, admin);
    add_clients(&mut out, admin);
    add_issuers(&mut out, admin);
    add_trail(&mut out, admin);
    add_process(&mut out, admin);
    let encoded = out.encode(&admin.process);
    let encoded = encoded.map_err(|error| {
        tracing::error!(%error, "metrics cannot be encoded");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded; see the log")
    })?;
    Ok(text(StatusCode::OK, prometheus::TEXT_FORMAT, encoded))
}

fn add_calls(out: &mut Exposition, admin: &Admin) {
    let labels = admin.telemetry.labels();
    let mut calls: BTreeMap<CallLabels, u64> = BTreeMap::new();
    let (mut routes, mut upstreams) = (BTreeMap::new(), BTreeMap::new());
    let mut admission = Durations::default();
    let mut exceeded: HashMap<(Label, Severity), u64> = HashMap::new();
    let mut steps = StepTable::default();
    let (mut bytes_in, mut bytes_out, mut gone, mut cut, mut observed, mut warned) = (0, 0, 0, 0, 0, 0);
    for worker in admin.telemetry.workers() {
        let stats = worker.calls();
        for (key, count) in stats.calls {
            *calls.entry(CallLabels::of(key)).or_insert(0) += count;
        }
        merge(&mut routes, &stats.durations);
        merge(&mut upstreams, &stats.upstream);
        admission.merge(&stats.admission);
        steps.merge(&stats.steps);
        bytes_in += stats.bytes_in;
        bytes_out += stats.bytes_out;
        gone += stats.client_gone;
        cut += stats.upstream_cut;
        observed += stats.observed;
        warned += stats.warned;
        for (of, count) in stats.exceeded {
            *exceeded.entry(of).or_insert(0) += count;
        }
    }
    for (call, count) in calls {
        let (route, status) = (labels.name(Label::numbered(call.route)), call.status.to_string());
        out.count(&metric::CALLS, &[&route, call.method, call.code, &status], count);
    }
    for (label, durations) in routes {
        out.observe(&metric::CALL_DURATION, &[&labels.name(label)], &durations);
    }
    for (label, durations) in upstreams {
        out.observe(&metric::UPSTREAM_DURATION, &[&labels.name(label)], &durations);
    }
    out.observe(&metric::ADMISSION_DURATION, &[], &admission);
    out.count(&metric::REQUEST_BYTES, &[], bytes_in);
    out.count(&metric::RESPONSE_BYTES, &[], bytes_out);
    out.count(&metric::CLIENT_GONE, &[], gone);
    out.count(&metric::UPSTREAM_CUT, &[], cut);
    for ((rule, severity), count) in exceeded {
        out.count(&metric::RATE_EXCEEDED, &[&labels.name(rule), severity.as_str()], count);
    }
    out.count(&metric::CALLS_RUNNING, &[], u64::from(admin.gate.running().count()));
    let buckets = u64::try_from(admin.gate.limiter().len()).unwrap_or(u64::MAX);
    out.count(&metric::RATE_BUCKETS, &[], buckets);
    out.count(&metric::OBSERVED, &["observe"], observed);
    out.count(&metric::OBSERVED, &["warn"], warned);
    add_steps(out, &steps);
}

fn add_steps(out: &mut Exposition, steps: &StepTable) {
    for counts in steps.iter() {
        let (flow, step) = (&*counts.flow, &*counts.step);
        for (outcome, count) in counts.outcomes() {
            out.count(&metric::STEPS, &[flow, step, outcome], count);
        }
        for (severity, rule, count) in counts.would_refuse() {
            out.count(&metric::STEPS_OBSERVED, &[flow, step, rule, severity], count);
        }
        out.observe_in(&GAP_BUCKETS, &metric::STEP_GAP, &[flow, step], &counts.gaps);
    }
}

/// Several refusals may share a code: they are one series.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct CallLabels {
    route: u16,
    method: &'static str,
    code: &'static str,
    status: u64,
}

impl CallLabels {
    fn of(key: CallKey) -> Self {
        Self { route: key.route(), method: key.method(), code: key.code(), status: key.status() }
    }
}

fn merge(into: &mut BTreeMap<Label, Durations>, by_label: &[Durations]) {
    for (number, durations) in (0..).zip(by_label) {
        if durations.counts.iter().any(|count| *count > 0) {
            into.entry(Label::numbered(number)).or_default().merge(durations);
        }
    }
}

fn add_upstreams(out: &mut Exposition, admin: &Admin) {
    for pool in pools::all(admin) {
        let (name, state) = (&*pool.state.config().name, &pool.state);
        out.count(&metric::UPSTREAM_CONNECTS, &[name], pool.connects);
        out.count(&metric::UPSTREAM_REUSES, &[name], pool.reuses);
        out.count(&metric::UPSTREAM_RETRIES, &[name], pool.retries);
        out.count(&metric::UPSTREAM_EXHAUSTED, &[name], state.exhausted());
        let [requests, connections] = state.overloaded();
        out.count(&metric::UPSTREAM_REFUSED, &[name, "unhealthy"], state.unavailable());
        out.count(&metric::UPSTREAM_REFUSED, &[name, "requests"], requests);
        out.count(&metric::UPSTREAM_REFUSED, &[name, "connections"], connections);
        out.count(&metric::UPSTREAM_PENDING, &[name], state.pending() as u64);
        out.count(&metric::UPSTREAM_IDLE, &[name], pool.endpoints.iter().map(|found| found.idle as u64).sum());
        for (endpoint, found) in state.endpoints().iter().zip(&pool.endpoints) {
            let labels = [name, endpoint.label()];
            out.count(&metric::UPSTREAM_CONNECTIONS, &labels, found.connections as u64);
            out.count(&metric::UPSTREAM_ACTIVE, &labels, found.calls as u64);
            out.count(&metric::UPSTREAM_HEALTHY, &labels, u64::from(state.report(endpoint).standing.is_up()));
            out.count(&metric::UPSTREAM_EJECTIONS, &labels, endpoint.ejections());
            let (passed, failed) = endpoint.probes();
            let probed = state.config().probe.as_ref().map(|_| (passed, failed));
            for (metric, results) in
                [(&metric::UPSTREAM_PROBES, probed), (&metric::UPSTREAM_RESOLUTIONS, endpoint.resolutions())]
            {
                let Some((succeeded, failed)) = results else { continue };
                out.count(metric, &[name, endpoint.label(), "success"], succeeded);
                out.count(metric, &[name, endpoint.label(), "failure"], failed);
            }
        }
    }
    let mut failures: BTreeMap<(Label, &str), u64> = BTreeMap::new();
    for (key, count) in admin.telemetry.workers().iter().flat_map(|worker| worker.failures()) {
        *failures.entry(key).or_insert(0) += count;
    }
    for ((label, kind), count) in failures {
        out.count(&metric::UPSTREAM_FAILURES, &[&admin.telemetry.labels().name(label), kind], count);
    }
}

fn add_sessions(out: &mut Exposition, admin: &Admin) {
    let AnyStore::Memory(store) = admin.gate.store();
    let counts = store.counts();
    out.count(&metric::SESSIONS_LIVE, &[], counts.live);
    out.count(&metric::SESSIONS_OPENED, &[], counts.opened);
    for (cause, count) in EndCause::ALL.into_iter().zip(counts.ended) {
        out.count(&metric::SESSIONS_ENDED, &[cause.as_str()], count);
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let bounds = AGES.map(|secs| secs as f64);
    for (cause, Ages { counts, sum }) in EndCause::ALL.into_iter().zip(counts.ages) {
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let ages = Durations { counts, sum: sum as f64 };
        out.observe_in(&bounds, &metric::SESSION_AGES, &[cause.as_str()], &ages);
    }
    out.count(&metric::FOREIGN_USES, &[], admin.gate.foreign_uses());
    out.count(&metric::SUSPENSIONS, &[], admin.gate.suspensions());
    out.count(&metric::TOMBSTONES, &[], counts.tombstones);
    let live = admin.live.snapshot();
    out.count(&metric::TOKEN_CACHE_HITS, &[], live.auth.counts().hits.load(Ordering::Relaxed));
    out.count(&metric::TOKEN_CACHE_MISSES, &[], live.auth.counts().misses.load(Ordering::Relaxed));
    out.count(&metric::TOKEN_CACHE_SIZE, &[], live.auth.remembered() as u64);
}

fn add_clients(out: &mut Exposition, admin: &Admin) {
    let live = admin.live.snapshot();
    let Some(registry) = &live.clients else { return };
    let (clients, report) = (registry.snapshot(), registry.report());
    let enabled = clients.enabled();
    out.count(&metric::CLIENTS, &["enabled"], enabled as u64);
    out.count(&metric::CLIENTS, &["disabled"], (clients.len() - enabled) as u64);
    out.add(&metric::CLIENTS_AGE, &[], report.age.as_secs_f64());
    out.count(&metric::CLIENTS_RELOADS, &["accepted"], report.accepted);
    out.count(&metric::CLIENTS_RELOADS, &["refused"], report.refused);
    out.count(&metric::CLIENTS_LAST_OK, &[], u64::from(report.refusal.is_none()));
}

fn add_issuers(out: &mut Exposition, admin: &Admin) {
    let live = admin.live.snapshot();
    for introspection in live.auth.issuers().iter().filter_map(|issuer| issuer.introspection.as_ref()) {
        let (name, counts) = (&**introspection.issuer(), introspection.counts());
        for (result, counter) in
            [("active", &counts.active), ("inactive", &counts.inactive), ("failed", &counts.failed)]
        {
            out.count(&metric::INTROSPECTIONS, &[name, result], counter.load(Ordering::Relaxed));
        }
        out.count(&metric::INTROSPECTION_UP, &[name], u64::from(introspection.report().0));
    }
    for set in live.auth.key_sets() {
        let (name, report, counts) = (&**set.issuer(), set.report(), set.counts());
        out.count(&metric::ISSUER_KEYS, &[name], report.keys.len() as u64);
        if let Some(age) = report.age {
            out.add(&metric::ISSUER_KEYS_AGE, &[name], age.as_secs_f64());
        }
        for (result, counter) in
            [("changed", &counts.changed), ("unchanged", &counts.unchanged), ("failed", &counts.failed)]
        {
            out.count(&metric::ISSUER_FETCHES, &[name, result], counter.load(Ordering::Relaxed));
        }
    }
}

fn add_trail(out: &mut Exposition, admin: &Admin) {
    let Some(counts) = admin.trail.counts() else { return };
    out.count(&metric::TRAIL_RECORDS, &[], counts.taken);
    out.count(&metric::TRAIL_DROPPED, &["all"], counts.dropped);
    out.count(&metric::TRAIL_MEMORY, &[], counts.bytes as u64);
    out.count(&metric::TRAIL_SESSIONS, &[], counts.sessions as u64);
    out.count(&metric::TRAIL_EVICTED, &[], counts.evicted);
    for (sink, counts) in admin.trail.sinks() {
        let sink = [sink];
        out.count(&metric::TRAIL_WRITTEN, &sink, counts.written.load(Ordering::Relaxed));
        out.count(&metric::TRAIL_DROPPED, &sink, counts.dropped.load(Ordering::Relaxed));
        out.count(&metric::TRAIL_FAILURES, &sink, counts.failures.load(Ordering::Relaxed));
        out.count(&metric::TRAIL_UP, &sink, u64::from(!counts.failed.load(Ordering::Relaxed)));
    }
}

fn add_process(out: &mut Exposition, admin: &Admin) {
    let connections = (admin.connections)();
    out.count(&metric::CONNECTIONS_ACCEPTED, &[], connections.accepted);
    out.count(&metric::CONNECTIONS_OPEN, &[], connections.open);
    for (family, counts) in [
        (&metric::ACCEPT_ERRORS, connections.accept_errors),
        (&metric::TLS_HANDSHAKES, connections.handshakes),
        (&metric::CONNECTIONS_REFUSED, connections.refused),
    ] {
        counts.into_iter().for_each(|(label, count)| out.count(family, &[label], count));
    }
    out.count(&metric::CONFIG_GENERATION, &[], admin.live.generation());
    out.count(&metric::CONFIG_RELOADS, &["accepted"], admin.reloads.accepted.load(Ordering::Relaxed));
    out.count(&metric::CONFIG_RELOADS, &["refused"], admin.reloads.refused.load(Ordering::Relaxed));
    out.count(&metric::CONFIG_LAST_OK, &[], 1 - admin.reloads.last_refused.load(Ordering::Relaxed).min(1));
    out.count(&metric::LOG_DROPPED, &[], admin.telemetry.log().map_or(0, |log| log.dropped()));
    out.count(&metric::DRAINING, &[], u64::from(admin.gate.is_draining()));
}
