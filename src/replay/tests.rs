//! The state of sessions as it is rebuilt from records.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::config;
use crate::policy::flow::{Outcome, Steps};
use crate::trail::line::Line;

const RULES: &str = r#"
version = 1
[headers]
mode = "lenient"
[[listeners]]
address = "127.0.0.1:0"
[[issuers]]
name = "main"
keys = [{ secret = { file = "secret" } }]
[[upstreams]]
name = "shop"
endpoints = ["http://127.0.0.1:1"]
"#;

/// Routes `a`, `b` and `c`, and what else is said.
fn rules(more: &str) -> Arc<Snapshot> {
    let route = |name: &str| format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"shop\"\n");
    let text = [RULES, &route("a"), &route("b"), &route("c"), more].concat();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "0123456789abcdef0123456789abcdef").unwrap();
    Arc::new(config::parse(&text, &folder.path().join("next.toml"), 1).unwrap())
}

const FLOW: &str = r#"
[[flows]]
name = "f"
[[flows.steps]]
name = "first"
routes = ["a"]
repeat = true
[[flows.steps]]
name = "second"
routes = ["b"]
after = ["first"]
exclusive = true
[[flows.steps]]
name = "third"
routes = ["c"]
after = ["second"]
max_attempts = 3
"#;

/// A trail in the making.
struct Trail {
    reader: Reader,
    replay: Replay,
}

/// One record: when, its number, route, code, status, how long its answer took.
#[derive(Debug, Clone, Copy)]
struct Call<'c> {
    at: u64,
    number: u32,
    route: &'c str,
    code: &'c str,
    status: u16,
    took: u64,
}

impl<'c> Call<'c> {
    const fn new(at: u64, number: u32, route: &'c str) -> Self {
        Self { at, number, route, code: "ok", status: 200, took: 1 }
    }

    const fn refused(self, code: &'c str) -> Self {
        Self { code, status: 409, ..self }
    }

    fn line(&self) -> String {
        let Self { number, route, code, status, .. } = self;
        let (verdict, upstream) =
            if *code == "ok" { ("admitted", if *route == "session" { "-" } else { "shop" }) } else { ("refused", "-") };
        let time = Timestamp::from_millis(1_800_000_000_000 + self.at).precise();
        let took = self.took * 1000;
        format!(
            r#"{{"trail":1,"time":"{time}","session":"{:032x}","number":{number},"client":"shop","method":"POST",
            "host":"api","path":"/{route}","headers":["authorization","client-id","session-id","host"],
            "route":"{route}","upstream":"{upstream}","verdict":"{verdict}","code":"{code}","status":{status},
            "first_byte_us":{took},"total_us":{took}}}"#,
            7
        )
    }
}

impl Trail {
    fn under(live: &Arc<Snapshot>) -> Self {
        Self { reader: Reader::new(Arc::clone(live)), replay: Replay::new(Arc::clone(live)) }
    }

    fn judge(&mut self, call: Call<'_>) -> Judgment {
        let line = call.line();
        let line = Line::parse(line.as_bytes()).unwrap();
        let call = self.reader.read(&line).unwrap();
        self.replay.judge(&call)
    }

