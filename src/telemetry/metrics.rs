//! Every metric, named and described once, and how values become Prometheus text.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::stats::{BUCKETS, Durations};

/// A metric: its name, what it tells, its labels (all from closed sets).
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    kind: MetricType,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: Metric =
            Metric { name: $name, help: $help, labels: &[$($label),*], kind: MetricType::$kind };)+
        /// All metrics but those of the process itself.
        pub const ALL: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    BUILD_INFO = GAUGE "sessiongate_build_info" ["version"] "Always 1; the label says which version runs.";
    CALLS = COUNTER "sessiongate_calls_total" ["route", "method", "code", "status"] "Calls by route, method, problem code (ok if none) and status.";
    CALL_DURATION = HISTOGRAM "sessiongate_call_duration_seconds" ["route"] "Time from the head of a call to the last byte of its answer.";
    ADMISSION_DURATION = HISTOGRAM "sessiongate_admission_duration_seconds" [] "Time from the head of a call to its admission or refusal.";
    UPSTREAM_DURATION = HISTOGRAM "sessiongate_upstream_first_byte_seconds" ["upstream"] "Time from the admission of a call to the first byte of the upstream's answer.";
    UPSTREAM_FAILURES = COUNTER "sessiongate_upstream_failures_total" ["upstream", "kind"] "Calls that an upstream did not answer, by kind of failure.";
    UPSTREAM_CONNECTS = COUNTER "sessiongate_upstream_connects_total" ["upstream"] "Connections opened to an upstream.";
    UPSTREAM_REUSES = COUNTER "sessiongate_upstream_reuses_total" ["upstream"] "Calls sent on a connection that had carried one before.";
    UPSTREAM_RETRIES = COUNTER "sessiongate_upstream_retries_total" ["upstream"] "Calls sent a second time.";
    UPSTREAM_IDLE = GAUGE "sessiongate_upstream_idle_connections" ["upstream"] "Idle connections to an upstream.";
    UPSTREAM_CONNECTIONS = GAUGE "sessiongate_upstream_connections" ["upstream", "endpoint"] "Open connections to an endpoint, idle ones included.";
    UPSTREAM_ACTIVE = GAUGE "sessiongate_upstream_active_calls" ["upstream", "endpoint"] "Calls that an endpoint has not answered to the end.";
    UPSTREAM_PENDING = GAUGE "sessiongate_upstream_pending_calls" ["upstream"] "Calls that wait for a connection because there are as many as there may be.";
    UPSTREAM_HEALTHY = GAUGE "sessiongate_upstream_endpoint_healthy" ["upstream", "endpoint"] "1 if an endpoint gets calls, 0 if probes fail or it is ejected.";
    UPSTREAM_EJECTIONS = COUNTER "sessiongate_upstream_ejections_total" ["upstream", "endpoint"] "Ejections of an endpoint because calls failed.";
    UPSTREAM_PROBES = COUNTER "sessiongate_upstream_probes_total" ["upstream", "endpoint", "result"] "Health checks of an endpoint by result.";
    UPSTREAM_RESOLUTIONS = COUNTER "sessiongate_upstream_resolutions_total" ["upstream", "endpoint", "result"] "Resolutions of the name of an endpoint by result.";
    UPSTREAM_EXHAUSTED = COUNTER "sessiongate_upstream_retry_budget_exhausted_total" ["upstream"] "Retries that were due and not made, because there had been too many.";
    UPSTREAM_REFUSED = COUNTER "sessiongate_upstream_refused_total" ["upstream", "reason"] "Calls refused without a connection: no healthy endpoint, or too many calls or connections.";
    REQUEST_BYTES = COUNTER "sessiongate_request_body_bytes_total" [] "Bytes of request bodies.";
    RESPONSE_BYTES = COUNTER "sessiongate_response_body_bytes_total" [] "Bytes of response bodies.";
    CLIENT_GONE = COUNTER "sessiongate_client_gone_total" [] "Calls whose client left before the answer was complete.";
    UPSTREAM_CUT = COUNTER "sessiongate_upstream_cut_total" [] "Answers that an upstream broke off.";
    OBSERVED = COUNTER "sessiongate_would_refuse_total" ["severity"] "Calls that broke a rule which does not refuse, by severity.";
    RATE_EXCEEDED = COUNTER "sessiongate_rate_exceeded_total" ["rule", "severity"] "Calls for which a rate rule had nothing left, by rule and severity.";
    CALLS_RUNNING = GAUGE "sessiongate_calls_running" [] "Calls that run, where overload.max_calls bounds them.";
    RATE_BUCKETS = GAUGE "sessiongate_rate_buckets" [] "Buckets of rate rules that are not full.";
    STEPS = COUNTER "sessiongate_steps_total" ["flow", "step", "outcome"] "Calls that are a step of their session's flow, by outcome.";
    STEP_GAP = HISTOGRAM "sessiongate_step_gap_seconds" ["flow", "step"] "Time from the step before, or from the opening of the session, to the end of a step that was done.";
    STEPS_OBSERVED = COUNTER "sessiongate_steps_would_refuse_total" ["flow", "step", "rule", "severity"] "Steps that broke a rule which does not refuse, by rule and severity.";
    SESSIONS_LIVE = GAUGE "sessiongate_sessions_live" [] "Sessions that are live or suspended.";
    SESSIONS_OPENED = COUNTER "sessiongate_sessions_opened_total" [] "Sessions opened.";
    SESSIONS_ENDED = COUNTER "sessiongate_sessions_ended_total" ["cause"] "Sessions ended, by cause.";
    SESSION_AGES = HISTOGRAM "sessiongate_session_age_seconds" ["cause"] "Ages of sessions when they ended, by cause.";
    FOREIGN_USES = COUNTER "sessiongate_session_foreign_use_total" [] "Calls with a good token that named a session of somebody else.";
    SUSPENSIONS = COUNTER "sessiongate_session_foreign_use_suspensions_total" [] "Sessions suspended because others tried to use them.";
    TOMBSTONES = GAUGE "sessiongate_session_tombstones" [] "Ended sessions still remembered for their owners.";
    TOKEN_CACHE_HITS = COUNTER "sessiongate_token_cache_hits_total" [] "Tokens found verified, since the keys were loaded; a connection's own last token is not looked up.";
    TOKEN_CACHE_MISSES = COUNTER "sessiongate_token_cache_misses_total" [] "Tokens whose signature was verified or found wanting, since the keys were loaded.";
    TOKEN_CACHE_SIZE = GAUGE "sessiongate_token_cache_entries" [] "Verified tokens remembered.";
    CLIENTS = GAUGE "sessiongate_clients" ["state"] "Clients in the registry in force, by state.";
    CLIENTS_AGE = GAUGE "sessiongate_clients_age_seconds" [] "Time since the registry of clients in force was read.";
    CLIENTS_RELOADS = COUNTER "sessiongate_clients_reloads_total" ["result"] "Readings of the registry of clients by result, since the configuration was read.";
    CLIENTS_LAST_OK = GAUGE "sessiongate_clients_last_reload_successful" [] "1 if the registry of clients was taken when it was read last, 0 if it was refused and the one before stayed.";
    ISSUER_KEYS = GAUGE "sessiongate_issuer_keys" ["issuer"] "Keys in use of an issuer that publishes them.";
    ISSUER_KEYS_AGE = GAUGE "sessiongate_issuer_keys_age_seconds" ["issuer"] "Time since the published keys of an issuer were last fetched or confirmed.";
    ISSUER_FETCHES = COUNTER "sessiongate_issuer_fetches_total" ["issuer", "result"] "Fetches of the published keys of an issuer by result.";
    INTROSPECTIONS = COUNTER "sessiongate_introspections_total" ["issuer", "result"] "Questions to an issuer about tokens that are no JWTs, by answer.";
    INTROSPECTION_UP = GAUGE "sessiongate_introspection_available" ["issuer"] "1 if the issuer is asked about tokens, 0 while it is left alone because it did not answer.";
    CONNECTIONS_ACCEPTED = COUNTER "sessiongate_connections_accepted_total" [] "Client connections accepted.";
    CONNECTIONS_OPEN = GAUGE "sessiongate_connections_open" [] "Client connections open.";
    ACCEPT_ERRORS = COUNTER "sessiongate_accept_errors_total" ["reason"] "Connections that could not be accepted, by reason.";
    TLS_HANDSHAKES = COUNTER "sessiongate_tls_handshakes_total" ["result"] "TLS handshakes by result.";
    CONNECTIONS_REFUSED = COUNTER "sessiongate_connections_refused_total" ["reason"] "Client connections that were ended for what they did before or beside calls, by reason.";
    CONFIG_GENERATION = GAUGE "sessiongate_config_generation" [] "Number of the configuration in force, from 1 at start.";
    CONFIG_RELOADS = COUNTER "sessiongate_config_reloads_total" ["result"] "Reloads by result.";
    CONFIG_LAST_OK = GAUGE "sessiongate_config_last_reload_successful" [] "1 if the last reload was taken, 0 if it was refused and the configuration before stayed.";
    LOG_DROPPED = COUNTER "sessiongate_log_lines_dropped_total" [] "Access log lines dropped because the reader was too slow or the disk full.";
    TRAIL_RECORDS = COUNTER "sessiongate_trail_records_total" [] "Records of calls that were taken into the trail.";
    TRAIL_WRITTEN = COUNTER "sessiongate_trail_written_total" ["sink"] "Records that were written, by where to: files or stdout.";
    TRAIL_DROPPED = COUNTER "sessiongate_trail_dropped_total" ["sink"] "Records that are missing: in files or on stdout because the writer was too slow or could not write, everywhere (all) because there were too many at once.";
    TRAIL_FAILURES = COUNTER "sessiongate_trail_write_failures_total" ["sink"] "Writes of records that failed.";
    TRAIL_UP = GAUGE "sessiongate_trail_writable" ["sink"] "1 if records could be written last time, 0 if not: a full disk, most often.";
    TRAIL_MEMORY = GAUGE "sessiongate_trail_memory_bytes" [] "Memory that the last calls of sessions take.";
    TRAIL_SESSIONS = GAUGE "sessiongate_trail_sessions" [] "Sessions whose last calls are in memory.";
    TRAIL_EVICTED = COUNTER "sessiongate_trail_sessions_evicted_total" [] "Sessions whose calls had to make room in memory for those of others.";
    DRAINING = GAUGE "sessiongate_draining" [] "1 while the gateway is shutting down.";
}

