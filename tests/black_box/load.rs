//! `sessiongate load`: what it reports is what happened, counted on both sides.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{
    CLIENT, Certificate, Config, Finished, Gate, Origin, Setup, binary, dead_address, eventually, finish,
};

/// Two flows with choices; ids that the origin gives are used again.
const CHOICES: &str = r#"
name = "choices"
[session]
close = true
[[flows]]
name = "buy"
weight = 3
[[flows.steps]]
name = "offers"
path = "/offers"
repeat = [1, 3]
capture = { offer = { json = "/id" } }
go_on = 0.5
[[flows.steps]]
name = "order"
method = "POST"
path = "/orders/{offer}"
body = '{"offer":"{offer}","walk":{n}}'
[[flows]]
name = "look"
[[flows.steps]]
name = "home"
path = "/home"
"#;

const ONE_CALL: &str = "[[flows]]\nname = \"f\"\n[[flows.steps]]\nname = \"a\"\npath = \"/a\"\n";

fn shop() -> Origin {
    Origin::answering(|_, line| line.reply(200, &[("content-type", "application/json")], br#"{"id":"o 1"}"#))
}

/// Runs a load on a gate and reads its report.
struct Load<'g> {
    gate: &'g Gate,
    target: String,
    args: Vec<String>,
}

impl<'g> Load<'g> {
    fn on(gate: &'g Gate) -> Self {
        let load = Self { gate, target: format!("http://{}", gate.address()), args: Vec::new() };
        load.args(&["--warm-up", "0s", "--progress", "0s", "--json"])
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    fn scenario(self, text: &str) -> Self {
        self.gate.write("scenario.toml", text);
        let path = self.gate.path("scenario.toml").display().to_string();
        self.args(&["--scenario", &path])
    }

    fn command(&self) -> std::process::Command {
        let mut command = binary();
        command.args(["load", &self.target, "--client-id", CLIENT, "--hs256-secret-file"]);
        command.arg(self.gate.path("secret")).args(&self.args);
        command
    }

    #[track_caller]
    fn finish(&self) -> (Finished, Value) {
        let done = finish(&mut self.command());
        let report = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("no report: {done:?}"));
        (done, report)
    }

    /// The report of a run with code 0.
    #[track_caller]
    fn report(&self) -> Value {
        let (done, report) = self.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
        report
    }
}

/// Calls by method and path, as the origin saw them.
fn seen(origin: &Origin) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    origin.seen().iter().for_each(|call| *seen.entry(format!("{} {}", call.method, call.target)).or_default() += 1);
    seen
}

/// Answers by step.
fn answered(report: &Value) -> BTreeMap<String, u64> {
    let steps = report["steps"].as_array().expect("the steps").iter();
    steps.map(|step| (step["name"].as_str().unwrap().to_owned(), step["answered"].as_u64().unwrap())).collect()
}

#[test]
fn counts_at_the_origin_are_the_counts_reported() {
    let origin = shop();
    let gate = Gate::strict(&origin.url());
    let report =
        Load::on(&gate).scenario(CHOICES).args(&["--walks", "60", "--concurrency", "4", "--seed", "7"]).report();
    let (seen, answered) = (seen(&origin), answered(&report));
    assert_eq!(seen.get("GET /offers"), answered.get("offers"));
    assert_eq!(seen.get("POST /orders/o%201"), answered.get("order"), "what was captured is encoded: {seen:?}");
    assert_eq!(seen.get("GET /home"), answered.get("home"));
    assert_eq!((answered["open session"], report["walks"]["started"].as_u64()), (60, Some(60)));
    assert_eq!(report["walks"]["completed"].as_u64(), Some(answered["close session"]));
    assert_eq!(report["calls"]["bad"], 0);
    let statuses = &report["statuses"];
    assert_eq!(statuses["200"].as_u64(), Some(seen.values().sum()));
    assert_eq!((statuses["201"].as_u64(), statuses["204"].as_u64()), (Some(60), Some(answered["close session"])));
    let order = origin.seen().into_iter().find(|call| call.method == "POST").expect("somebody ordered");
    let body: Value = serde_json::from_slice(&order.body).expect("a JSON body");
    assert_eq!(body["offer"], "o 1");
}

