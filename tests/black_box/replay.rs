//! Recorded calls under a new configuration.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{
    CLIENT, Call, Config, Gate, OTHER_CLIENT, Origin, Session, binary, eventually, finish, scale, token_with,
};

const FLOW: &str = r#"name = "ordering"
[[flows.steps]]
name = "eligibility"
routes = ["eligibility"]
[[flows.steps]]
name = "offer"
routes = ["offers"]
after = ["eligibility"]
repeat = true
[[flows.steps]]
name = "order"
routes = ["order"]
after = ["offer"]
exclusive = true
[[flows.steps]]
name = "installation"
routes = ["installation"]
after = ["order"]
"#;

const ROUTES: [(&str, &str); 5] =
    [("eligibility", "POST"), ("offers", "GET"), ("order", "POST"), ("installation", "POST"), ("help", "GET")];

/// A shop, all of whose routes are what `change` makes of them; it leaves out those that it gives nothing for.
fn shop(upstream: &str, change: impl Fn(&str) -> Option<&'static str>) -> Config {
    let mut config = Config::new(upstream).lenient().section("logs", "access = \"off\"");
    for (name, method) in ROUTES {
        let Some(more) = change(name) else { continue };
        let route = format!("name = {name:?}\npath = \"/{name}\"\nmethods = [{method:?}]\nupstream = \"shop\"\n{more}");
        config = config.route(&route);
    }
    config
}

fn plain(upstream: &str) -> Config {
    shop(upstream, |_| Some(""))
}

fn traced(config: Config) -> Gate {
    Gate::operated(config.section("trail", "files = { folder = \"{dir}/trail\" }"))
}

fn trail(gate: &Gate, count: usize) -> Vec<std::path::PathBuf> {
    let files = || {
        let entries = std::fs::read_dir(gate.path("trail")).expect("the folder").map_while(Result::ok);
        let files = entries.map(|entry| entry.path());
        files.filter(|path| path.extension().is_some_and(|ending| ending == "ndjson")).collect::<Vec<_>>()
    };
    let lines = || {
        let texts = files().into_iter().map(|path| std::fs::read_to_string(path).expect("a file"));
        texts.map(|text| text.matches('\n').count()).sum::<usize>()
    };
    eventually(&format!("{count} records in files"), || lines() == count);
    files()
}

/// What a configuration makes of the trail of a gate, and the exit code.
fn replay(gate: &Gate, next: &Config, records: usize) -> (Value, Option<i32>) {
    gate.write("next.toml", next.text(&gate.path("").display().to_string()));
    let config = gate.path("next.toml");
    let ended =
        finish(binary().args(["replay", "--output", "json", "--config"]).arg(config).args(trail(gate, records)));
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("no report: {ended:?}"));
    (report, ended.code)
}

/// Kind, code before and after, rule, calls.
fn changes(report: &Value) -> Vec<(&str, &str, &str, &str, u64)> {
    let changes = report["changes"].as_array().expect("changes").iter().map(|change| {
        let [kind, was, now, rule] = ["kind", "was", "now", "rule"].map(|key| change[key].as_str().expect("text"));
        (kind, was, now, rule, change["calls"].as_u64().expect("a number"))
    });
    let mut changes: Vec<_> = changes.collect();
    changes.sort_unstable();
    changes
}

/// Three sessions on a gate without rules, 15 records: one in order; one that orders at once and asks for help three times;
/// one of another client that orders at once and asks for help.
fn busy(origin: &Origin) -> Gate {
    let gate = traced(plain(&origin.url()));
    let (good, hasty) = (gate.open(), gate.open());
    let other = gate.open_as(&token_with(json!({ "client_id": OTHER_CLIENT })), OTHER_CLIENT);
    let send = |call: &Call, status| _ = gate.send(call).assert_status(status);
    send(&good.post("/eligibility", "{}"), 200);
    send(&good.get("/offers"), 200);
    send(&good.post("/order", "{}"), 200);
    send(&good.post("/installation", "{}"), 200);
    send(&good.get("/nowhere"), 404);
    for session in [&hasty, &other] {
        send(&session.post("/order", "{}"), 200);
        send(&session.get("/help"), 200);
    }
    send(&hasty.get("/help"), 200);
    send(&hasty.get("/help"), 200);
    send(&good.call("DELETE", "/session"), 204);
    gate
}

const RECORDS: usize = 15;

