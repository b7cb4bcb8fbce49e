//! What is done with the files of a trail: following a session, reporting on many, erasing a person.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{CLIENT, Call, Config, Gate, Origin, Session, binary, eventually, finish, scale, token_with};

const ROUTES: [&str; 5] = ["check", "offer", "configure", "order", "install"];

fn gate(origin: &Origin) -> Gate {
    let mut config = Config::new(&origin.url())
        .lenient()
        .section("logs", "access = \"off\"")
        .section("trail", "files = { folder = \"{dir}/trail\" }");
    for route in ROUTES {
        config = config.route(&format!("name = \"{route}\"\npath = \"/{route}\"\nupstream = \"shop\""));
    }
    Gate::operated(config)
}

fn files(gate: &Gate) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(gate.path("trail")).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "ndjson")).collect();
    files.sort();
    files
}

fn records(gate: &Gate) -> Vec<Value> {
    // The last line may be about to be written.
    let whole = |text: String| text.rsplit_once('\n').map_or(String::new(), |(whole, _)| format!("{whole}\n"));
    let read = |path: &PathBuf| whole(std::fs::read_to_string(path).expect("a file"));
    let text: String = files(gate).iter().map(read).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

#[track_caller]
fn await_records(gate: &Gate, count: usize) {
    eventually(&format!("{count} records in files"), || records(gate).len() >= count);
}

fn session_of(gate: &Gate, subject: &str) -> Session {
    gate.open_as(&token_with(json!({ "sub": subject })), CLIENT)
}

#[test]
fn a_session_is_followed_from_memory_and_from_files() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let (session, other) = (gate.open(), gate.open());
    gate.send(&session.get("/check?zip=1")).assert_status(200);
    gate.send(&other.get("/check")).assert_status(200);
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    gate.send(&session.get("/offer")).assert_refused("session-closed");
    await_records(&gate, 6);

    let admin = gate.admin_url();
    let token = gate.path("admin-token");
    let asked = finish(binary().args(["trail", &session.id, "--admin", &admin, "--token-file"]).arg(&token));
    assert_eq!(asked.code, Some(0), "{asked:?}");
    for part in ["4 calls, 1 refused", "POST /session", "GET /check?…", "check → shop", "404  session-closed"] {
        assert!(asked.stdout.contains(part), "{part} in {}", asked.stdout);
    }
    assert!(!asked.stdout.contains('\u{1b}'), "no colors in a pipe");

    let found = finish(binary().args(["trail", &session.id, "--file"]).args(files(&gate)));
    assert_eq!((found.code, found.stdout.contains("4 calls, 1 refused")), (Some(0), true), "{found:?}");
    let json = finish(binary().args(["trail", &session.id, "--output", "json", "--file"]).args(files(&gate)));
    let calls: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let key = calls[0]["session"].as_str().expect("a key");
    assert_eq!(calls.as_array().map(Vec::len), Some(4));
    let by_key = finish(binary().args(["trail", key, "--file"]).args(files(&gate)));
    assert_eq!(by_key.stdout, found.stdout, "an id and its key name the same session");

    for (args, message) in [
        (vec!["trail", "nonsense"], "name a session by its id"),
        (vec!["trail", "758fc320-af96-4faf-8af7-536e7cac5775", "--admin", &admin], "give --token-file"),
        (vec!["trail", "758fc320-af96-4faf-8af7-536e7cac5775", "--file", "/nowhere"], "cannot read /nowhere"),
    ] {
        let ended = finish(binary().args(&args));
        assert_eq!((ended.code, ended.stderr.contains(message)), (Some(2), true), "{args:?}: {ended:?}");
    }
    let unknown = "758fc320-af96-4faf-8af7-536e7cac5775";
    let nobody = finish(binary().args(["trail", unknown, "--admin", &admin, "--token-file"]).arg(&token));
    assert_eq!(
        (nobody.code, nobody.stderr.contains("no calls of this session in memory")),
        (Some(2), true),
        "{nobody:?}"
    );
}