#[test]
fn a_seed_gives_the_same_walks_by_any_pace_and_number_of_threads() {
    let origin = shop();
    let gate = Gate::strict(&origin.url());
    let flows = |pace: &[&str]| {
        let load = Load::on(&gate).scenario(CHOICES).args(&["--walks", "50", "--seed", "11"]).args(pace);
        let report = load.report();
        (report["flows"].clone(), answered(&report))
    };
    let first = flows(&["--concurrency", "1"]);
    assert_eq!(flows(&["--concurrency", "6", "--threads", "2"]), first);
    assert_eq!(flows(&["--rate", "500", "--threads", "2", "--duration", "20s"]), first);
    // The funnel is consistent in itself.
    for flow in first.0.as_array().expect("flows") {
        let number = |value: &Value| value.as_u64().expect("a number");
        let left: u64 = flow["steps"].as_array().expect("steps").iter().map(|step| number(&step["left"])).sum();
        assert_eq!(number(&flow["started"]), number(&flow["completed"]) + left + number(&flow["failed"]));
        assert_eq!(flow["opened"], flow["steps"][0]["reached"]);
    }
}

#[test]
fn the_warm_up_is_counted_apart() {
    let origin = shop();
    let gate = Gate::strict(&origin.url());
    let mut load = Load::on(&gate).scenario(ONE_CALL);
    load.args.retain(|arg| arg != "--warm-up" && arg != "0s");
    let pace = ["--warm-up", "1s", "--duration", "1s", "--rate", "20", "--arrivals", "constant", "--progress", "0s"];
    load.args.retain(|arg| arg != "--progress");
    let report = load.args(&pace).report();
    // Of 40 walks with a session and a call each, half began in the warm-up.
    assert_eq!((&report["walks"]["started"], &report["calls"]["warm_up"]), (&20.into(), &40.into()));
    assert_eq!((report["calls"]["answered"].as_u64(), origin.calls()), (Some(40), 40));
}

#[test]
fn a_session_per_connection_is_opened_once() {
    let origin = shop();
    let gate = Gate::strict(&origin.url());
    let report = Load::on(&gate).args(&["--scenario", "plain", "--concurrency", "3", "--walks", "30"]).report();
    assert_eq!((answered(&report)["open session"], answered(&report)["offers"]), (3, 30));
    assert_eq!(report["calls"]["answered"], 30, "sessions that were opened before the run are in no total");
    let sessions: std::collections::BTreeSet<_> =
        origin.seen().iter().map(|call| call.field("session-id").map(str::to_owned)).collect();
    assert!(sessions.len() <= 3 && origin.calls() == 30, "{sessions:?}");

    // Six clients wait for two connections.
    let few = ["--scenario", "plain", "--concurrency", "6", "--connections", "2", "--walks", "30"];
    let answered = answered(&Load::on(&gate).args(&few).report());
    assert_eq!((answered["open session"], answered["offers"]), (2, 30));
}

#[test]
fn answers_that_nobody_expected_are_counted_and_make_the_exit_code_1() {
    let origin = Origin::answering(|_, line| line.reply(503, &[], b""));
    let gate = Gate::strict(&origin.url());
    let load = Load::on(&gate).scenario(ONE_CALL).args(&["--concurrency", "2", "--walks", "5"]);
    let (done, report) = load.finish();
    assert_eq!((done.code, &report["calls"]["bad"]), (Some(1), &5.into()), "{done:?}");
    assert_eq!((&report["walks"]["failed"], &report["statuses"]["503"]), (&5.into(), &5.into()));
    assert_eq!(finish(&mut load.args(&["--max-errors", "60%"]).command()).code, Some(0));

    // Refusals of the gate by their code.
    let text = format!("[headers]\nx-correlation-id = \"\"\n{ONE_CALL}");
    let (done, report) = Load::on(&gate).scenario(&text).args(&["--concurrency", "2", "--walks", "5"]).finish();
    assert_eq!((done.code, &report["problems"]["header-missing"]), (Some(1), &5.into()), "{report}");
}

#[test]
fn an_answer_without_the_value_that_is_needed_ends_the_walk() {
    let origin = Origin::start();
    let gate = Gate::strict(&origin.url());
    let args = ["--walks", "12", "--concurrency", "2", "--seed", "3"];
    let (done, report) = Load::on(&gate).scenario(CHOICES).args(&args).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(report["errors"]["capture"], report["walks"]["failed"]);
    assert_eq!(report["flows"][0]["failed"], report["flows"][0]["started"]);
    assert!(seen(&origin).keys().all(|call| !call.contains("orders")));
}