#[test]
fn the_same_rules_change_nothing() {
    let origin = Origin::start();
    let gate = busy(&origin);
    let (report, code) = replay(&gate, &plain(&origin.url()), RECORDS);
    assert_eq!((changes(&report), code), (vec![], Some(0)));
    assert_eq!(
        report["calls"],
        json!({
            "count": RECORDS, "unchanged": RECORDS, "changed": 0, "newly_refused": 0, "newly_admitted": 0,
            "refused_otherwise": 0, "not_replayable": 0
        })
    );
}

#[test]
fn each_new_rule_changes_the_calls_that_it_concerns() {
    let origin = Origin::start();
    let gate = busy(&origin);
    let url = origin.url();

    let (report, code) = replay(&gate, &plain(&url).flow(FLOW), RECORDS);
    assert_eq!(changes(&report), [("newly_refused", "ok", "step-not-allowed", "order after", 2)]);
    assert_eq!(code, Some(1));
    let change = &report["changes"][0];
    let mut clients: Vec<_> = change["clients"].as_array().expect("clients").iter().map(Value::to_string).collect();
    clients.sort();
    let mut wanted = [CLIENT, OTHER_CLIENT].map(|client| json!({ "client": client, "calls": 1 }).to_string());
    wanted.sort();
    assert_eq!(clients, wanted);
    let example = &change["examples"][0];
    assert_eq!((&example["method"], &example["route"]), (&json!("POST"), &json!("order")));
    assert_eq!([&example["session"], &example["request_id"]].map(|id| id.as_str().map(str::len)), [Some(32), Some(36)]);

    let stricter = shop(&url, |route| Some(if route == "help" { "scopes = [\"help.read\"]" } else { "" }));
    let (report, _) = replay(&gate, &stricter, RECORDS);
    assert_eq!(changes(&report), [("newly_refused", "ok", "scope-insufficient", "", 4)]);

    let rule =
        "[[rate_limits]]\nname = \"calm\"\nper = \"session\"\nrequests = 1\nwindow = \"1h\"\nroutes = [\"help\"]";
    let slower = plain(&url).section("admin", &format!("address = \"127.0.0.1:0\"\n{rule}"));
    let (report, _) = replay(&gate, &slower, RECORDS);
    assert_eq!(changes(&report), [("newly_refused", "ok", "rate-limited", "calm", 2)]);

    let without = shop(&url, |route| (route != "help").then_some(""));
    let (report, _) = replay(&gate, &without, RECORDS);
    assert_eq!(changes(&report), [("newly_refused", "ok", "route-unknown", "", 4)]);

    let (report, _) = replay(&gate, &plain(&url).catch_all(), RECORDS);
    assert_eq!(changes(&report), [("newly_admitted", "route-unknown", "ok", "", 1)]);
    assert_eq!(report["changes"][0]["in_part"], 1);

    gate.write("some.toml", format!("[[client]]\nid = {CLIENT:?}\n"));
    let fewer = plain(&url).section("clients", "path = \"some.toml\"");
    let (report, _) = replay(&gate, &fewer, RECORDS);
    assert_eq!(changes(&report), [("newly_refused", "ok", "client-not-allowed", "", 3)]);
}

#[test]
fn what_is_newly_admitted_was_never_answered_and_is_not_done() {
    let origin = Origin::start();
    let scoped = |route: &str| Some(if route == "help" { "scopes = [\"help.read\"]" } else { "" });
    let old = shop(&origin.url(), scoped).flow(FLOW);
    let gate = traced(old.clone());
    let session = gate.open();
    gate.send(&session.post("/eligibility", "{}")).assert_status(200);
    gate.send(&session.post("/order", "{}")).assert_refused("step-not-allowed");
    gate.send(&session.post("/installation", "{}")).assert_refused("step-not-allowed");
    gate.send(&session.get("/help")).assert_refused("scope-insufficient");
    let records = 5;

    let (report, code) = replay(&gate, &old, records);
    assert_eq!((changes(&report), code), (vec![], Some(0)));

    let earlier = FLOW.replace("after = [\"offer\"]", "after = [\"eligibility\"]");
    let (report, _) = replay(&gate, &shop(&origin.url(), scoped).flow(&earlier), records);
    assert_eq!(
        changes(&report),
        [("newly_admitted", "step-not-allowed", "ok", "order after", 1)],
        "the installation waits for an order that nobody answered"
    );

    let (report, _) = replay(&gate, &plain(&origin.url()).flow(FLOW), records);
    assert_eq!(changes(&report), [("newly_admitted", "scope-insufficient", "ok", "", 1)]);

    let (report, _) = replay(&gate, &shop(&origin.url(), scoped), records);
    assert_eq!(
        changes(&report),
        [
            ("newly_admitted", "step-not-allowed", "ok", "installation after", 1),
            ("newly_admitted", "step-not-allowed", "ok", "order after", 1),
        ]
    );
}

