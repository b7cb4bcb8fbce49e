use sessiongate::policy::ids::SessionId;

use super::*;
use crate::cli::report::funnel;

const MINUTE: u64 = 60_000;

fn session(number: u32) -> SessionKey {
    let mut bits = [0; 16];
    bits[..4].copy_from_slice(&number.to_be_bytes());
    SessionId::from_random(bits).key()
}

fn told(funnel: &FunnelReport) -> Vec<(&str, u64, u64)> {
    funnel.steps.iter().map(|step| (&*step.name, step.sessions, step.left)).collect()
}

fn given(text: &str) -> SessionTable {
    SessionTable::new(Some(funnel::parse(text).unwrap()), Duration::from_secs(1800))
}

fn free() -> SessionTable {
    SessionTable::new(None, Duration::from_secs(1800))
}

/// A session that opens and makes these calls a second apart.
fn walk(table: &mut SessionTable, number: u32, begin: u64, routes: &[&str]) {
    table.add(session(number), begin, 1, Deed::Open);
    for (place, route) in (2..).zip(routes) {
        let deed = table.step(route).map_or(Deed::Nothing, Deed::Reach);
        table.add(session(number), begin + u64::from(place) * 1000, place, deed);
    }
}

#[test]
fn steps_in_order_count_only_after_the_one_before() {
    let mut table = given("check,offer,order");
    walk(&mut table, 1, 0, &["check", "offer", "order"]);
    walk(&mut table, 2, 0, &["offer", "check", "check"]);
    walk(&mut table, 3, 0, &["order"]);
    walk(&mut table, 4, 0, &["offer", "check", "offer", "other"]);
    table.add(session(9), 1000 * MINUTE, 1, Deed::Nothing);
    let (totals, funnel) = table.finish();
    assert_eq!(told(&funnel), [("opened", 5, 1), ("check", 3, 1), ("offer", 2, 1), ("order", 1, 1)]);
    assert_eq!((totals.count, totals.opened, totals.under_way), (5, 4, 1));
    assert!(funnel.in_order);
}

#[test]
fn steps_of_a_flow_take_the_place_of_routes() {
    let mut table = free();
    walk(&mut table, 1, 0, &["help", "order"]);
    for (number, steps) in [(2, &["offer", "order"][..]), (3, &["offer"])] {
        walk(&mut table, number, MINUTE, &["help"]);
        for (place, step) in (9..).zip(steps) {
            let deed = table.flow_step(step).map_or(Deed::Nothing, Deed::Reach);
            table.add(session(number), MINUTE + u64::from(place) * 1000, place, deed);
        }
    }
    table.add(session(3), 1000 * MINUTE, 99, Deed::Close);
    let (_, funnel) = table.finish();
    assert_eq!(told(&funnel), [("opened", 3, 1), ("offer", 2, 1), ("order", 1, 1)]);
    assert!(funnel.of_flow && !funnel.in_order);
    let mut given = given("offer,order");
    assert_eq!((given.flow_step("order"), given.flow_step("help")), (Some(1), None), "given steps may be a flow's");
}

#[test]
fn without_an_order_steps_are_shown_as_most_sessions_reach_them() {
    let mut table = free();
    for number in 0..10 {
        walk(&mut table, number, 0, &["check", "offer", "order"]);
    }
    walk(&mut table, 10, 0, &["order", "check"]);
    table.add(session(10), 1000 * MINUTE, 9, Deed::Close);
    let (totals, funnel) = table.finish();
    assert_eq!(told(&funnel), [("opened", 11, 0), ("check", 11, 1), ("offer", 10, 0), ("order", 11, 10)]);
    assert_eq!(totals.closed, 1);
}

#[test]
fn records_that_came_mixed_are_put_in_order() {
    let mut table = given("check,offer");
    table.add(session(1), 2000, 3, Deed::Reach(1));
    table.add(session(1), 1000, 2, Deed::Reach(0));
    table.add(session(1), 900, 1, Deed::Open);
    let (_, funnel) = table.finish();
    assert_eq!(told(&funnel)[2], ("offer", 1, 0));
    let since = funnel.steps[2].since_opening_ms.as_ref().unwrap();
    assert!((since.p50 - 1100.0).abs() < 10.0, "{since:?}");
    let since = funnel.steps[2].since_previous_ms.as_ref().unwrap();
    assert!((since.p50 - 1000.0).abs() < 10.0, "{since:?}");
}

#[test]
fn sessions_that_are_over_take_no_memory() {
    let mut table = free();
    for number in 0..10_000 {
        walk(&mut table, number, u64::from(number) * MINUTE, &["check"]);
        assert!(table.live.len() <= 26 * 60, "{number}");
    }
    let (totals, funnel) = table.finish();
    assert_eq!((totals.count, told(&funnel)[1].1), (10_000, 10_000));
    assert_eq!(totals.under_way, 30);
}
