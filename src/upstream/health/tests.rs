use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn probes() -> ProbeConfig {
    ProbeConfig {
        path: http::uri::PathAndQuery::from_static("/healthz"),
        host: None,
        interval: SECOND,
        timeout: SECOND,
        expect: vec![200],
        rise: 2,
        fall: 3,
    }
}

fn rules() -> EjectionConfig {
    EjectionConfig { failures: 3, ..EjectionConfig::default() }
}

fn fail(machine: &mut Machine, now: Instant) -> Option<Change> {
    machine.failed("closed", false, &rules(), || true, now)
}

fn fail_trial(machine: &mut Machine, now: Instant) -> Option<Change> {
    machine.failed("closed", true, &rules(), || true, now)
}

#[test]
fn the_first_probe_decides_and_then_rise_and_fall_do() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    assert_eq!(machine.offer(SECOND, now), Offer::Share(FULL), "unknown is healthy");
    assert_eq!(machine.probed(Err("refused"), &probes(), now), Some(Change::Unhealthy));
    assert_eq!(machine.offer(SECOND, now), Offer::Unhealthy);
    assert_eq!(machine.probed(Ok(()), &probes(), now), None);
    assert_eq!(machine.probed(Ok(()), &probes(), now), Some(Change::Up));
    for _ in 0..2 {
        assert_eq!(machine.probed(Err("refused"), &probes(), now), None);
    }
    assert_eq!(machine.probed(Ok(()), &probes(), now), None, "one that passes between them starts the count anew");
    for _ in 0..2 {
        assert_eq!(machine.probed(Err("refused"), &probes(), now), None);
    }
    assert_eq!(machine.probed(Err("refused"), &probes(), now), Some(Change::Unhealthy));
}

#[test]
fn failures_in_a_row_eject_for_twice_as_long_each_time() {
    let (mut machine, mut now) = (Machine::default(), Instant::now());
    assert_eq!((fail(&mut machine, now), fail(&mut machine, now)), (None, None));
    machine.succeeded(now);
    assert_eq!((fail(&mut machine, now), fail(&mut machine, now)), (None, None));
    let mut lasted = Vec::new();
    for round in 0..8 {
        let ejected = if round == 0 { fail(&mut machine, now) } else { fail_trial(&mut machine, now) };
        let Some(Change::Ejected(lasts)) = ejected else { panic!("{machine:?}") };
        assert_eq!(machine.offer(SECOND, now), Offer::Ejected);
        assert_eq!(fail(&mut machine, now), None, "what was under way says nothing new");
        lasted.push(lasts.as_secs());
        now += lasts;
        assert_eq!(fail(&mut machine, now), None, "nor does it when it fails late");
        assert_eq!(machine.offer(SECOND, now), Offer::Trial);
        machine.trial = Some(now + SECOND);
        assert_eq!(fail(&mut machine, now), None, "nor while a trial runs");
    }
    assert_eq!(lasted, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(machine.succeeded(now), Some(Change::Up));
    assert_eq!(machine.offer(8 * SECOND, now + 2 * SECOND), Offer::Share(FULL / 4), "its share grows");
    assert_eq!(machine.offer(8 * SECOND, now + 8 * SECOND), Offer::Share(FULL));
    now += 60 * SECOND;
    assert_eq!((fail(&mut machine, now), fail(&mut machine, now)), (None, None));
    assert_eq!(fail(&mut machine, now), Some(Change::Ejected(SECOND)), "what is long over is forgotten");
}

#[test]
fn one_call_at_a_time_tries_an_endpoint_that_was_ejected() {
    let (health, now) = (Health::default(), Instant::now());
    for _ in 0..3 {
        health.failed("closed", false, &rules(), || true, now);
    }
    let later = now + SECOND;
    let begin = |now| health.begin_trial(Some(&rules()), now);
    assert_eq!(begin(now), None);
    let first = begin(later).expect("a trial");
    assert_eq!(begin(later), None);
    health.end_trial(first);
    let second = begin(later + SECOND / 2).expect("one that ended without a verdict makes way at once");
    assert_eq!(begin(later + SECOND), None);
    let third = begin(later + 2 * SECOND).expect("one of which nothing was heard does not block");
    health.end_trial(second);
    assert_eq!(begin(later + 2 * SECOND), None, "and takes nobody else's place when it ends at last");
    health.end_trial(third);
    assert!(begin(later + 2 * SECOND).is_some());
    health.succeeded(|| later + SECOND);
    assert_eq!(health.offer(Duration::ZERO, later + SECOND), Offer::Share(FULL));
    assert!(health.is_calm(), "and is as if nothing had been");
}

#[test]
fn without_room_nothing_is_ejected() {
    let (mut machine, now) = (Machine::default(), Instant::now());
    for _ in 0..10 {
        assert_eq!(machine.failed("closed", false, &rules(), || false, now), None);
    }
    assert_eq!(machine.offer(SECOND, now), Offer::Share(FULL));
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Probe(bool),
    Call(bool),
    Trial,
    TrialGone,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(Event::Probe),
        any::<bool>().prop_map(Event::Call),
        Just(Event::Trial),
        Just(Event::TrialGone),
        (0_u64..20_000).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happened_a_good_endpoint_gets_its_whole_share_back(events in prop::collection::vec(event(), 0..200)) {
        let (health, mut now, mut trial) = (Health::default(), Instant::now(), None);
        for event in events {
            match event {
                Event::Probe(passed) => {
                    health.probed(if passed { Ok(()) } else { Err("refused") }, &probes(), now);
                }
                Event::Call(true) => {
                    health.succeeded(|| now);
                }
                Event::Call(false) => {
                    health.failed("closed", trial.is_some(), &rules(), || true, now);
                }
                Event::Trial => trial = health.begin_trial(Some(&rules()), now).or(trial),
                Event::TrialGone => trial.take().into_iter().for_each(|patience| health.end_trial(patience)),
                Event::Pass(millis) => now += Duration::from_millis(millis),
            }
        }
        for _ in 0..2 {
            health.probed(Ok(()), &probes(), now);
        }
        now += rules().max + rules().base;
        if health.offer(SECOND, now) == Offer::Trial {
            prop_assert!(health.begin_trial(Some(&rules()), now).is_some());
        }
        health.succeeded(|| now);
        now += SECOND;
        prop_assert_eq!(health.offer(SECOND, now), Offer::Share(FULL));
        prop_assert!(health.is_calm());
        prop_assert!(health.report(SECOND, now).standing == Standing::Healthy);
    }
}