#[test]
fn a_person_is_erased_under_a_running_gate_and_nobody_else_is() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let (ada, bob) = (session_of(&gate, "ada@shop.example"), session_of(&gate, "bob@shop.example"));
    for _ in 0..20 {
        gate.send(&ada.get("/check")).assert_status(200);
        gate.send(&bob.get("/check")).assert_status(200);
    }
    await_records(&gate, 42);
    let erase = |more: &[&str]| {
        let command = ["trail", "erase", "--subject", "ada@shop.example"];
        finish(binary().args(command).args(more).args(files(&gate)))
    };
    let looked = erase(&["--dry-run"]);
    assert!(looked.stdout.contains("21 records would be erased"), "{looked:?}");
    assert_eq!(records(&gate).len(), 42);

    // Bob goes on while Ada is erased again and again.
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let (mut connection, mut sent) = (gate.connect(), 0);
            while !done.load(Ordering::Relaxed) {
                connection.exchange(&bob.get("/offer")).assert_status(200);
                sent += 1;
            }
            sent
        });
        let erased = erase(&[]);
        assert_eq!((erased.code, erased.stdout.contains("21 records erased")), (Some(0), true), "{erased:?}");
        for _ in 0..5 {
            gate.send(&ada.get("/check")).assert_status(200);
            let again = erase(&[]);
            assert_eq!(again.code, Some(0), "{again:?}");
        }
        done.store(true, Ordering::Relaxed);
        calling.join().expect("no panic")
    });
    eventually("Bob's records are all there", || {
        let offers = records(&gate).iter().filter(|record| record["route"] == "offer").count();
        offers == sent
    });
    eventually("Ada's last record is written and erased", || {
        erase(&[]);
        records(&gate).len() == 21 + sent
    });
    let subjects: std::collections::BTreeSet<_> =
        records(&gate).iter().map(|record| record["subject"].to_string()).collect();
    assert_eq!(subjects.len(), 1, "only Bob is left: {subjects:?}");

    std::fs::remove_file(gate.path("trail/subject.key")).expect("the key");
    let keyless = erase(&[]);
    assert_eq!((keyless.code, keyless.stderr.contains("give --key-file")), (Some(2), true), "{keyless:?}");
}

#[test]
fn a_report_tells_how_far_sessions_came() {
    let origin = Origin::start();
    let gate = gate(&origin);
    for reached in 0..=ROUTES.len() {
        let session = gate.open();
        for route in &ROUTES[..reached] {
            gate.send(&session.get(&format!("/{route}"))).assert_status(200);
        }
        gate.send(&session.call("DELETE", "/session")).assert_status(204);
    }
    gate.send(&Call::new("GET", "/offer")).assert_refused("credentials-missing");
    await_records(&gate, 6 + 15 + 6 + 1);
    let page = gate.path("report.html");
    let told = finish(binary().arg("report").args(files(&gate)).args(["--output", "json", "--html"]).arg(&page));
    assert_eq!(told.code, Some(0), "{told:?}");
    let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let steps: Vec<_> = report["funnel"]["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| (step["name"].as_str().unwrap_or_default(), step["sessions"].as_u64(), step["left"].as_u64()))
        .collect();
    let expected = ["opened", "check", "offer", "configure", "order", "install"];
    let expected: Vec<_> = (0..).zip(expected).map(|(place, name)| (name, Some(6 - place), Some(1))).collect();
    assert_eq!(steps, expected);
    assert_eq!((&report["sessions"]["closed"], &report["calls"]["refused"]), (&json!(6), &json!(1)));
    assert_eq!(report["refusals"], json!([{ "code": "credentials-missing", "client": "", "calls": 1 }]));
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains("<svg") && page.contains("configure"), "{page}");
    for outside in ["<script", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
}

#[test]
fn damaged_lines_are_named_and_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trail.ndjson");
    let mut text = String::new();
    (0..3).for_each(|number| generate(number, &mut text));
    let lines = text.lines().count();
    std::fs::write(&path, format!("{text}{{\"trail\":1,\"ti\n\u{0}\n{text}")).expect("a file");
    let told = finish(binary().args(["report", "--output", "json"]).arg(&path));
    assert_eq!(told.code, Some(0), "{told:?}");
    let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!((&report["calls"]["count"], &report["damaged"]["count"]), (&json!(lines * 2), &json!(2)));
    for line in [lines + 1, lines + 2] {
        assert!(told.stderr.contains(&format!("trail.ndjson:{line}: ")), "{}", told.stderr);
    }
    assert!(told.stderr.contains("2 lines were no records"), "{}", told.stderr);
    let empty = finish(binary().args(["report", "/dev/null"]));
    assert_eq!((empty.code, empty.stderr.contains("no record")), (Some(2), true), "{empty:?}");
}

