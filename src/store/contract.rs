//! What every store must do.

use std::sync::Arc;
use std::time::Duration;

use super::memory::{MemoryStore, Retention};
use super::*;
use crate::policy::ids::ClientId;
use crate::policy::session::Standing;

const LIFETIMES: Lifetimes = Lifetimes { idle: Duration::from_secs(10), absolute: Duration::from_secs(60) };
const START: Timestamp = Timestamp::from_secs(1000);

fn owner(client: &str, subject: &str) -> Arc<Owner> {
    Arc::new(Owner {
        issuer: None,
        client: ClientId::parse(client).unwrap(),
        subject: Some(subject.into()),
        binding: None,
    })
}

fn opening(number: u8, client: &str) -> Opening {
    Opening {
        id: SessionId::from_random([number; 16]),
        owner: owner(client, "s"),
        scope: "orders".into(),
        lifetimes: LIFETIMES,
        cap: None,
        flow: None,
        idempotent: None,
    }
}

fn idempotent(number: u8, payload: u8) -> Opening {
    let idempotent =
        IdempotentOpening { name: [9; 32], payload: [payload; 32], until: START.after(Duration::from_secs(600)) };
    Opening { idempotent: Some(idempotent), ..opening(number, "a") }
}

fn at(secs: u64) -> Timestamp {
    START.after(Duration::from_secs(secs))
}

async fn an_opened_session_is_found_by_its_key(store: &impl SessionStore) {
    let opened = store.open(opening(1, "a"), START).await.unwrap();
    let found = store.find(opened.id.key()).await.unwrap().unwrap();
    assert_eq!((found.owner(), found.scope(), found.standing(START)), (&owner("a", "s"), "orders", Standing::Live));
    assert!(store.find(SessionId::from_random([2; 16]).key()).await.unwrap().is_none());
}

async fn an_ended_session_is_its_own_tombstone(store: &impl SessionStore) {
    let key = store.open(opening(1, "a"), START).await.unwrap().id.key();
    assert_eq!(store.end(key, EndCause::Closed, at(1)).await, Ok(true));
    assert_eq!(store.end(key, EndCause::Revoked, at(2)).await, Ok(false));
    assert_eq!(store.find(key).await.unwrap().unwrap().standing(at(2)), Standing::Ended(EndCause::Closed));
}

async fn visits_take_effect_one_after_another(store: &impl SessionStore) {
    let key = store.open(opening(1, "a"), START).await.unwrap().id.key();
    let suspend = |progress: &mut Progress| {
        progress.standing = Standing::Suspended;
        Ok(progress.version)
    };
    assert_eq!(store.transact(key, suspend, START).await, Ok(0));
    let refuse = |progress: &mut Progress| {
        progress.standing = Standing::Live;
        Err::<(), _>(Rejection::Internal)
    };
    assert_eq!(store.transact(key, refuse, START).await, Err(Rejection::Internal));
    let look = |progress: &mut Progress| Ok((progress.version, progress.standing));
    assert_eq!(store.transact(key, look, START).await, Ok((1, Standing::Suspended)));
    let missing = SessionId::from_random([7; 16]).key();
    assert_eq!(store.transact(missing, look, START).await, Err(Rejection::SessionUnknown));
}

async fn a_repeated_opening_finds_the_first(store: &impl SessionStore) {
    let first = store.open(idempotent(1, 1), START).await.unwrap();
    let second = store.open(idempotent(2, 1), at(1)).await.unwrap();
    assert_eq!((first.replayed, second.replayed, second.id), (false, true, first.id));
    assert_eq!(store.open(idempotent(3, 2), at(2)).await.unwrap_err(), Rejection::IdempotencyKeyReused);
    // A late duplicate must not open a second session, even if the first has ended.
    store.end(first.id.key(), EndCause::Closed, at(3)).await.unwrap();
    assert_eq!(store.open(idempotent(4, 1), at(4)).await.unwrap().id, first.id);
    let later = store.open(idempotent(5, 2), at(600)).await.unwrap();
    assert!(!later.replayed);
}