    /// The code that a call would get.
    fn now(&mut self, call: Call<'_>) -> &'static str {
        match self.judge(call) {
            Judgment::Same if call.code == "ok" => "ok",
            Judgment::Same => "the same",
            Judgment::Changed(change) => change.now,
            Judgment::Unknown(gap) => gap.as_str(),
        }
    }
}

#[test]
fn steps_are_done_when_their_answers_came() {
    let mut trail = Trail::under(&rules(FLOW));
    assert_eq!(trail.now(Call { status: 201, ..Call::new(0, 1, "session") }), "ok");
    assert_eq!(trail.now(Call { took: 500, ..Call::new(100, 2, "a") }), "ok");
    assert_eq!(trail.now(Call::new(599, 3, "b")), "step-not-allowed", "the first runs until 600");
    assert_eq!(trail.now(Call { took: 500, ..Call::new(600, 4, "b") }), "ok");
    assert_eq!(trail.now(Call::new(700, 5, "b")), "step-in-progress");
    assert_eq!(trail.now(Call { status: 500, ..Call::new(1100, 6, "c") }), "ok");
    assert_eq!(trail.now(Call::new(1200, 7, "c")), "ok", "what failed is not done");
    assert_eq!(trail.now(Call::new(1300, 8, "c")), "step-not-allowed", "it was done");
}

#[test]
fn what_was_never_answered_is_not_done() {
    let mut trail = Trail::under(&rules(FLOW));
    trail.judge(Call { status: 201, ..Call::new(0, 1, "session") });
    trail.judge(Call::new(100, 2, "a"));
    let admitted = trail.judge(Call::new(200, 3, "b").refused("scope-insufficient"));
    assert!(matches!(admitted, Judgment::Changed(Change { kind: Kind::Admitted, .. })), "{admitted:?}");
    assert_eq!(trail.now(Call::new(300, 4, "c").refused("step-not-allowed")), "the same");
    assert_eq!(trail.now(Call::new(400, 5, "b").refused("upstream-unavailable")), "the same");
    assert_eq!(trail.now(Call::new(500, 6, "c")), "step-not-allowed");
    assert_eq!(trail.now(Call::new(600, 7, "b").refused("upstream-timeout")), "the same");
    assert_eq!(trail.now(Call::new(700, 8, "b")), "step-indeterminate", "nobody knows what came of it");
}

#[test]
fn sessions_live_as_long_as_the_new_rules_say() {
    let mut trail = Trail::under(&rules("[sessions]\nidle = \"10s\"\nabsolute = \"1m\"\n"));
    assert_eq!(trail.now(Call::new(5, 9, "a")), "ok", "it began before the trail, and no rule asks how");
    let mut trail = Trail::under(&rules("[sessions]\nidle = \"10s\"\nabsolute = \"1m\"\n"));
    trail.judge(Call { status: 201, ..Call::new(0, 1, "session") });
    assert_eq!(trail.now(Call::new(9_999, 2, "a")), "ok");
    assert_eq!(trail.now(Call::new(20_000, 3, "a")), "session-expired");
    assert_eq!(trail.now(Call::new(20_000, 4, "a").refused("session-expired")), "the same");
}

#[test]
fn a_session_that_is_not_opened_has_no_calls() {
    let once =
        "[[rate_limits]]\nname = \"doors\"\nper = \"all\"\nrequests = 1\nwindow = \"1h\"\nroutes = [\"session\"]\n";
    let mut trail = Trail::under(&rules(once));
    let of = |number: u8, call: Call<'_>| call.line().replace(&format!("{:032x}", 7), &format!("{number:032x}"));
    let mut judge = |line: &str| {
        let line = Line::parse(line.as_bytes()).unwrap();
        trail.replay.judge(&trail.reader.read(&line).unwrap())
    };
    let opening = Call { status: 201, ..Call::new(0, 1, "session") };
    assert_eq!(judge(&of(1, opening)), Judgment::Same);
    let refused = judge(&of(2, opening));
    assert!(matches!(&refused, Judgment::Changed(change) if &*change.rule == "doors"), "{refused:?}");
    assert_eq!(judge(&of(1, Call::new(1, 2, "a"))), Judgment::Same);
    assert_eq!(judge(&of(2, Call::new(1, 2, "a"))), Judgment::Unknown(Gap::Unopened));
}

#[test]
fn calls_are_put_in_the_order_in_which_they_began() {
    let mut trail = Trail::under(&rules(""));
    let (mut order, mut given) = (InOrder::default(), Vec::new());
    for (at, number) in [(40_000, 2), (50_000, 3), (1000, 1), (100_000, 4), (200_000, 5), (120_000, 6)] {
        let line = Call::new(at, number, "a").line();
        order.push(Box::new(trail.reader.read(&Line::parse(line.as_bytes()).unwrap()).unwrap()));
        given.extend(std::iter::from_fn(|| order.pop(false)).map(|call| call.number));
    }
    assert_eq!((given.as_slice(), order.late), (&[1, 2, 3, 4, 6][..], 0));
    given.extend(std::iter::from_fn(|| order.pop(true)).map(|call| call.number));
    assert_eq!(given, [1, 2, 3, 4, 6, 5]);
    let line = Call::new(7, 7, "a").line();
    order.push(Box::new(trail.reader.read(&Line::parse(line.as_bytes()).unwrap()).unwrap()));
    assert_eq!(order.late, 1);
}

proptest! {
    /// A trail that was made by a flow changes nothing under the same flow: what is rebuilt from the records of calls that
    /// followed each other is what the flow itself kept.
    #[test]
    fn the_rules_that_made_a_trail_agree_with_it(
        calls in prop::collection::vec((0usize..3, 0usize..5, 1u64..50_000), 1..60)
    ) {
        let live = rules(FLOW);
        let flow = Arc::clone(live.flows.of_client("shop").unwrap());
        let (mut trail, mut steps) = (Trail::under(&live), Steps::default());
        prop_assert_eq!(trail.now(Call { status: 201, ..Call::new(0, 1, "session") }), "ok");
        let mut at = 0;
        for (number, (route, answer, gap)) in (2..).zip(calls) {
            at += gap + 2;
            let name = ["a", "b", "c"][route];
            let step = flow.step_of(name, Verb::Post).unwrap();
            let attempt = Attempt { step, writes: true, has_key: false, is_retry: false };
            let (code, status, outcome) = [
                ("ok", 200, Outcome::Committed),
                ("ok", 201, Outcome::Committed),
                ("ok", 404, Outcome::RolledBack),
                ("upstream-timeout", 504, Outcome::Indeterminate),
                ("upstream-unavailable", 503, Outcome::Unsent),
            ][answer];
            let since = |millis: u64| Duration::from_millis(millis);
            let call = match flow.enter(&mut steps, attempt, since(at)) {
                Ok((mut mark, entered, _)) => {
                    if let Some(entered) = entered {
                        flow.settle(&mut steps, &mut mark, entered, outcome, since(at + 1));
                    }
                    Call { code, status, ..Call::new(at, number, name) }
                }
                Err(mark) => {
                    let (denial, _) = mark.broken.unwrap();
                    Call::new(at, number, name).refused(denial.rejection().code())
                }
            };
            prop_assert_eq!(trail.judge(call), Judgment::Same, "{:?}", call);
        }
    }

    /// In no order of sessions and times is a rate exceeded by what is let pass.
    #[test]
    fn a_rate_is_kept_at_the_recorded_times(gaps in prop::collection::vec(0u64..3_000, 1..80)) {
        let rule = "[[rate_limits]]\nname = \"r\"\nper = \"session\"\nrequests = 2\nwindow = \"2s\"\nroutes = [\"a\"]\n";
        let live = rules(rule);
        let mut trail = Trail::under(&live);
        trail.judge(Call { status: 201, ..Call::new(0, 1, "session") });
        let two = NonZeroU32::new(2).unwrap();
        let rate = crate::policy::rates::Rate::new(two, Duration::from_secs(2), two).unwrap();
        let (mut bucket, mut at) = (0, 0);
        for (number, gap) in (2..).zip(gaps) {
            at += gap;
            let wanted = match rate.take(bucket, Timestamp::from_millis(1_800_000_000_000 + at)) {
                Ok((next, _)) => {
                    bucket = next;
                    "ok"
                }
                Err(_) => "rate-limited",
            };
            prop_assert_eq!(trail.now(Call::new(at, number, "a")), wanted);
        }
    }
}
