//! Configuration files: `check`, and what a reload does.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    CLIENT, Call, Config, Finished, Gate, Origin, Session, Setup, binary, eventually, finish, token, token_with,
};

const UPSTREAM: &str = "http://127.0.0.1:9";

/// Runs `check` on a file with this text.
fn check(text: &str) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("secret"), crate::harness::SECRET).expect("a secret");
    std::fs::write(dir.path().join("sessiongate.toml"), text).expect("a file");
    finish(binary().current_dir(dir.path()).args(["check", "sessiongate.toml"]))
}

fn text(config: &Config) -> String {
    config.text(".")
}

#[test]
fn a_good_file_checks_out_in_both_spellings() {
    let good = text(&Config::new(UPSTREAM));
    assert_eq!(check(&good).code, Some(0), "{:?}", check(&good));

    let setup = Setup::configured(&Config::new(UPSTREAM)).arg("-t");
    assert_eq!(setup.run().code, Some(0), "{:?}", setup.run());
}

#[test]
fn every_mistake_is_shown_at_once_with_its_place() {
    let broken = text(
        &Config::new(UPSTREAM)
            .section("limits", "head = \"1MiB\"\nuri = \"nonsense\"")
            .route("name = \"orders\"\npath = \"/orders/{id}\"\nscopes = [\"orders write\"]\nupstream = \"shop\"")
            .route("name = \"pay\"\npath = \"/pay\"\nupstream = \"shopp\"")
            .route("name = \"pay\"\npath = \"/pay/{\"\nmethods = [\"FETCH\"]\nupstream = \"shop\""),
    );
    let done = check(&broken);
    assert_eq!(done.code, Some(2), "{done:?}");
    let shown = format!("{}{}", done.stdout, done.stderr);
    assert!(shown.contains("sessiongate.toml"), "{shown}");
    // The unreadable size ends the reading of the shape, or is one of all the mistakes.
    assert!(shown.contains("nonsense"), "{shown}");

    let broken = broken.replace("uri = \"nonsense\"", "uri = \"8KiB\"");
    let done = check(&broken);
    assert_eq!(done.code, Some(2), "{done:?}");
    let shown = format!("{}{}", done.stdout, done.stderr);
    for part in ["orders write", "shopp", "did you mean", "shop", "FETCH", "/pay/{"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    let line = broken.lines().position(|line| line.contains("shopp")).expect("the line") + 1;
    assert!(shown.contains(&format!(":{line}:")), "line {line} in {shown}");
}

#[test]
fn unknown_keys_are_mistakes_and_close_ones_are_named() {
    let done = check(&text(&Config::new(UPSTREAM).section("sessions", "idel = \"5m\"")));
    assert_eq!(done.code, Some(2), "{done:?}");
    let shown = format!("{}{}", done.stdout, done.stderr);
    assert!(shown.contains("idel") && shown.contains("idle"), "{shown}");
}

#[test]
fn a_file_of_another_version_or_of_none_is_refused() {
    let good = text(&Config::new(UPSTREAM));
    for (broken, word) in [
        (good.replace("version = 1", "version = 2"), "version"),
        (good.replace("version = 1", ""), "version"),
        (String::new(), "version"),
        ("nonsense".to_owned(), "sessiongate.toml:1:"),
        ("\u{0}\u{1}".to_owned(), "sessiongate.toml"),
    ] {
        let done = check(&broken);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(format!("{}{}", done.stdout, done.stderr).contains(word), "{word}: {done:?}");
    }
}

#[test]
fn secrets_do_not_stand_in_the_file_and_never_come_back() {
    let secret = "a-secret-that-someone-wrote-into-the-file-itself";
    let issuer = format!("name = \"main\"\nkeys = [{{ secret = \"{secret}\" }}]");
    let done = check(&text(&Config::new(UPSTREAM).issuer(&issuer)));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(!done.stderr.contains(secret) && !done.stdout.contains(secret), "{done:?}");
}

#[test]
fn a_missing_file_and_a_missing_secret_say_which() {
    let done = finish(binary().args(["check", "/nonexistent/sessiongate.toml"]));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("/nonexistent/sessiongate.toml"), "{done:?}");
    let done = finish(binary().args(["serve", "--config", "/nonexistent/sessiongate.toml"]));
    assert_eq!(done.code, Some(2), "{done:?}");

    let issuer = "name = \"main\"\nkeys = [{ secret = { file = \"/nonexistent/key\" } }]";
    let done = check(&text(&Config::new(UPSTREAM).issuer(issuer)));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(format!("{}{}", done.stdout, done.stderr).contains("/nonexistent/key"), "{done:?}");
}

#[test]
fn a_broken_key_or_certificate_is_refused_with_its_place() {
    let key = "name = \"main\"\nkeys = [{ pem = { file = \"{dir}/secret\" } }]";
    let listener = "address = \"127.0.0.1:0\"\ntls = { cert = \"{dir}/secret\", key = \"{dir}/secret\" }";
    for config in [Config::new(UPSTREAM).issuer(key), Config::new(UPSTREAM).listener(listener)] {
        let setup = Setup::configured(&config);
        let done = setup.run();
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("secret"), "{done:?}");
        assert!(!done.stderr.contains("panicked"), "{done:?}");
    }
}

/// A gate whose admin listener tells of its reloads.
fn watched(origin: &Origin, change: impl Fn(Config) -> Config) -> (Gate, impl Fn(&str) -> Config) {
    let url = origin.url();
    let config = move |idle: &str| {
        Config::new(&url)
            .section("admin", "address = \"127.0.0.1:0\"")
            .section("sessions", &format!("idle = \"{idle}\""))
    };
    (Gate::configured(&change(config("10m"))), config)
}

