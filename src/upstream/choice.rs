//! Which endpoint a call goes to: the balancer's choice among those that take calls now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Outbound;
use super::balance::View;
use super::client::WorkerPool;
use super::health::{FULL, Offer};
use super::state::EndpointState;

/// The choice for one call.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) place: usize,
    /// Whether the call tries an endpoint that was ejected.
    pub(super) trial: Option<Trial>,
}

/// The one call that tries an endpoint that was ejected. If it ends without a verdict, because its client left or never got
/// as far, the next one may try at once.
#[derive(Debug)]
pub(super) struct Trial {
    endpoint: Arc<EndpointState>,
    patience: Instant,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.endpoint.health.end_trial(self.patience);
    }
}

impl From<usize> for Choice {
    fn from(place: usize) -> Self {
        Self { place, trial: None }
    }
}

impl WorkerPool {
    /// An endpoint that takes a call and was not tried yet.
    pub(super) fn pick(&self, request: &impl Outbound, tried: &[usize]) -> Option<Choice> {
        let calm = self.endpoints.0.iter().all(|endpoint| endpoint.state.health.is_calm());
        if calm && tried.is_empty() && self.endpoints.0.len() == 1 {
            return Some(Choice::from(0));
        }
        loop {
            let mut moment = Moment { pool: self, tried, calm, panic: false, now: Instant::now() };
            let count = moment.count();
            // Where calls have failed everywhere, that says more about the calls, or about the way there.
            moment.panic = !calm && (0..count).all(|place| moment.share(place) == 0);
            let place = self.balancer.pick(&moment, || request.affinity())?;
            let endpoint = &self.endpoints.0.get(place)?.state;
            let trial = !calm && !moment.panic && moment.offer(place) == Some(Offer::Trial);
            if !trial {
                return Some(Choice::from(place));
            }
            if let Some(patience) = endpoint.health.begin_trial(self.config().ejection.as_ref(), moment.now) {
                return Some(Choice { place, trial: Some(Trial { endpoint: Arc::clone(endpoint), patience }) });
            }
        }
    }
}

/// The endpoints as a balancer sees them for one call.
struct Moment<'a> {
    pool: &'a WorkerPool,
    tried: &'a [usize],
    /// Nothing is wrong anywhere.
    calm: bool,
    /// There would be none left but those that were ejected: then they are used.
    panic: bool,
    now: Instant,
}

impl Moment<'_> {
    fn offer(&self, place: usize) -> Option<Offer> {
        let endpoint = self.pool.endpoints.0.get(place)?;
        Some(endpoint.state.health.offer(self.pool.config().slow_start, self.now))
    }
}

impl View for Moment<'_> {
    fn count(&self) -> usize {
        self.pool.endpoints.0.len()
    }

    fn share(&self, place: usize) -> u32 {
        let part = match if self.calm { Some(Offer::Share(FULL)) } else { self.offer(place) } {
            _ if self.tried.contains(&place) => 0,
            Some(Offer::Share(share)) => share,
            Some(Offer::Trial) => FULL,
            Some(Offer::Ejected) if self.panic => FULL,
            Some(Offer::Ejected | Offer::Unhealthy) | None => 0,
        };
        self.pool.config().weight(place).saturating_mul(part)
    }

    fn load(&self, place: usize) -> usize {
        self.pool.endpoints.0.get(place).map_or(0, |endpoint| endpoint.tally.calls.load(Ordering::Relaxed))
    }

    fn is_even(&self) -> bool {
        self.pool.uniform && self.calm && self.tried.is_empty()
    }
}
