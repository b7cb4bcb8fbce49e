use std::cell::Cell;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::upstream::config::Endpoint;
use crate::upstream::health::FULL;

struct Stage {
    shares: Vec<u32>,
    loads: Vec<Cell<usize>>,
}

impl Stage {
    fn new(shares: &[u32]) -> Self {
        Self { shares: shares.to_vec(), loads: shares.iter().map(|_| Cell::new(0)).collect() }
    }
}

impl View for Stage {
    fn count(&self) -> usize {
        self.shares.len()
    }

    fn share(&self, place: usize) -> u32 {
        self.shares[place]
    }

    fn load(&self, place: usize) -> usize {
        self.loads[place].get()
    }

    fn is_even(&self) -> bool {
        self.shares.iter().all(|share| *share == FULL)
    }
}

fn balancer(balance: Balance, weights: &[u32]) -> Balancer {
    let endpoint = |number| Endpoint {
        host: format!("10.0.0.{number}").into(),
        port: 8080,
        authority: HeaderValue::from_static("o"),
        tls: false,
    };
    let endpoints = (0..weights.len()).map(endpoint).collect();
    Balancer::new(&PoolConfig { balance, weights: weights.to_vec(), ..PoolConfig::new("p", endpoints) })
}

fn spread(balancer: &Balancer, stage: &Stage, calls: u64) -> Vec<u64> {
    let mut counts = vec![0; stage.count()];
    for call in 0..calls {
        let key = ring_hash::mix(call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        counts[balancer.pick(stage, || Some(key)).unwrap()] += 1;
    }
    counts
}

#[test]
fn turns_follow_weights_exactly_and_evenly() {
    let turns = balancer(Balance::RoundRobin, &[1, 1, 1]);
    assert_eq!(spread(&turns, &Stage::new(&[FULL; 3]), 300), [100; 3]);
    let turns = balancer(Balance::RoundRobin, &[3, 1]);
    let stage = Stage::new(&[3 * FULL, FULL]);
    let picks: Vec<_> = (0..8).map(|_| turns.pick(&stage, || None).unwrap()).collect();
    assert_eq!(picks, [0, 0, 1, 0, 0, 0, 1, 0]);
}

#[test]
fn of_two_the_one_with_less_to_do_is_taken() {
    let draws = balancer(Balance::LeastRequests, &[1, 1]);
    let stage = Stage::new(&[FULL; 2]);
    stage.loads[0].set(1);
    assert_eq!(spread(&draws, &stage, 200), [0, 200], "both are looked at");
    let draws = balancer(Balance::LeastRequests, &[1; 4]);
    let stage = Stage::new(&[FULL; 4]);
    stage.loads[2].set(1000);
    assert_eq!(spread(&draws, &stage, 400)[2], 0, "the slow one gets nothing more");
    for _ in 0..4000 {
        let place = draws.pick(&stage, || None).unwrap();
        stage.loads[place].set(stage.load(place) + 1);
    }
    let loads: Vec<_> = stage.loads.iter().map(Cell::get).collect();
    assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() < 50, "{loads:?}");
}

#[test]
fn loads_follow_weights() {
    let draws = balancer(Balance::LeastRequests, &[3, 1]);
    let stage = Stage::new(&[3 * FULL, FULL]);
    for _ in 0..4000 {
        let place = draws.pick(&stage, || None).unwrap();
        stage.loads[place].set(stage.load(place) + 1);
    }
    assert!((2900..=3100).contains(&stage.load(0)), "{}", stage.load(0));
}

#[test]
fn the_ring_is_even_to_some_percent_and_follows_weights() {
    let counts = spread(&balancer(Balance::RingHash, &[1; 4]), &Stage::new(&[FULL; 4]), 40_000);
    assert!(counts.iter().all(|count| (8_000..12_000).contains(count)), "{counts:?}");
    let counts = spread(&balancer(Balance::RingHash, &[3, 1]), &Stage::new(&[3 * FULL, FULL]), 40_000);
    assert!((27_000..33_000).contains(&counts[0]), "{counts:?}");
}

#[test]
fn a_ring_takes_calls_without_a_key_in_turn() {
    let ring = balancer(Balance::RingHash, &[1; 2]);
    let stage = Stage::new(&[FULL; 2]);
    let first = ring.pick(&stage, || None);
    assert_ne!(first, ring.pick(&stage, || None));
}

proptest! {
    #[test]
    fn only_an_endpoint_that_takes_calls_is_picked(
        shares in prop::collection::vec(prop_oneof![Just(0), 1..=4 * FULL], 1..8), key: u64,
    ) {
        for balance in [Balance::RoundRobin, Balance::LeastRequests, Balance::RingHash] {
            let picked = balancer(balance, &vec![4; shares.len()]).pick(&Stage::new(&shares), || Some(key));
            prop_assert_eq!(picked.is_some(), shares.iter().any(|share| *share > 0));
            prop_assert!(picked.is_none_or(|place| shares[place] > 0));
        }
    }

    #[test]
    fn losing_one_moves_only_its_sessions(count in 2_usize..8, lost: prop::sample::Index, keys: [u64; 32]) {
        let ring = balancer(Balance::RingHash, &vec![1; count]);
        let lost = lost.index(count);
        let all = Stage::new(&vec![FULL; count]);
        let mut rest = Stage::new(&vec![FULL; count]);
        rest.shares[lost] = 0;
        for key in keys {
            let (before, after) = (ring.pick(&all, || Some(key)).unwrap(), ring.pick(&rest, || Some(key)).unwrap());
            prop_assert!(before == after || before == lost);
        }
    }

    #[test]
    fn adding_one_moves_sessions_only_to_it(count in 1_usize..8, keys: [u64; 32]) {
        let (before, after) = (balancer(Balance::RingHash, &vec![1; count]), balancer(Balance::RingHash, &vec![1; count + 1]));
        for key in keys {
            let old = before.pick(&Stage::new(&vec![FULL; count]), || Some(key)).unwrap();
            let new = after.pick(&Stage::new(&vec![FULL; count + 1]), || Some(key)).unwrap();
            prop_assert!(old == new || new == count);
        }
    }

    #[test]
    fn a_session_comes_home_once_in_a_slow_start(key: u64, home in 0_usize..3) {
        let ring = balancer(Balance::RingHash, &[1; 3]);
        let mut places = Vec::new();
        for share in (16..=FULL).step_by(16) {
            let mut stage = Stage::new(&[FULL; 3]);
            stage.shares[home] = share;
            places.push(ring.pick(&stage, || Some(key)).unwrap());
        }
        places.dedup();
        prop_assert!(places.len() <= 2, "{places:?}");
    }
}