#[test]
fn how_many_may_change_is_said_and_the_text_tells_what_does() {
    let origin = Origin::start();
    let gate = busy(&origin);
    gate.write("next.toml", plain(&origin.url()).flow(FLOW).text(&gate.path("").display().to_string()));
    let files = trail(&gate, RECORDS);
    let run = |args: &[&str]| {
        finish(binary().arg("replay").args(args).arg("--config").arg(gate.path("next.toml")).args(&files))
    };
    assert_eq!((run(&["--max-changed", "2"]).code, run(&["--max-changed", "1"]).code), (Some(0), Some(1)));
    let told = run(&[]);
    for part in ["calls           15", "2 newly refused", "ok → step-not-allowed", "order after", "POST order"] {
        assert!(told.stdout.contains(part), "{part} in {}", told.stdout);
    }
    assert!(told.stderr.contains("2 verdicts change, and at most 0 may"), "{told:?}");
    assert!(!told.stdout.contains('\u{1b}'), "no colors in a pipe");

    gate.write("broken.toml", "version = 1\n");
    gate.write("empty", "");
    let path = |name: &str| gate.path(name).display().to_string();
    for (config, file, message) in [
        ("broken.toml", path("empty"), "broken.toml"),
        ("next.toml", path("empty"), "there is no record"),
        ("next.toml", "/nowhere".to_owned(), "cannot read /nowhere"),
    ] {
        let ended = finish(binary().arg("replay").arg("--config").arg(gate.path(config)).arg(file));
        assert_eq!((ended.code, ended.stderr.contains(message)), (Some(2), true), "{message}: {ended:?}");
    }
}

/// A record of a generated trail: what a call of the session of this number did this many seconds after its opening.
fn record(number: u64, after: u64, route: &str, method: &str, code: &str, status: u16) -> String {
    let at = number * 20 + after * 1000;
    let verdict = if code == "ok" { "admitted" } else { "refused" };
    let upstream = if route == "session" || code != "ok" { "-" } else { "shop" };
    format!(
        "{{\"trail\":1,\"time\":\"2026-11-{:02}T{:02}:{:02}:{:02}.{:03}Z\",\"session\":\"{:016x}{number:016x}\",\
         \"number\":{},\"request_id\":\"00000000-0000-4000-8000-{number:012x}\",\"client\":\"client-{}\",\
         \"method\":\"{method}\",\"host\":\"api.example\",\"path\":\"/{route}\",\"scope\":\"listerine.all\",\
         \"headers\":[\"authorization\",\"client-id\",\"session-id\",\"host\"],\"protocol\":\"h2\",\"route\":\"{route}\",\
         \"upstream\":\"{upstream}\",\"verdict\":\"{verdict}\",\"code\":\"{code}\",\"status\":{status},\
         \"ended_by\":\"gate\",\"admission_us\":9,\"first_byte_us\":4000,\"total_us\":4100,\"bytes_in\":1,\"bytes_out\":2}}\n",
        1 + at / 86_400_000,
        at / 3_600_000 % 24,
        at / 60_000 % 60,
        at / 1000 % 60,
        at % 1000,
        // A digest is spread evenly.
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        after + 1,
        number % 3,
    )
}

/// What a configuration with a flow makes of many sessions without one, one of four of which orders too soon:
/// 5,000,000 records with `tests/run --full`.
#[test]
fn a_replay_of_many_records_has_the_totals_they_were_made_with() {
    let sessions: u64 = if scale() > 1 { 1_250_000 } else { 5_000 };
    let origin = Origin::start();
    let gate = Gate::configured(&plain(&origin.url()));
    gate.write("next.toml", plain(&origin.url()).flow(FLOW).text(&gate.path("").display().to_string()));
    let mut command = binary();
    command.args(["replay", "--output", "json", "--config"]).arg(gate.path("next.toml")).arg("-");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut input = std::io::BufWriter::with_capacity(1 << 20, child.stdin.take().expect("stdin is piped"));
    let writing = std::thread::spawn(move || {
        let mut put = |text: &str| input.write_all(text.as_bytes()).expect("it reads");
        for number in 0..sessions {
            let hasty = number % 4 == 0;
            put(&record(number, 0, "session", "POST", "ok", 201));
            put(&record(number, 1, "eligibility", "POST", "ok", 200));
            let (route, method) = if hasty { ("help", "GET") } else { ("offers", "GET") };
            put(&record(number, 2, route, method, "ok", 200));
            put(&record(number, 3, "order", "POST", "ok", 200));
            if number % 1000 == 0 {
                put("{\"trail\":1,\"time\":\n");
            }
        }
    });
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("no panic");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["damaged"]["count"], json!(sessions / 1000));
    assert_eq!(report["damaged"]["first"][0], json!("-:5: the line is cut off"));
    let calls = &report["calls"];
    assert_eq!(
        [&calls["count"], &calls["changed"], &calls["not_replayable"], &report["out_of_order"]],
        [&json!(sessions * 4), &json!(sessions / 4), &json!(0), &json!(0)]
    );
    assert_eq!(changes(&report), [("newly_refused", "ok", "step-not-allowed", "order after", sessions / 4)]);
    let clients = report["changes"][0]["clients"].as_array().expect("clients");
    let counted: u64 = clients.iter().filter_map(|client| client["calls"].as_u64()).sum();
    assert_eq!((clients.len(), counted), (3, sessions / 4));
    assert_eq!(report["changes"][0]["examples"].as_array().map(Vec::len), Some(3));
}