fn reloads(gate: &Gate, result: &str) -> f64 {
    let metrics = gate.metrics();
    let line = metrics
        .lines()
        .find(|line| line.starts_with(&format!("sessiongate_config_reloads_total{{result=\"{result}\"}}")));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

#[test]
fn a_reload_changes_the_rules_and_keeps_sessions_and_connections() {
    let origin = Origin::start();
    let (gate, config) = watched(&origin, |config| config);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.exchange(&session.get("/orders")).assert_status(200);

    let narrower =
        config("5m").route("name = \"orders\"\npath = \"/orders\"\nmethods = [\"GET\"]\nupstream = \"shop\"");
    gate.write_config(&narrower);
    gate.signal(Signal::HUP);
    eventually("the reload", || raw.exchange(&session.get("/other")).status == 404);

    raw.exchange(&session.get("/orders")).assert_status(200);
    raw.exchange(&session.get("/session")).assert_status(200);
    let opened = gate.send(&Session::opening(&token(), CLIENT));
    assert_eq!(opened.field("session-expires-in"), Some("300"), "new sessions follow the new rules");
    assert_eq!(reloads(&gate, "accepted"), 1.0, "{}", gate.metrics());
}

#[test]
fn a_broken_file_is_refused_whole_and_the_old_one_stays() {
    let origin = Origin::start();
    let (gate, config) = watched(&origin, |config| config);
    let session = gate.open();

    gate.write("sessiongate.toml", format!("{}\n[limits]\nhaed = \"1KiB\"\n", config("1s").text("nowhere")));
    gate.signal(Signal::HUP);
    gate.await_stderr("haed");

    gate.send(&session.get("/orders")).assert_status(200);
    let opened = gate.send(&Session::opening(&token(), CLIENT));
    assert_eq!(opened.field("session-expires-in"), Some("600"));
    eventually("the refusal is counted", || reloads(&gate, "refused") == 1.0);
    assert!(gate.metrics().contains("sessiongate_config_last_reload_successful 0"), "{}", gate.metrics());

    gate.write_config(&config("5m"));
    gate.signal(Signal::HUP);
    eventually("the good file", || reloads(&gate, "accepted") == 1.0);
    assert!(gate.metrics().contains("sessiongate_config_last_reload_successful 1"), "{}", gate.metrics());
}

#[test]
fn reloads_under_load_lose_no_call() {
    let origin = Origin::start();
    let (gate, config) = watched(&origin, |config| config);
    let session = gate.open();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut raw = gate.connect();
            let mut statuses = Vec::new();
            for _ in 0..300 {
                statuses.push(raw.exchange(&session.get("/orders")).status);
                std::thread::sleep(Duration::from_millis(2));
            }
            statuses
        });
        for number in 0..20 {
            if number % 2 == 0 {
                gate.write_config(&config("5m"));
            } else {
                gate.write("sessiongate.toml", "broken");
            }
            gate.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(20));
        }
        let statuses = load.join().expect("the load");
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
    gate.write_config(&config("5m"));
    gate.signal(Signal::HUP);
    eventually("the last reload", || reloads(&gate, "accepted") >= 1.0);
    gate.send(&session.get("/session")).assert_status(200);
}

#[test]
fn a_rotated_secret_is_taken_and_the_old_one_ends() {
    let origin = Origin::start();
    let (gate, config) = watched(&origin, |config| config);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);

    let second = "the-second-secret-of-the-tests-0123456789abcdefghijklmnopqrstuvwxyz";
    gate.keep_secret(second);
    gate.write("secret", second);
    gate.write_config(&config("10m"));
    gate.signal(Signal::HUP);
    eventually("the reload", || reloads(&gate, "accepted") == 1.0);

    let payload = crate::harness::claims().to_string();
    let fresh =
        crate::harness::sign_with(r#"{"alg":"HS256"}"#, &payload, aws_lc_rs::hmac::HMAC_SHA256, second.as_bytes());
    gate.send(&session.with_token(&fresh).get("/orders")).assert_status(200);
    gate.send(&session.get("/orders")).assert_refused("token-invalid");
}

#[test]
fn without_a_file_a_reload_is_a_noted_nothing() {
    let origin = Origin::start();
    let mut gate = Gate::file_less(&origin.url());
    let session = gate.open();
    let before = gate.stderr().lines().count();
    for _ in 0..3 {
        gate.signal(Signal::HUP);
    }
    eventually("it is noted", || gate.stderr().lines().count() > before);
    assert!(gate.is_alive());
    gate.send(&session.get("/orders")).assert_status(200);
}

#[test]
fn statuses_and_problem_types_can_be_changed() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("errors", "type_base = \"https://errors.example/\"\nstatus = { \"session-closed\" = 410 }");
    let gate = Gate::configured(&config);
    let session = gate.open();
    gate.send(&session.call("DELETE", "/session")).assert_status(204);
    let problem = gate.send(&session.get("/orders")).assert_refused_with_status("session-closed", Some(410));
    assert_eq!(problem["type"], "https://errors.example/session-closed");
    let unknown = gate.send(&Call::new("GET", "/orders"));
    assert_eq!(unknown.status, 401);
    let stranger = token_with(json!({"sub": "stranger"}));
    gate.send(&session.with_token(&stranger).get("/orders")).assert_refused("session-not-found");
}
