mod model;

use super::graph::{Obstacle, obstacle, reachable};
use super::*;
use crate::policy::rejection::Wait;

fn id(place: usize) -> StepId {
    StepId::at(place).unwrap()
}

fn set(places: &[usize]) -> StepSet {
    places.iter().map(|place| id(*place)).collect()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A step that may be done once, after these.
fn step(name: &str, after_all: &[usize]) -> Step {
    Step {
        name: name.into(),
        after_all: set(after_all),
        after_any: StepSet::NONE,
        repeat: false,
        exclusive: false,
        max_attempts: None,
        min_gap: None,
        max_gap: None,
        terminal: None,
        idempotency: Idempotency::Optional,
        severity: Severity::Enforce,
    }
}

/// eligibility → offer ⇄ configure → order → installation.
fn ordering() -> Flow {
    let again = |step: Step| Step { repeat: true, ..step };
    let steps = vec![
        again(step("eligibility", &[])),
        again(step("offer", &[0])),
        again(step("configure", &[1])),
        Step { exclusive: true, idempotency: Idempotency::Required, ..step("order", &[2]) },
        Step { terminal: Some(secs(60)), ..step("installation", &[3]) },
    ];
    let post = MethodSet::NONE.with(Verb::Post);
    let binding = |place, route: &str| Binding { route: route.into(), methods: post, step: id(place) };
    let bindings = steps.iter().enumerate().map(|(place, step)| binding(place, &step.name)).collect();
    Flow::new("ordering".into(), steps, bindings)
}

fn call(place: usize) -> Attempt {
    Attempt { step: id(place), writes: true, has_key: true, is_retry: false }
}

/// A session that is taken through a flow.
struct Walk<'f>(&'f Flow, Steps);

impl<'f> Walk<'f> {
    fn through(flow: &'f Flow) -> Self {
        Self(flow, Steps::default())
    }

    fn enter(&mut self, attempt: Attempt, at: u64) -> Result<(StepMark, Option<Entered>), Denial> {
        let entered = self.0.enter(&mut self.1, attempt, secs(at));
        entered.map(|(mark, entered, _)| (mark, entered)).map_err(|mark| mark.broken.unwrap().0)
    }

    fn settle(&mut self, (mut mark, entered): (StepMark, Option<Entered>), outcome: Outcome, at: u64) -> StepMark {
        self.0.settle(&mut self.1, &mut mark, entered.unwrap(), outcome, secs(at));
        mark
    }

    fn ends(&mut self, attempt: Attempt, outcome: Outcome, at: u64) -> Result<StepMark, Denial> {
        let entered = self.enter(attempt, at)?;
        Ok(self.settle(entered, outcome, at))
    }

    fn does(&mut self, place: usize, at: u64) -> Result<StepMark, Denial> {
        self.ends(call(place), Outcome::Committed, at)
    }

    fn next(&self, at: u64) -> Vec<&str> {
        self.0.allowed(&self.1, secs(at)).iter().map(|step| self.0.step_name(step)).collect()
    }
}

#[test]
fn an_order_goes_its_way() {
    let flow = ordering();
    let mut walk = Walk::through(&flow);
    assert_eq!(walk.next(0), ["eligibility"]);
    assert_eq!(walk.does(1, 1), Err(Denial::Order));
    assert!(walk.does(0, 1).is_ok());
    assert_eq!(walk.next(1), ["eligibility", "offer"]);
    for place in [1, 2, 1, 2] {
        assert!(walk.does(place, 2).is_ok(), "{place}");
    }
    let mark = walk.does(3, 12).unwrap();
    assert_eq!((mark.before, mark.after, mark.gap), (Some(id(2)), Some(id(3)), Some(secs(10))));
    assert_eq!(walk.does(3, 13), Err(Denial::Repeat));
    assert!(walk.does(4, 14).is_ok());
    assert_eq!((walk.does(1, 15), walk.next(15).len()), (Err(Denial::Over), 0));
}

