use super::*;
use crate::cli::process;

const CONFIG: &str = r#"
version = 1
listeners = [{ address = "127.0.0.1:0", tls = { cert = "none.pem", key = "none.key" } }]
admin = { address = "127.0.0.1:0", token = { file = "none" } }
tokens = { issuer = "https://gate.example", keys = [{ pem = { file = "none" } }] }
upstreams = [{ name = "shop", endpoints = ["http://127.0.0.1:9"] }]
sessions = { budget = { calls = 4 } }

[[issuers]]
name = "main"
issuer = "https://as.example"
audiences = ["shop"]
required_claims = ["tenant"]
client_claims = ["azp"]
scope_claims = ["scp"]
keys = [{ secret = { file = "none" } }]

[[routes]]
name = "offers"
path = "/offers"
scopes = ["read"]
upstream = "shop"

[[routes]]
name = "order"
path = "/orders"
methods = ["POST"]
authorization = "replace"
upstream = "shop"

[[flows]]
name = "ordering"
[[flows.steps]]
name = "offer"
routes = ["offers"]
methods = ["GET"]
severity = "observe"
min_gap = "1s"
[[flows.steps]]
name = "order"
routes = ["order"]
after = ["offer"]
max_attempts = 3
idempotency = "off"

[[rate_limits]]
name = "orders"
per = "session"
requests = 2
window = "1h"
routes = ["order"]
"#;

/// What is not as expected in the one scenario whose calls are `text`.
fn play(text: &str) -> Option<Vec<String>> {
    _ = process::install_crypto();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gate.toml"), CONFIG).unwrap();
    let file = folder.path().join("rules.toml");
    std::fs::write(&file, format!("config = \"gate.toml\"\n[[scenario]]\nname = \"s\"\n{text}")).unwrap();
    let (suite, live) = prepare(&file, None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mismatch = runtime.block_on(Player::new(&live, &suite.scenarios[0]).play()).unwrap();
    mismatch.map(|mismatch| report::lines("rules.toml", &mismatch))
}

fn mistakes(text: &str) -> String {
    Suite::parse(text, "rules.toml").map_or_else(|errors| errors.to_string(), |suite| panic!("{suite:?}"))
}

#[test]
fn time_passes_only_as_the_file_says() {
    let offer = |after: &str| format!("[[scenario.call]]\npath = \"/offers\"\nafter = \"{after}\"\n");
    let order = "[[scenario.call]]\nmethod = \"POST\"\npath = \"/orders\"\n";
    assert_eq!(
        play(&format!("{}{order}answer = 500\n{order}answer = 503\n{order}expect = \"rate-limited\"", offer("1s"))),
        None
    );
    let spent = format!("{0}{0}{0}{0}{0}expect = \"rate-limited\"\nreason = \"BudgetSpent\"", offer("10m"));
    assert_eq!(play(&spent), None, "{:?}", play(&spent));
}

#[test]
fn what_is_not_as_expected_is_told_with_its_place_and_why() {
    let told = play(
        "[[scenario.call]]\npath = \"/offers\"\n[[scenario.call]]\nmethod = \"POST\"\npath = \"/orders\"\nanswer = \"reset\"\nexpect = \"ok\"\nstep = \"order\"\n",
    );
    let told = told.expect("a mismatch");
    assert_eq!(told[0], "call 2: POST /orders   rules.toml:6");
    assert_eq!(
        told[1..5],
        ["expected  ok", "got       upstream-failed (UpstreamFailed)", "expected  step order", "got       step offer"]
    );

    let told = play("[[scenario.call]]\npath = \"/offers\"\nexpect = \"step-not-allowed\"\n").expect("a mismatch");
    assert!(
        told.iter().any(|line| line.contains("rule min_gap") && line.ends_with("severity observe, so it passes")),
        "{told:?}"
    );
}

#[test]
fn clients_are_who_the_file_says() {
    for (more, expected) in [
        ("scopes = [\"other\"]\nexpect = \"scope-insufficient\"", None),
        ("headers = { client-id = \"other\" }\nexpect = \"client-mismatch\"", None),
        ("headers = { authorization = \"\" }\nexpect = \"credentials-missing\"", None),
        ("client = \"other\"\nexpect = \"session-not-found\"\nreason = \"SessionForeign\"\nsession = \"live\"", None),
        ("headers = { x-correlation-id = \"\" }", Some("expected  ok")),
    ] {
        let told = play(&format!("[[scenario.call]]\npath = \"/offers\"\n{more}\n"));
        assert_eq!(told.as_ref().map(|told| told[1].as_str()), expected, "{more}: {told:?}");
    }
}

#[test]
fn sessions_are_opened_and_closed_by_calls_too() {
    let told = play(
        "[[scenario.call]]\nmethod = \"POST\"\npath = \"/session\"\nheaders = { idempotency-key = \"a\" }\nsession = \"live\"\n\
         [[scenario.call]]\nmethod = \"POST\"\npath = \"/session\"\nheaders = { idempotency-key = \"a\" }\nreplayed = true\n\
         [[scenario.call]]\npath = \"/session\"\n\
         [[scenario.call]]\nmethod = \"DELETE\"\npath = \"/session\"\nsession = \"closed\"\n\
         [[scenario.call]]\npath = \"/offers\"\nexpect = \"session-closed\"\n",
    );
    assert_eq!(told, None);
}

#[test]
fn mistakes_are_told_with_their_places() {
    assert_eq!(
        mistakes(""),
        "rules.toml: 1 mistake\nrules.toml: there is no scenario; add [[scenario]] with a name and [[scenario.call]]"
    );
    let told = mistakes(
        "[[scenario]]\nclient = \"a b\"\n[[scenario.call]]\npath = \"offers\"\nexpect = \"step-not-alowed\"\nsession = \"open\"\n[[scenario.call]]\npath = \"/\"\nexpect = \"ok\"\nreason = \"StepTooLate\"\n",
    );
    for part in [
        "rules.toml:1:1: scenario[0]: the scenario has no name",
        "rules.toml:2:10: scenario[0].client: \"a b\" is not a client-id",
        "rules.toml:4:8: scenario[0].call[0].path: \"offers\" is not a path",
        "did you mean \"step-not-allowed\"?",
        "\"open\" is not a state of a session; known here: live",
        "this is the reason of another refusal; write expect = \"step-not-allowed\"",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn names_with_markup_stay_text_in_junit() {
    let mismatch = Mismatch {
        call: Some(1),
        line: 3,
        what: "GET /a".into(),
        differences: vec![("<ok>".into(), "a & b".into())],
        why: vec!["\u{1b}[1m".into()],
    };
    let scenarios = vec![Outcome { name: "\"<&>".into(), calls: 1, took: Duration::ZERO, failure: Some(mismatch) }];
    let xml = junit::render(&[Played { origin: "r.toml".into(), scenarios }]);
    assert!(
        xml.contains("name=\"&quot;&lt;&amp;&gt;\"") && xml.contains("message=\"expected &lt;ok&gt;, got a &amp; b\""),
        "{xml}"
    );
    assert!(xml.contains("?[1m") && xml.contains("tests=\"1\" failures=\"1\""), "{xml}");
}
