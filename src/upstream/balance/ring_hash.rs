//! By session: endpoints stand at many points of a ring, and a call goes to the first point behind its key. An endpoint
//! that comes or goes moves only the keys in front of its own points.

use aws_lc_rs::digest::{SHA256, digest};

use super::View;
use super::round_robin::RoundRobin;
use crate::upstream::config::PoolConfig;
use crate::upstream::health::FULL;

/// Points per unit of weight, in groups of four: shares are even to some percent.
const GROUPS: u32 = 64;

/// Most points of an endpoint, however much it weighs.
const GROUPS_MAX: u32 = 64 * 64;

#[derive(Debug)]
pub(in crate::upstream) struct RingHash {
    /// Points in order, and whose they are.
    points: Vec<(u64, usize)>,
    weights: Vec<u32>,
    /// For calls that belong to nothing.
    turns: RoundRobin,
}

impl RingHash {
    pub(super) fn new(config: &PoolConfig) -> Self {
        let mut points = Vec::new();
        let weights: Vec<_> = (0..config.endpoints.len()).map(|place| config.weight(place)).collect();
        for ((place, endpoint), weight) in config.endpoints.iter().enumerate().zip(&weights) {
            // The same on every gateway, so that all of them send a session the same way.
            for group in 0..weight.saturating_mul(GROUPS).min(GROUPS_MAX) {
                let name = format!("{}#{group}", endpoint.label());
                let digest = digest(&SHA256, name.as_bytes());
                let (words, _) = digest.as_ref().as_chunks();
                points.extend(words.iter().map(|word| (u64::from_be_bytes(*word), place)));
            }
        }
        points.sort_unstable();
        Self { points, weights, turns: RoundRobin::new(config.endpoints.len()) }
    }

    pub(super) fn pick(&self, view: &impl View, key: Option<u64>) -> Option<usize> {
        let Some(key) = key else { return self.turns.pick(view) };
        let from = self.points.partition_point(|(point, _)| *point < key);
        let (behind, before) = self.points.split_at(from.min(self.points.len()));
        let around = || before.iter().chain(behind).map(|(_, place)| *place);
        let whole = |place: usize| self.weights.get(place).map_or(FULL, |weight| weight.saturating_mul(FULL));
        // In a slow start an endpoint takes those of its keys first that are low in an order of their own: none comes and
        // goes while its share grows.
        let order = u128::from(mix(key));
        let takes = |place: &usize| (order * u128::from(whole(*place))) >> 64 < u128::from(view.share(*place));
        around().find(takes).or_else(|| around().find(|place| view.share(*place) > 0))
    }
}

/// Spreads keys that are near each other (the finalizer of SplitMix64).
pub(in crate::upstream) const fn mix(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}