#[test]
fn what_only_reads_is_taken_for_a_while_after_the_last_step() {
    let flow = ordering();
    let mut walk = Walk::through(&flow);
    (0..5).for_each(|place| assert!(walk.does(place, 1).is_ok()));
    let read = Attempt { writes: false, ..call(1) };
    let before = walk.1;
    let (mark, entered) = walk.enter(read, 60).unwrap();
    assert_eq!((entered, mark.before, walk.1), (None, Some(id(4)), before), "it changes nothing");
    assert_eq!(walk.enter(read, 61).unwrap_err(), Denial::Over);
}

#[test]
fn a_failure_leaves_nothing_behind_but_the_attempt() {
    let limit = Some(MaxAttempts { counter: 0, most: 2 });
    let flow = Flow::new("f".into(), vec![Step { max_attempts: limit, ..step("a", &[]) }, step("b", &[0])], vec![]);
    let mut walk = Walk::through(&flow);
    assert!(walk.ends(call(0), Outcome::Unsent, 0).is_ok());
    assert!(walk.ends(call(0), Outcome::RolledBack, 0).is_ok());
    assert_eq!(walk.does(1, 0), Err(Denial::Order));
    assert!(walk.ends(call(0), Outcome::RolledBack, 0).is_ok());
    assert_eq!(walk.does(0, 0), Err(Denial::Attempts), "what was not sent was no attempt");
}

#[test]
fn a_step_that_is_done_once_runs_once() {
    let flow = ordering();
    let mut walk = Walk::through(&flow);
    (0..3).for_each(|place| assert!(walk.does(place, 0).is_ok()));
    let first = walk.enter(call(3), 0).unwrap();
    assert_eq!(walk.enter(call(3), 0), Err(Denial::InProgress));
    assert_eq!(walk.enter(call(2), 0), Err(Denial::InProgress), "nothing changes beside an exclusive step");
    assert!(walk.enter(Attempt { writes: false, ..call(1) }, 0).is_ok(), "but what reads may");
    walk.settle(first, Outcome::RolledBack, 0);
    let configuring = walk.enter(call(2), 0).unwrap();
    assert_eq!(walk.enter(call(3), 0), Err(Denial::InProgress), "nor does it begin beside a change");
    walk.settle(configuring, Outcome::RolledBack, 0);
    assert!(walk.does(3, 0).is_ok());
}

#[test]
fn an_unknown_outcome_waits_for_its_repetition() {
    let flow = ordering();
    let mut walk = Walk::through(&flow);
    (0..3).for_each(|place| assert!(walk.does(place, 0).is_ok()));
    let mark = walk.ends(call(3), Outcome::Indeterminate, 1).unwrap();
    assert_eq!((mark.outcome, mark.after), (Some(Outcome::Indeterminate), Some(id(2))));
    assert_eq!(walk.does(3, 2), Err(Denial::Indeterminate));
    assert_eq!(walk.does(2, 2), Err(Denial::Indeterminate), "an order that may be there is not configured anew");
    assert_eq!(walk.does(4, 2), Err(Denial::Order));
    assert_eq!(walk.next(2), ["order"]);
    let again = Attempt { is_retry: true, ..call(3) };
    assert!(walk.ends(again, Outcome::Unsent, 3).is_ok());
    assert_eq!(walk.does(3, 3), Err(Denial::Indeterminate), "nothing was learned");
    assert!(walk.ends(again, Outcome::Indeterminate, 3).is_ok());
    assert!(walk.ends(again, Outcome::Committed, 4).is_ok());
    assert_eq!(walk.does(3, 4), Err(Denial::Repeat));
}

#[test]
fn the_outcome_of_what_may_be_repeated_need_not_be_known() {
    let flow = ordering();
    let mut walk = Walk::through(&flow);
    let mark = walk.ends(call(0), Outcome::Indeterminate, 0).unwrap();
    assert_eq!((mark.outcome, walk.1), (Some(Outcome::RolledBack), Steps::default()));
    assert!(walk.does(0, 0).is_ok());
}

