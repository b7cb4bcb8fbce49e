//! The command line.

use std::net::TcpListener;

use serde_json::json;

use crate::harness::{
    CLIENT, Certificate, Config, Gate, Origin, Session, Setup, binary, dead_address, finish, token_with,
};

#[test]
fn help_and_version_are_there_and_a_wrong_flag_is_code_2() {
    for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["token", "--help"], &["load", "--help"]] {
        let done = finish(binary().args(args));
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
    }
    let help = finish(binary().arg("--help")).stdout;
    for command in ["serve", "check", "demo", "load", "token", "routes", "explain", "test", "schema"] {
        assert!(help.contains(command), "{command} in {help}");
    }
    for args in [
        &["--nonsense"][..],
        &["srve"],
        &["serve", "--listen", "nonsense", "--upstream", "http://127.0.0.1:9"],
        &["serve"],
    ] {
        let done = finish(binary().args(args));
        assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
        assert!(!done.stderr.is_empty() && !done.stderr.contains("panicked"), "{done:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_code_1() {
    let origin = Origin::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for flag in ["--listen", "--admin"] {
        let setup = Setup::file_less(&origin.url());
        let done = match flag {
            "--listen" => {
                let secret = setup.dir().join("secret").display().to_string();
                finish(binary().args([
                    "serve",
                    "--listen",
                    &address,
                    "--upstream",
                    &origin.url(),
                    "--hs256-secret-file",
                    &secret,
                ]))
            }
            _ => setup.args(&[flag, &address]).run(),
        };
        assert_eq!(done.code, Some(1), "{flag}: {done:?}");
        assert!(done.stderr.contains(&address), "{flag}: {done:?}");
    }
}

#[test]
fn a_port_that_another_gate_has_is_taken_too() {
    let origin = Origin::start();
    let first = Gate::file_less(&origin.url());
    let address = first.address().to_string();
    let secret = first.path("secret").display().to_string();
    let done = finish(binary().args([
        "serve",
        "--listen",
        &address,
        "--upstream",
        &origin.url(),
        "--hs256-secret-file",
        &secret,
    ]));
    assert_eq!(done.code, Some(1), "SO_REUSEPORT is for the workers of one process: {done:?}");
    assert!(done.stderr.contains(&address), "{done:?}");
    first.send(&first.open().get("/orders")).assert_status(200);
}

#[test]
fn a_bad_secret_is_code_2_and_never_shown() {
    let origin = Origin::start();
    let short = "only-31-bytes-long-0123456789ab";
    assert_eq!(short.len(), 31);
    for secret in [short, &format!("{short}\n"), "", "\n"] {
        let setup = Setup::file_less(&origin.url());
        setup.write("secret", secret);
        let done = setup.run();
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("secret"), "{done:?}");
        assert!(secret.trim().is_empty() || done.stderr.contains("32"), "it says how long it must be: {done:?}");
        assert!(secret.trim().is_empty() || !done.stderr.contains(secret.trim()), "{done:?}");
    }
    let setup = Setup::file_less(&origin.url());
    std::fs::remove_file(setup.dir().join("secret")).expect("the file is there");
    let done = setup.run();
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("secret"), "{done:?}");
}

#[test]
fn a_bad_certificate_or_upstream_is_code_2() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let setup = Setup::file_less(&origin.url());
    let cert = setup.write("cert.pem", &certificate.cert_pem);
    let key = setup.write("key.pem", "nonsense");
    let done = setup.args(&["--tls-cert", &cert, "--tls-key", &key, "--tls-listen", "127.0.0.1:0"]).run();
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("key.pem"), "{done:?}");

    for upstream in ["nonsense", "ftp://127.0.0.1:9", "http://", "http://127.0.0.1:99999", "http://user@127.0.0.1:9"] {
        let done = Setup::file_less(upstream).run();
        assert_eq!(done.code, Some(2), "{upstream}: {done:?}");
    }
}

#[test]
fn an_upstream_that_is_down_does_not_keep_the_gate_from_starting() {
    let gate = Gate::file_less(&format!("http://{}", dead_address()));
    gate.open();
}

