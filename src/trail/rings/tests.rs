use super::*;
use crate::policy::ids::SessionId;
use crate::trail::record::Entry;
use crate::trail::record::tests::{batch, entry};

fn session(number: u8) -> SessionKey {
    SessionId::from_random([number; 16]).key()
}

fn call(number: u8) -> (Entry, String) {
    (Entry { session: Some(session(number)), ..entry() }, "/orders".into())
}

const AN_HOUR: Duration = Duration::from_secs(3600);

#[test]
fn sessions_that_never_call_cost_nothing() {
    let mut rings = Rings::default();
    let bounds = Bounds { memory: 1 << 20, calls: 10, keep: AN_HOUR };
    rings.take([&batch([(entry(), "/".into())])], bounds, Timestamp::EPOCH);
    assert_eq!(rings.counts(), (0, 0, 0));
}

#[test]
fn memory_is_bounded_and_the_idlest_session_makes_room() {
    let mut rings = Rings::default();
    let bounds = Bounds { memory: 80_000, calls: 10, keep: AN_HOUR };
    for second in 0..1000u64 {
        let now = Timestamp::from_secs(second);
        // The first session calls again and again, the others once.
        let other = u8::try_from(second % 250).unwrap() + 1;
        rings.take([&batch([call(0), call(other)])], bounds, now);
        assert!(rings.counts().0 <= bounds.memory, "{second}: {:?}", rings.counts());
    }
    let (_, sessions, evicted) = rings.counts();
    assert!(sessions > 10 && evicted > 0, "{sessions} {evicted}");
    assert_eq!(rings.get(session(0)).map(|ring| (ring.calls(), ring.forgotten())), Some((10, 990)));
}

#[test]
fn sessions_are_forgotten_some_time_after_their_last_call() {
    let mut rings = Rings::default();
    let bounds = Bounds { memory: 1 << 20, calls: 10, keep: AN_HOUR };
    rings.take([&batch([call(1), call(2)])], bounds, Timestamp::from_secs(0));
    rings.take([&batch([call(1)])], bounds, Timestamp::from_secs(1800));
    rings.make_room(bounds, Timestamp::from_secs(3600));
    assert!(rings.get(session(1)).is_some() && rings.get(session(2)).is_none());
    rings.make_room(bounds, Timestamp::from_secs(1800 + 3600));
    assert_eq!(rings.counts(), (0, 0, 0), "age is no eviction");
}

#[test]
fn a_session_that_alone_is_too_large_goes_too() {
    let mut rings = Rings::default();
    let bounds = Bounds { memory: 100, calls: 10, keep: AN_HOUR };
    rings.take([&batch([call(1)])], bounds, Timestamp::EPOCH);
    assert_eq!(rings.counts(), (0, 0, 1));
}

#[test]
fn calls_that_came_to_different_workers_are_put_in_order() {
    let mut rings = Rings::default();
    let bounds = Bounds { memory: 1 << 20, calls: 2, keep: AN_HOUR };
    let numbered = |number| (Entry { session: Some(session(1)), number, ..entry() }, "/".to_owned());
    let (one, two) = (batch([numbered(3)]), batch([numbered(1), numbered(2)]));
    rings.take([&one, &two], bounds, Timestamp::EPOCH);
    let mut numbers = Vec::new();
    rings.get(session(1)).unwrap().for_each(|entry, _| numbers.push(entry.number));
    assert_eq!(numbers, [2, 3]);
}