async fn the_cap_is_kept_and_makes_no_room(store: &impl SessionStore) {
    let capped = |number| Opening { cap: Some(2), ..opening(number, "a") };
    let first = store.open(capped(1), START).await.unwrap();
    store.open(capped(2), START).await.unwrap();
    assert!(matches!(store.open(capped(3), START).await, Err(Rejection::SessionLimit(_))));
    assert!(store.open(Opening { owner: owner("b", "s"), ..capped(4) }, START).await.is_ok());
    store.end(first.id.key(), EndCause::Closed, START).await.unwrap();
    assert!(store.open(capped(5), START).await.is_ok());
}

async fn lists_are_selected_ordered_and_bounded(store: &impl SessionStore) {
    for number in 0..50 {
        store.open(opening(number, if number % 2 == 0 { "a" } else { "b" }), at(u64::from(number))).await.unwrap();
    }
    let selector = Selector { client: Some("a".into()), issued_before: Some(at(40)), ..Selector::default() };
    let mut seen = Vec::new();
    loop {
        let page = store.list(&selector, seen.last().copied(), 7).await.unwrap();
        seen.extend(page.iter().map(|session| session.key()));
        if page.len() < 7 {
            break;
        }
    }
    assert_eq!(seen.len(), 20);
    assert!(seen.is_sorted());
    assert!(
        store.list(&Selector { subject: Some("x".into()), ..Selector::default() }, None, 9).await.unwrap().is_empty()
    );
}

macro_rules! contract {
    ($store:ident, $make:expr; $($test:ident)+) => {
        mod $store { $(#[tokio::test] async fn $test() { super::$test(&$make).await; })+ }
    };
}

contract! { memory, super::MemoryStore::default();
    an_opened_session_is_found_by_its_key
    an_ended_session_is_its_own_tombstone
    visits_take_effect_one_after_another
    a_repeated_opening_finds_the_first
    the_cap_is_kept_and_makes_no_room
    lists_are_selected_ordered_and_bounded
}

#[tokio::test]
async fn the_sweeper_ends_what_is_due_in_bounded_bites() {
    let (store, retention) =
        (MemoryStore::default(), Retention { tombstone_ttl: Duration::from_secs(100), tombstone_max: 15 });
    for number in 0..20 {
        store.open(opening(number, "a"), START).await.unwrap();
    }
    let kept = store.find(SessionId::from_random([0; 16]).key()).await.unwrap().unwrap();
    kept.touch(at(5));
    assert!(!store.sweep(at(10), retention, 8), "nothing is due before the second has passed");
    assert!(store.sweep(at(11), retention, 8));
    assert!(store.sweep(at(11), retention, 8));
    assert!(!store.sweep(at(11), retention, 8));
    assert_eq!((store.counts().live, store.counts().ended, store.counts().tombstones), (1, [19, 0, 0], 15));
    while store.sweep(at(200), retention, 8) {}
    assert_eq!((store.counts().live, store.counts().tombstones), (0, 1), "the last one has only just ended");
    while store.sweep(at(300), retention, 8) {}
    assert!(store.find(kept.key()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_ages_of_ended_sessions_are_counted() {
    let store = MemoryStore::default();
    for (number, age) in [(1, 0), (2, 10), (3, 90_000)] {
        let opened = store.open(opening(number, "a"), START).await.unwrap();
        let end = START.after(Duration::from_secs(age));
        assert!(store.end(opened.session.key(), EndCause::Closed, end).await.unwrap());
    }
    let [_, closed, _] = store.counts().ages;
    assert_eq!((closed.counts[0], closed.counts[1], closed.counts[15], closed.sum), (1, 1, 1, 90_010));
}

#[tokio::test]
async fn a_sweeper_that_was_late_catches_up() {
    let (store, retention) =
        (MemoryStore::default(), Retention { tombstone_ttl: Duration::from_secs(100), tombstone_max: 15 });
    for number in 0..5 {
        store.open(opening(number, "a"), at(u64::from(number))).await.unwrap();
    }
    assert!(!store.sweep(at(30), retention, 8));
    assert_eq!((store.counts().live, store.counts().ended), (0, [5, 0, 0]));
}

#[tokio::test]
async fn racing_ends_count_once() {
    let store = Arc::new(MemoryStore::default());
    let key = store.open(opening(1, "a"), START).await.unwrap().id.key();
    let ends: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.end(key, EndCause::Revoked, at(1)).await.unwrap() })
        })
        .collect();
    let mut wins = 0;
    for end in ends {
        wins += usize::from(end.await.unwrap());
    }
    assert_eq!((wins, store.counts().ended), (1, [0, 0, 1]));
}
