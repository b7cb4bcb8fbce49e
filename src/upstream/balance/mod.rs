//! Which endpoint gets a call: one algorithm per file.

mod least_requests;
mod ring_hash;
mod round_robin;

use super::config::{Balance, PoolConfig};
use least_requests::LeastRequests;
use ring_hash::RingHash;
use round_robin::RoundRobin;

/// What an algorithm may know of the endpoints at the moment of a call.
pub(super) trait View {
    /// How many there are.
    fn count(&self) -> usize;

    /// The share of one, by its weight and its health; 0: it takes nothing now.
    fn share(&self, place: usize) -> u32;

    /// The calls it has to answer.
    fn load(&self, place: usize) -> usize;

    /// Whether all have the same share, which is not 0.
    fn is_even(&self) -> bool;
}

/// Chooses endpoints for one worker.
#[derive(Debug)]
pub(super) enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequests(LeastRequests),
    RingHash(RingHash),
}

impl Balancer {
    pub(super) fn new(config: &PoolConfig) -> Self {
        match config.balance {
            Balance::RoundRobin => Self::RoundRobin(RoundRobin::new(config.endpoints.len())),
            Balance::LeastRequests => Self::LeastRequests(LeastRequests),
            Balance::RingHash => Self::RingHash(RingHash::new(config)),
        }
    }

    /// An endpoint that takes a call; none if there is none. `affinity` ties calls together that belong to one endpoint,
    /// and is asked for only where that matters.
    pub(super) fn pick(&self, view: &impl View, affinity: impl FnOnce() -> Option<u64>) -> Option<usize> {
        match self {
            Self::RoundRobin(turns) => turns.pick(view),
            Self::LeastRequests(draws) => draws.pick(view),
            Self::RingHash(ring) => ring.pick(view, affinity()),
        }
    }
}

#[cfg(test)]
mod tests;