#[test]
fn a_target_that_cannot_be_called_is_said_before_the_run() {
    let origin = Origin::start();
    let gate = Gate::strict(&origin.url());
    let mut load = Load::on(&gate);
    load.target = format!("http://{}", dead_address());
    let done = finish(&mut load.command());
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
    assert!(done.stderr.contains(&load.target[7..]) && done.stderr.contains("refused"), "{done:?}");

    // A gate that does not know the secret.
    gate.write("secret", "another-secret-than-the-one-the-gate-has-read-0123456789");
    let done = finish(&mut Load::on(&gate).command());
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
    assert!(done.stderr.contains("401 token-invalid: "), "code and detail: {done:?}");

    // Not a gate at all.
    let mut load = Load::on(&gate);
    load.target = origin.url();
    let done = finish(&mut load.command());
    assert!(done.code == Some(1) && done.stderr.contains("no session-id"), "{done:?}");
    let garbage = Origin::sending("SSH-2.0-nonsense\r\n\r\n");
    load.target = garbage.url();
    let done = finish(&mut load.command());
    assert!(done.code == Some(1) && done.stderr.contains("malformed"), "{done:?}");
}

#[test]
fn a_broken_scenario_is_refused_with_places_and_hints() {
    let gate = Gate::strict("http://127.0.0.1:9");
    let load =
        Load::on(&gate).scenario("[[flows]]\nname = \"f\"\n[[flows.steps]]\nname = \"a\"\npth = \"/a\"\nthink = 3\n");
    let done = finish(&mut load.command());
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
    let file = gate.path("scenario.toml").display().to_string();
    for part in [&format!("{file}:5:1:"), "did you mean \"path\"?", &format!("{file}:6:9:"), "flows[0].steps[0].think"]
    {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    for args in [
        &["load"][..],
        &["load", "http://127.0.0.1:9"],
        &["load", "ftp://127.0.0.1:9", "--client-id", "a", "--token", "t"],
        &["load", "http://127.0.0.1:9/path", "--client-id", "a", "--token", "t"],
        &["load", "http://127.0.0.1:9", "--rate", "0"],
        &["load", "http://127.0.0.1:9", "--slo", "fast"],
        &["load", "http://127.0.0.1:9", "--client-id", "a", "--token-file", "/nowhere"],
        &["load", "http://127.0.0.1:9", "--client-id", "a", "--token", "t", "--scenario", "/nowhere"],
    ] {
        let done = finish(binary().args(args));
        assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
        assert!(!done.stderr.is_empty() && !done.stderr.contains("panic"), "{done:?}");
    }
}

/// Keys of an object, with those of objects in it.
fn shape(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            found.push(format!("{path}{key}"));
            shape(inner, &format!("{path}{key}."), found);
        }),
        Value::Array(list) => list.iter().take(1).for_each(|inner| shape(inner, path, found)),
        _ => {}
    }
}

#[test]
fn the_json_report_has_the_documented_shape() {
    let origin = shop();
    let gate = Gate::strict(&origin.url());
    let report = Load::on(&gate).scenario(CHOICES).args(&["--walks", "20", "--concurrency", "2"]).report();
    let mut found = Vec::new();
    shape(&report, "", &mut found);
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/load.md")).expect("docs/load.md");
    for key in &found {
        let name = key.rsplit('.').next().unwrap_or_default();
        let varies = key.contains("statuses.") || key.contains("classes.");
        assert!(varies || document.contains(&format!("`{name}`")), "docs/load.md does not describe {key}");
    }
    for key in
        ["version", "calls.answered", "latency_ms.p99", "flows.steps.reached", "steps.latency_ms.p99", "timeline.at"]
    {
        assert!(found.iter().any(|known| known == key), "{key}: {found:?}");
    }
    assert_eq!((&report["version"], &report["mode"]["kind"]), (&1.into(), &"closed".into()));
}