/// Samples of one scrape.
#[derive(Debug, Default)]
pub struct Exposition(Vec<MetricFamily>);

impl Exposition {
    /// Adds a value of a counter or gauge under these label values, which are as many as the metric has labels.
    pub fn add(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let mut sample = sample(metric, labels);
        match metric.kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        self.push(metric, sample);
    }

    /// Adds a counter's total.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 calls")]
    pub fn count(&mut self, metric: &Metric, labels: &[&str], total: u64) {
        self.add(metric, labels, total as f64);
    }

    /// Adds observations of a histogram.
    pub fn observe(&mut self, metric: &Metric, labels: &[&str], durations: &Durations) {
        self.observe_in(&BUCKETS, metric, labels, durations);
    }

    /// Adds observations of a histogram with these bounds.
    pub fn observe_in(
        &mut self,
        bounds: &[f64; BUCKETS.len()],
        metric: &Metric,
        labels: &[&str],
        durations: &Durations,
    ) {
        let mut sample = sample(metric, labels);
        let mut histogram = Histogram::default();
        let mut cumulative = 0;
        let buckets = bounds.iter().zip(durations.counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_cumulative_count(cumulative);
            bucket.set_upper_bound(*bound);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(durations.counts.iter().sum());
        histogram.set_sample_sum(durations.sum);
        sample.set_histogram(histogram);
        self.push(metric, sample);
    }

    fn push(&mut self, metric: &Metric, sample: Sample) {
        if let Some(family) = self.0.iter_mut().find(|family| family.name() == metric.name) {
            family.mut_metric().push(sample);
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.into());
        family.set_help(metric.help.into());
        family.set_field_type(metric.kind);
        family.set_metric(vec![sample]);
        self.0.push(family);
    }

    /// Prometheus text of these samples and of the process itself.
    ///
    /// # Errors
    /// If a family is empty or inconsistent, which would be a bug.
    pub fn encode(mut self, process: &prometheus::Registry) -> Result<String, prometheus::Error> {
        self.0.extend(process.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0, &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

fn sample(metric: &Metric, labels: &[&str]) -> Sample {
    debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
    let pairs = metric.labels.iter().zip(labels).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    });
    let mut sample = Sample::default();
    sample.set_label(pairs.collect());
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        for metric in ALL {
            assert!(metric.name.starts_with("sessiongate_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricType::COUNTER, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn samples_become_text() {
        let mut exposition = Exposition::default();
        exposition.count(&CALLS, &["orders", "GET", "ok", "200"], 3);
        exposition.observe(&CALL_DURATION, &["orders"], &Durations { counts: [1; BUCKETS.len() + 1], sum: 2.5 });
        let text = exposition.encode(&prometheus::Registry::new()).unwrap();
        assert!(
            text.contains("sessiongate_calls_total{route=\"orders\",method=\"GET\",code=\"ok\",status=\"200\"} 3"),
            "{text}"
        );
        assert!(text.contains("sessiongate_call_duration_seconds_bucket{route=\"orders\",le=\"+Inf\"} 16"), "{text}");
    }
}