#[test]
fn the_token_command_makes_tokens_the_gate_takes() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let secret = gate.path("secret").display().to_string();
    let done = finish(binary().args(["token", "--hs256-secret-file", &secret, "--client-id", CLIENT]));
    assert_eq!(done.code, Some(0), "{done:?}");
    let token = done.stdout.trim();
    assert_eq!(
        (token.lines().count(), token.split('.').count()),
        (1, 3),
        "the token alone, to be used in $(..): {done:?}"
    );
    let opened = gate.send(&Session::opening(token, CLIENT));
    opened.assert_status(201);
}

#[test]
fn routes_and_explain_show_how_a_call_would_be_judged() {
    let config = Config::new("http://127.0.0.1:9")
        .route("name = \"orders\"\npath = \"/orders/{id}\"\nmethods = [\"GET\"]\nscopes = [\"orders.read\"]\nupstream = \"shop\"")
        .route("name = \"health\"\npath = \"/health\"\nexempt = true\nupstream = \"shop\"");
    let setup = Setup::configured(&config);
    let file = setup.dir().join("sessiongate.toml").display().to_string();
    let run = |args: &[&str]| finish(binary().args(args).args(["--config", &file]));

    let routes = run(&["routes"]);
    assert_eq!(routes.code, Some(0), "{routes:?}");
    for part in ["/session", "orders", "/orders/{id}", "GET", "orders.read", "health", "shop"] {
        assert!(routes.stdout.contains(part), "{part} in {}", routes.stdout);
    }
    let explained = run(&["explain", "GET", "/orders/7"]);
    for part in ["orders", "session-id is missing", "401 credentials-missing"] {
        assert!(explained.stdout.contains(part), "{part} in {explained:?}");
    }
    let session = "00000000-0000-4000-8000-000000000000";
    let with = |scope: &str| {
        let token = token_with(json!({ "scope": scope }));
        let bearer = format!("authorization: Bearer {token}");
        let (client, id) = (format!("client-id: {CLIENT}"), format!("session-id: {session}"));
        let fields = [&bearer, &client, &id, "x-correlation-id: c", "accept: */*"];
        let args: Vec<_> = ["explain", "GET", "/orders/7"]
            .into_iter()
            .chain(fields.into_iter().flat_map(|field| ["-H", field]))
            .collect();
        let done = run(&args);
        assert!(!done.stdout.contains(&token) && !done.stdout.contains(session), "a secret in {done:?}");
        done
    };
    assert!(with("x").stdout.contains("scope-insufficient"), "{:?}", with("x"));
    let passed = with("orders.read");
    assert_eq!(passed.code, Some(0), "{passed:?}");
    assert!(passed.stdout.contains("shop"), "{passed:?}");
    for (method, path, code) in [
        ("GET", "/unknown", "route-unknown"),
        ("POST", "/orders/7", "method-not-allowed"),
        ("GET", "/a/../b", "request-malformed"),
        ("TRACE", "/orders/7", "method-not-allowed"),
        ("PURGE", "/orders/7", "method-not-implemented"),
    ] {
        let explained = run(&["explain", method, path]);
        assert!(explained.stdout.contains(code), "{method} {path}: {explained:?}");
    }
}

#[test]
fn the_schema_is_json_schema_and_names_the_sections() {
    let done = finish(binary().arg("schema"));
    assert_eq!(done.code, Some(0), "{done:?}");
    let schema: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert!(schema["$schema"].as_str().is_some_and(|text| text.contains("json-schema.org")), "{schema}");
    for name in [
        "version",
        "server",
        "listeners",
        "admin",
        "limits",
        "sessions",
        "headers",
        "issuers",
        "upstreams",
        "routes",
        "errors",
        "logs",
    ] {
        assert!(schema["properties"][name].is_object(), "{name}");
    }
}

#[test]
fn workers_and_the_descriptor_limit_are_as_asked() {
    let origin = Origin::start();
    let gate = Setup::file_less(&origin.url()).args(&["--workers", "3"]).start();
    let session = gate.open();
    for _ in 0..12 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).expect("the gate runs on Linux");
    assert!(tasks.count() >= 4, "three workers and the first thread");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.pid())).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit").to_owned();
    let mut numbers = line.split_whitespace().filter(|word| word.chars().all(|letter| letter.is_ascii_digit()));
    assert_eq!(numbers.next(), numbers.next(), "the soft limit is raised to the hard one: {line}");
    for wrong in ["0", "-1", "many"] {
        let done = Setup::file_less(&origin.url()).args(&["--workers", wrong]).run();
        assert_eq!(done.code, Some(2), "{wrong}: {done:?}");
    }
}