/// The records of session `number`. It reaches `number % 6` steps, a second apart, and closes if it reached all; every
/// tenth has a call refused first.
fn generate(number: u64, text: &mut String) {
    let begin = number * 37;
    let mut call = 0;
    let mut record = |route: &str, method: &str, code: &str, status: u16| {
        let millis = begin + call * 1000;
        call += 1;
        let (day, rest) = (1 + millis / 86_400_000, millis % 86_400_000);
        let verdict = if code == "ok" { "admitted" } else { "refused" };
        writeln!(
            text,
            "{{\"trail\":1,\"time\":\"2026-01-{day:02}T{:02}:{:02}:{:02}.{:03}Z\",\"session\":\"{number:032x}\",\
             \"number\":{call},\"request_id\":\"0d9a2c1e-5d8e-4f6a-9f0e-3b8a2a1c4d5e\",\"client\":\"client-{}\",\
             \"method\":\"{method}\",\"path\":\"/{route}\",\"headers\":[\"authorization\",\"host\"],\"route\":\"{route}\",\
             \"upstream\":\"shop\",\"verdict\":\"{verdict}\",\"code\":\"{code}\",\"status\":{status},\"total_us\":{},\
             \"bytes_in\":1,\"bytes_out\":2}}",
            rest / 3_600_000,
            rest / 60_000 % 60,
            rest / 1000 % 60,
            rest % 1000,
            number % 3,
            100 + call
        )
        .expect("memory takes everything");
    };
    record("session", "POST", "ok", 201);
    if number.is_multiple_of(10) {
        record("check", "GET", "scope-insufficient", 403);
    }
    let reached = usize::try_from(number % 6).expect("a small number");
    ROUTES[..reached].iter().for_each(|route| record(route, "POST", "ok", 200));
    if reached == ROUTES.len() {
        record("session", "DELETE", "ok", 204);
    }
}

/// Every number of a report on a trail that is larger than the memory it may take: 5,000,000 records with `tests/run
/// --full`.
#[test]
fn a_report_on_many_records_has_the_totals_they_were_made_with() {
    let sessions: u64 = if scale() > 1 { 1_335_000 } else { 6_000 };
    let steps = "eligible=check,offered=offer,configured=configure,ordered=order,installed=install";
    let mut command = binary();
    command.args(["report", "-", "--output", "json", "--funnel", steps]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut input = BufWriter::with_capacity(1 << 20, child.stdin.take().expect("stdin is piped"));
    let writing = thread::spawn(move || {
        let mut text = String::new();
        for number in 0..sessions {
            text.clear();
            generate(number, &mut text);
            input.write_all(text.as_bytes()).expect("it reads");
        }
    });
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("no panic");
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let every = |part: u64| sessions / part;
    // Openings, steps (0 to 5 of six sessions), closings, refusals.
    let calls = sessions + every(6) * 15 + every(6) + every(10);
    let calls_of = &report["calls"];
    assert_eq!(
        [&calls_of["count"], &calls_of["refused"], &calls_of["bytes_in"], &calls_of["bytes_out"]],
        [&json!(calls), &json!(every(10)), &json!(calls), &json!(calls * 2)]
    );
    if scale() > 1 {
        assert!(calls >= 5_000_000, "{calls}");
    }
    let all = &report["sessions"];
    assert_eq!([&all["count"], &all["opened"], &all["closed"]], [&json!(sessions), &json!(sessions), &json!(every(6))]);
    let told = report["funnel"]["steps"].as_array().expect("steps");
    let names = ["opened", "eligible", "offered", "configured", "ordered", "installed"];
    for (place, (step, name)) in (0..).zip(told.iter().zip(names)) {
        assert_eq!((&step["name"], &step["sessions"]), (&json!(name), &json!(every(6) * (6 - place))), "{step}");
        if place > 1 {
            let p50 = step["since_previous_ms"]["p50"].as_f64().expect("a time");
            assert!((p50 - 1000.0).abs() < 20.0, "{step}");
        }
    }
    let left: u64 = told.iter().filter_map(|step| step["left"].as_u64()).sum();
    assert_eq!(left + all["under_way"].as_u64().expect("a number"), sessions);
    let refusals = report["refusals"].as_array().expect("refusals");
    let refused: u64 = refusals.iter().filter_map(|refusal| refusal["calls"].as_u64()).sum();
    assert_eq!((refusals.len(), refused), (3, every(10)));
    let routes = report["routes"].as_array().expect("routes");
    let counted: u64 = routes.iter().filter_map(|route| route["calls"].as_u64()).sum();
    assert_eq!((routes.len(), counted), (6, calls));
    let timeline = report["timeline"].as_array().expect("a timeline");
    assert_eq!(timeline.iter().filter_map(|slice| slice["calls"].as_u64()).sum::<u64>(), calls);
}
