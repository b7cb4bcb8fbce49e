//! What a worker prepares per snapshot, so that calls find it ready.

use std::sync::Arc;

use http::HeaderValue;

use super::problem::Template;
use super::{cors, problem};
use crate::config::Snapshot;
use crate::gate::Gate;
use crate::policy::rates::RuleId;
use crate::telemetry::Recorder;
use crate::telemetry::labels::Label;
use crate::timer::Timer;
use crate::upstream::{Upstreams, WorkerPool, WorkerPools};

/// What a worker makes of a snapshot once, for all its calls.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) gate: Arc<Gate>,
    pub(super) timer: Timer,
    /// Labels of the routes, by number.
    pub(super) routes: Vec<Label>,
    /// Labels of the rate rules, by number, and of those that have none.
    rules: Vec<Label>,
    own_rate: Label,
    budget: Label,
    /// Pools and their labels, by number.
    pub(super) pools: Vec<(Arc<WorkerPool>, Label)>,
    /// What `via` says of a message that came over HTTP/1.1: of every answer of an upstream, and of most requests.
    pub(super) via: HeaderValue,
    /// What it says of a request that came over HTTP/2.
    pub(super) via_http2: HeaderValue,
    /// Refusals, by their place in the table.
    pub(super) problems: Vec<Template>,
    /// What browsers may do, where that is configured.
    pub(super) cors: Option<cors::Rules>,
}

impl Prepared {
    /// Makes it, for one worker.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        gate: &Arc<Gate>,
        (upstreams, pools): (&Upstreams, &WorkerPools),
        recorder: &Recorder,
        timer: &Timer,
    ) -> Self {
        let labels = recorder.telemetry().labels();
        let routes = snapshot.routes.routes().iter().map(|route| labels.intern(&route.name)).collect();
        let rules = snapshot.rates.rules().iter().map(|rule| labels.intern(&rule.name)).collect();
        let [own_rate, budget] = [RuleId::OWN_RATE, RuleId::BUDGET].map(|name| labels.intern(&name.into()));
        let states = upstreams.resolve(snapshot.generation, &snapshot.pools, &snapshot.resolver);
        let pools = pools.resolve(&states, timer);
        let pools = pools
            .into_iter()
            .map(|pool| {
                let label = labels.intern(&pool.config().name);
                (pool, label)
            })
            .collect();
        let via = |version: &str| {
            HeaderValue::try_from(format!("{version} {}", snapshot.via))
                .unwrap_or_else(|_| HeaderValue::from_static("1.1 -"))
        };
        let (via, via_http2) = (via("1.1"), via("2.0"));
        let problems = problem::templates(&snapshot.errors, &snapshot.via);
        let cors = cors::Rules::of(&snapshot);
        Self {
            snapshot,
            gate: Arc::clone(gate),
            timer: timer.clone(),
            routes,
            rules,
            own_rate,
            budget,
            pools,
            via,
            via_http2,
            problems,
            cors,
        }
    }

    /// The label of a rate rule.
    pub(super) fn rule_label(&self, rule: RuleId) -> Label {
        match rule {
            RuleId::Numbered(number) => self.rules.get(usize::from(number)).copied().unwrap_or_default(),
            RuleId::OwnRate => self.own_rate,
            RuleId::Budget => self.budget,
        }
    }

    /// The label of a route.
    pub(super) fn label(&self, route: u16) -> Label {
        self.routes.get(usize::from(route)).copied().unwrap_or_default()
    }
}