/// Sessions that began before the trail, and what was refused for values that no record has.
#[test]
fn what_a_record_lacks_is_counted_with_the_reason() {
    let origin = Origin::start();
    let gate = Gate::configured(&plain(&origin.url()));
    let lines = [
        record(1, 3, "order", "POST", "ok", 200),
        record(1, 4, "help", "GET", "ok", 200),
        record(2, 1, "help", "GET", "header-invalid", 400),
        record(2, 2, "help", "GET", "header-from-the-future", 400),
        record(2, 3, "help", "GET", "ok", 200).replace("2026-11-", "then "),
        record(2, 4, "help", "GET", "token-invalid", 401),
        record(2, 5, "help", "GET", "upstream-timeout", 504),
    ];
    gate.write("trail.ndjson", lines.concat());
    gate.write("next.toml", plain(&origin.url()).flow(FLOW).text(&gate.path("").display().to_string()));
    let files = [gate.path("next.toml"), gate.path("trail.ndjson")];
    let ended = finish(binary().args(["replay", "--output", "json", "--config"]).args(files));
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((changes(&report), ended.code), (vec![], Some(0)));
    let reasons = report["not_replayable"].as_array().expect("reasons").iter();
    let reasons: Vec<_> =
        reasons.map(|gap| (gap["reason"].as_str().unwrap_or_default(), gap["calls"].clone())).collect();
    let once = json!(1);
    assert_eq!(
        reasons,
        ["code", "header-values", "session-beginning", "time"].map(|reason| (reason, once.clone())).to_vec()
    );
    assert_eq!((&report["calls"]["unchanged"], &report["calls"]["count"]), (&json!(3), &json!(7)));
}

#[test]
fn steps_are_what_reports_and_timelines_tell() {
    let origin = Origin::start();
    let gate = traced(plain(&origin.url()).flow(FLOW));
    let session: Session = gate.open();
    gate.send(&session.post("/eligibility", "{}")).assert_status(200);
    gate.send(&session.post("/order", "{}")).assert_refused("step-not-allowed");
    gate.send(&session.get("/offers")).assert_status(200);
    let files = trail(&gate, 4);
    let shown = finish(binary().args(["trail", &session.id, "--output", "json", "--file"]).args(&files));
    let calls: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let told = |call: usize, keys: [&str; 6]| keys.map(|key| calls[call][key].as_str().unwrap_or("-").to_owned());
    let keys = ["flow", "step", "step_before", "step_after", "step_outcome", "step_rule"];
    assert_eq!(told(1, keys), ["ordering", "eligibility", "-", "eligibility", "committed", "-"]);
    assert_eq!(told(2, keys), ["ordering", "order", "eligibility", "eligibility", "-", "after"]);
    assert_eq!(told(3, keys), ["ordering", "offer", "eligibility", "offer", "committed", "-"]);
    let shown = finish(binary().args(["trail", &session.id, "--file"]).args(&files)).stdout;
    for part in [
        "eligibility → shop",
        "order: step-not-allowed",
        "against the rule after, last step eligibility",
        "offer → shop",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let report = finish(binary().args(["report", "--output", "json"]).args(&files));
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    let steps = report["funnel"]["steps"].as_array().expect("steps").iter();
    let steps: Vec<_> = steps.map(|step| step["name"].as_str().unwrap_or_default()).collect();
    assert_eq!((steps, &report["funnel"]["of_flow"]), (vec!["opened", "eligibility", "offer"], &json!(true)));
}