#[test]
fn the_html_report_holds_the_numbers_and_needs_nothing_else() {
    let origin = shop();
    let gate = Gate::strict(&origin.url());
    let page = gate.path("report.html");
    let html = ["--walks", "37", "--concurrency", "2", "--html", page.to_str().expect("a path")];
    let report = Load::on(&gate).scenario(CHOICES).args(&html).report();
    let page = std::fs::read_to_string(&page).expect("the page");
    for number in [&report["calls"]["answered"], &report["walks"]["completed"], &report["statuses"]["200"]] {
        assert!(page.contains(&format!(">{number}")), "{number}");
    }
    for part in [
        "Latency by percentile",
        "Latency over time",
        "Throughput over time",
        "Answers over time",
        "POST /orders/{offer}",
        "of 37",
        "prefers-color-scheme",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for reference in ["src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe"] {
        assert!(!page.contains(reference), "the page refers to something by {reference}");
    }
    let secret = std::fs::read_to_string(gate.path("secret")).expect("the secret");
    assert!(!page.contains(secret.trim()) && !page.contains("eyJ"), "no secret and no token");
}

#[test]
fn an_interrupted_run_reports_what_it_measured() {
    let origin = shop();
    let gate = Gate::strict(&origin.url());
    let page = gate.path("report.html");
    let args = ["--concurrency", "2", "--duration", "10m", "--html", page.to_str().expect("a path")];
    let load = Load::on(&gate).args(&["--scenario", "plain"]).args(&args);
    let child = load.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    origin.await_calls(20);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("the load runs");
    let done = child.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&done.stdout).expect("a report");
    assert_eq!((done.status.code(), &report["interrupted"]), (Some(0), &true.into()));
    let (answered, cut_off) = (&report["calls"]["answered"], &report["calls"]["cut_off"]);
    let most = answered.as_u64().expect("a number") + cut_off.as_u64().expect("a number");
    // What was cut off may have come through.
    let there = origin.calls() as u64;
    assert!(answered.as_u64() <= Some(there) && there <= most, "{answered} {cut_off} {there}");
    assert!(std::fs::read_to_string(page).expect("the page").contains("interrupted"));
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let gate = Gate::strict("http://127.0.0.1:9");
    // It takes connections and never answers, so the probe is still waiting.
    let silent = Origin::speaking(|line| line.hang());
    let mut load = Load::on(&gate).args(&["--timeout", "10m"]);
    load.target = silent.url();
    let mut child = load.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    eventually("a connection", || silent.connections() > 0);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("the load runs");
    // It may have ended already.
    let _ = kill_process(pid, Signal::INT);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

#[test]
fn http2_and_tls_make_the_same_walks() {
    let origin = shop();
    let certificate = Certificate::new();
    let gate = Setup::file_less(&origin.url()).with_tls(&certificate).start();
    let ca = gate.path("cert.pem").display().to_string();
    let https = format!("https://localhost:{}", gate.tls_address().port());
    let http = format!("http://{}", gate.address());
    let run = |target: &str, args: &[&str]| {
        let mut load = Load::on(&gate).scenario(CHOICES).args(&["--walks", "20", "--concurrency", "3", "--seed", "5"]);
        load.target = target.into();
        let report = load.args(args).report();
        assert_eq!(report["calls"]["bad"], 0, "{report}");
        (report["flows"].clone(), report["protocol"].clone())
    };
    let (walks, protocol) = run(&http, &[]);
    assert_eq!(protocol, "HTTP/1.1");
    assert_eq!(run(&http, &["--http2"]), (walks.clone(), "HTTP/2".into()));
    assert_eq!(run(&https, &["--ca", &ca]), (walks.clone(), "HTTP/1.1".into()));
    assert_eq!(run(&https, &["--ca", &ca, "--http2"]), (walks.clone(), "HTTP/2".into()));
    assert_eq!(run(&https, &["--insecure"]), (walks, "HTTP/1.1".into()));

    let other = Certificate::new();
    gate.write("other.pem", &other.cert_pem);
    let mut load = Load::on(&gate).args(&["--ca", &gate.path("other.pem").display().to_string()]);
    load.target = https;
    let done = finish(&mut load.command());
    assert!(done.code == Some(1) && done.stderr.contains("--insecure"), "{done:?}");
}

#[test]
fn the_search_ends_at_the_last_rate_that_held() {
    // It serves eight calls and fails from then on, so the first rate holds and no later one does.
    let served = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::answering(move |_, line| {
        let fine = served.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 8;
        line.reply(if fine { 200 } else { 503 }, &[], b"");
    });
    let gate = Gate::strict(&origin.url());
    let slo = ["--slo", "p99=20s,errors=0%", "--rate", "10", "--arrivals", "constant", "--step", "500ms"];
    let report = Load::on(&gate).scenario(ONE_CALL).args(&slo).report();
    let slo_report = &report["slo"];
    assert_eq!((slo_report["rate"].as_f64(), &slo_report["objective"]), (Some(10.0), &"p99=20s,errors=0%".into()));
    let tries = slo_report["tries"].as_array().expect("tries");
    let rates: Vec<f64> = tries.iter().filter_map(|tried| tried["rate"].as_f64()).collect();
    assert_eq!(rates[..4], [10.0, 20.0, 15.0, 12.5], "doubled, then halved");
    assert!(tries[0]["misses"].as_array().is_some_and(Vec::is_empty));
    assert!(tries[1]["misses"][0].as_str().is_some_and(|miss| miss.starts_with("errors ")), "{slo_report}");

    let (done, report) = Load::on(&gate).scenario(ONE_CALL).args(&slo).finish();
    assert_eq!((done.code, &report["slo"]["rate"]), (Some(1), &Value::Null), "nothing holds any more");
}

#[test]
fn the_scenario_that_is_printed_is_the_one_that_is_walked() {
    let origin = Origin::answering(|seen, line| {
        let status = if seen.target == "/orders" || seen.target == "/installations" { 201 } else { 200 };
        line.reply(status, &[("content-type", "application/json")], br#"{"offers":[{},{"id":"fiber-500"}]}"#);
    });
    let gate = Gate::configured(&Config::new(&origin.url()));
    let printed = finish(binary().args(["load", "--print-scenario"]));
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let args = ["--walks", "30", "--concurrency", "3", "--no-think", "--seed", "1"];
    let own = Load::on(&gate).scenario(&printed.stdout).args(&args).report();
    let built_in = Load::on(&gate).args(&args).report();
    assert_eq!((own["flows"].clone(), answered(&own)), (built_in["flows"].clone(), answered(&built_in)));
    assert!(origin.seen().iter().any(|call| call.target == "/configurations/fiber-500"), "a value was captured");
}

#[test]
fn the_commands_and_scenarios_of_the_document_work() {
    let origin = Origin::answering(|seen, line| {
        let status = if seen.method == "POST" && seen.target != "/eligibility" { 201 } else { 200 };
        line.reply(status, &[("content-type", "application/json")], br#"{"id":"a1","offers":[{"id":"x"},{"id":"y"}]}"#);
    });
    let gate = Gate::strict(&origin.url());
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/load.md");
    let document = std::fs::read_to_string(document).expect("docs/load.md");
    let mut fences = document.split("\n```").skip(1).step_by(2);
    let (mut commands, mut scenarios) = (0, 0);
    let secret = gate.path("secret").display().to_string();
    for fence in &mut fences {
        let (kind, text) = fence.split_once('\n').unwrap_or_default();
        if kind == "toml" {
            scenarios += 1;
            gate.write("secret.key", std::fs::read(gate.path("secret")).expect("the secret"));
            gate.write("mine.toml", text);
        }
        for line in
            text.replace("\\\n", " ").lines().filter(|line| kind == "sh" && line.starts_with("sessiongate load"))
        {
            commands += 1;
            let line = line.replace("http://127.0.0.1:8080", &format!("http://{}", gate.address()));
            let line = line.replace("secret.key", &secret).replace("my-app", CLIENT);
            // How fast this machine is decides nothing here.
            let line = line.replace("p99=20ms", "p99=20s");
            let quick = if line.contains("--print-scenario") {
                ""
            } else {
                " --no-think --walks 20 --warm-up 0s --progress 0s"
            };
            let quick = if line.contains("--slo") { " --walks 20 --step 200ms --progress 0s" } else { quick };
            let line = line.replace("sessiongate load", &format!("\"$SESSIONGATE\" load{quick}"));
            let mut shell = std::process::Command::new("bash");
            shell.arg("-euc").arg(&line).current_dir(gate.path("")).env("SESSIONGATE", binary().get_program());
            let done = finish(shell.stdin(Stdio::null()));
            assert_eq!(done.code, Some(0), "{line}: {done:?}");
        }
    }
    assert!(commands >= 5 && scenarios >= 1, "{commands} commands, {scenarios} scenarios");
}