#[test]
fn steps_keep_their_distance() {
    let timed = Step { min_gap: Some(secs(5)), max_gap: Some(secs(9)), ..step("b", &[0]) };
    let flow = Flow::new("f".into(), vec![Step { repeat: true, ..step("a", &[]) }, timed], vec![]);
    let mut walk = Walk::through(&flow);
    assert!(walk.does(0, 100).is_ok());
    assert_eq!(walk.does(1, 101), Err(Denial::TooEarly(Wait(4))));
    assert_eq!(walk.next(101), ["a", "b"], "b comes next, a little later");
    assert_eq!(walk.does(1, 110), Err(Denial::TooLate));
    assert_eq!(walk.next(110), ["a"]);
    assert!(walk.does(0, 110).is_ok());
    assert!(walk.does(1, 115).is_ok());
}

#[test]
fn a_rule_that_is_observed_lets_pass_and_tells() {
    for (severity, told) in
        [(Severity::Off, None), (Severity::Observe, Some(Denial::Order)), (Severity::Warn, Some(Denial::Order))]
    {
        let flow = Flow::new("f".into(), vec![step("a", &[]), Step { severity, ..step("b", &[0]) }], vec![]);
        let mut walk = Walk::through(&flow);
        let mark = walk.does(1, 0).unwrap();
        assert_eq!(mark.broken, told.map(|denial| (denial, severity)));
        assert_eq!((mark.after, walk.next(0)), (Some(id(1)), vec!["a", "b"]));
    }
}

#[test]
fn one_of_several_is_enough_where_any_is() {
    let last = Step { after_any: set(&[0, 1]), ..step("c", &[]) };
    let flow = Flow::new("f".into(), vec![step("a", &[]), step("b", &[]), last], vec![]);
    let mut walk = Walk::through(&flow);
    assert_eq!(walk.does(2, 0), Err(Denial::Order));
    assert!(walk.does(1, 0).is_ok() && walk.does(2, 0).is_ok());
}

#[test]
fn steps_that_wait_for_each_other_are_found() {
    let any = |name: &str, after: &[usize]| Step { after_any: set(after), ..step(name, &[]) };
    let steps = [step("a", &[]), any("b", &[0, 2]), step("c", &[1])];
    assert_eq!(reachable(&steps), set(&[0, 1, 2]), "a circle with a way in");
    let steps = [step("a", &[]), step("b", &[0, 2]), step("c", &[1]), step("d", &[2])];
    assert_eq!(reachable(&steps), set(&[0]));
    assert_eq!(obstacle(&steps, id(1)), Obstacle::Circle(set(&[1, 2])));
    assert_eq!(obstacle(&steps, id(3)), Obstacle::Behind(id(1)));
}

#[test]
fn calls_are_steps_by_route_and_method_and_renamed_routes_stay_what_they_are() {
    let post = MethodSet::NONE.with(Verb::Post);
    let flow = |route: &str, step_name: &str| {
        let binding = Binding { route: route.into(), methods: post, step: id(0) };
        Arc::new(Flow::new("f".into(), vec![step(step_name, &[])], vec![binding]))
    };
    let (old, renamed) = (flow("order", "order"), flow("orders", "order"));
    let live = Flows::new(vec![(vec![], Arc::clone(&renamed))]);
    assert_eq!(live.step_of(&old, "order", Verb::Post), Some(id(0)));
    assert_eq!(live.step_of(&old, "order", Verb::Get), None);
    assert_eq!(live.step_of(&old, "orders", Verb::Post), Some(id(0)), "a new name is no way around");
    assert_eq!(live.step_of(&renamed, "order", Verb::Post), None);
    let other = Flows::new(vec![(vec![], flow("new", "new"))]);
    assert_eq!(other.step_of(&old, "new", Verb::Post), None, "a step that came later is none of this session");
}

#[test]
fn a_client_may_have_its_own_flow() {
    let flow = |name: &str| Arc::new(Flow::new(name.into(), vec![], vec![]));
    let flows = Flows::new(vec![(vec![], flow("all")), (vec!["a".into()], flow("own"))]);
    let name = |client| flows.of_client(client).map(|flow| flow.name().to_string());
    assert_eq!((name("a"), name("b")), (Some("own".into()), Some("all".into())));
    assert!(Flows::default().of_client("a").is_none());
}
