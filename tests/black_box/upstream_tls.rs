//! Upstreams behind TLS: who is trusted, who we are, and how it ends.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use rustix::process::Signal;

use crate::harness::{Authority, Config, Gate, SecureLine, SecureOrigin, Setup, binary, eventually, finish};

/// One worker, so that all calls share one pool.
fn config(url: &str, tls: &str) -> Config {
    Config::new(url)
        .lenient()
        .section("server", "workers = 1")
        .section("admin", "address = \"127.0.0.1:0\"")
        .upstream_setting(&format!("tls = {{ {tls} }}"))
}

fn start(config: &Config, files: &[(&str, &str)]) -> Gate {
    let setup = Setup::configured(config);
    for (name, content) in files {
        setup.write(name, content);
    }
    setup.start()
}

fn send(line: &mut SecureLine, text: &str) -> bool {
    line.write_all(text.as_bytes()).and_then(|()| line.flush()).is_ok()
}

#[track_caller]
fn assert_tls_failure(gate: &Gate, error: &str) {
    let session = gate.open();
    let reply = gate.send(&session.get("/orders"));
    reply.assert_refused("upstream-failed");
    let status = reply.field("proxy-status").expect("proxy-status");
    assert!(status.contains(&format!("error={error}")), "{status}");
    let shown = format!("{:?} {}", reply.fields, reply.text());
    assert!(!shown.contains("localhost:") && !shown.contains("UnknownIssuer"), "{shown}");
    let metrics = gate.metrics();
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("sessiongate_upstream_failures_total") && line.contains("kind=\"tls\"")),
        "{metrics}"
    );
}

#[test]
fn calls_go_over_tls_to_who_has_a_certificate_of_the_authority_and_share_connections() {
    let authority = Authority::new();
    let origin = SecureOrigin::start(authority.server(&authority.issue("localhost"), &[b"http/1.1"], None));
    let gate =
        start(&config(&origin.url(), "ca = \"{dir}/ca.pem\", min_version = \"1.3\""), &[("ca.pem", &authority.pem)]);
    let session = gate.open();
    for _ in 0..10 {
        let reply = gate.send(&session.get("/orders"));
        reply.assert_status(200);
        assert_eq!(reply.text(), r#"{"ok":true}"#);
    }
    assert_eq!(origin.connections(), 1, "session tickets are no stray bytes");
    gate.send(&session.post("/orders", "{}")).assert_status(200);
}

#[test]
fn an_upstream_that_cannot_prove_its_name_is_502_and_gets_no_byte() {
    let (authority, other) = (Authority::new(), Authority::new());
    let expired = authority.issue_as("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    for (issued, by, cause) in [
        (other.issue("localhost"), &other, "UnknownIssuer"),
        (authority.issue("elsewhere.test"), &authority, "not valid for name"),
        (expired, &authority, "expired"),
    ] {
        let origin = SecureOrigin::answering(by.server(&issued, &[], None), |_, _| panic!("a request was sent"));
        let gate = start(&config(&origin.url(), "ca = \"{dir}/ca.pem\""), &[("ca.pem", &authority.pem)]);
        assert_tls_failure(&gate, "tls_certificate_error");
        eventually(&format!("the log says {cause}"), || gate.stderr().contains(cause));
    }
    // The name may be said; then it counts.
    let origin = SecureOrigin::start(authority.server(&authority.issue("elsewhere.test"), &[], None));
    let tls = "ca = \"{dir}/ca.pem\", server_name = \"elsewhere.test\"";
    let gate = start(&config(&origin.url(), tls), &[("ca.pem", &authority.pem)]);
    gate.send(&gate.open().get("/orders")).assert_status(200);
}

#[test]
fn an_upstream_may_demand_a_certificate_of_the_gate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server(&authority.issue("localhost"), &[], Some(&clients));
    let origin = SecureOrigin::start(Arc::clone(&server));
    let gate = start(&config(&origin.url(), "ca = \"{dir}/ca.pem\""), &[("ca.pem", &authority.pem)]);
    assert_tls_failure(&gate, "tls_certificate_error");

    let issued = clients.issue("gate.test");
    let tls = "ca = \"{dir}/ca.pem\", cert = \"{dir}/gate.pem\", key = \"{dir}/gate.key\"";
    let files = [("ca.pem", authority.pem.as_str()), ("gate.pem", &issued.cert_pem), ("gate.key", &issued.key_pem)];
    let gate = start(&config(&origin.url(), tls), &files);
    gate.send(&gate.open().get("/orders")).assert_status(200);
}

#[test]
fn a_cleartext_server_is_a_tls_error_and_a_silent_one_504() {
    let authority = Authority::new();
    let origin = crate::harness::Origin::speaking(|line| line.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let url = format!("https://localhost:{}", origin.address().port());
    let gate = start(&config(&url, "ca = \"{dir}/ca.pem\""), &[("ca.pem", &authority.pem)]);
    assert_tls_failure(&gate, "tls_protocol_error");

    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://localhost:{}", silent.local_addr().expect("an address").port());
    let config = config(&url, "ca = \"{dir}/ca.pem\"").upstream_setting("connect_timeout = \"300ms\"");
    let gate = start(&config, &[("ca.pem", &authority.pem)]);
    gate.send(&gate.open().get("/orders")).assert_refused("upstream-timeout");
}

#[test]
fn authorities_are_read_again_at_a_reload_and_broken_ones_refuse_it() {
    let (first, second) = (Authority::new(), Authority::new());
    let origin = SecureOrigin::start(second.server(&second.issue("localhost"), &[], None));
    let gate = start(&config(&origin.url(), "ca = \"{dir}/ca.pem\""), &[("ca.pem", &first.pem)]);
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_refused("upstream-failed");
    gate.write("ca.pem", &second.pem);
    gate.signal(Signal::HUP);
    eventually("the new authority is trusted", || gate.send(&session.get("/orders")).status == 200);
    let connections = origin.connections();
    gate.write("ca.pem", "nonsense");
    gate.signal(Signal::HUP);
    eventually("the reload is refused", || gate.stderr().contains("ca.pem has no certificate"));
    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.connections(), connections, "the pool of before is still in use");
}

#[test]
fn an_end_without_goodbye_completes_only_what_was_announced() {
    let authority = Authority::new();
    let origin = SecureOrigin::answering(authority.server(&authority.issue("localhost"), &[], None), |head, line| {
        let length = if head.starts_with("GET /announced") { "content-length: 5\r\n" } else { "" };
        send(line, &format!("HTTP/1.1 200 OK\r\n{length}\r\nhello"));
        false
    });
    let gate = start(&config(&origin.url(), "ca = \"{dir}/ca.pem\""), &[("ca.pem", &authority.pem)]);
    let session = gate.open();
    for _ in 0..2 {
        let reply = gate.send(&session.get("/announced"));
        reply.assert_status(200);
        assert!(reply.complete && reply.text() == "hello", "{reply:?}");
    }
    assert!(!gate.stderr().to_lowercase().contains("warn"), "{}", gate.stderr());
    let reply = gate.connect().exchange(&session.get("/until-close"));
    assert!(!reply.complete, "{reply:?}");
}

#[test]
fn a_tunnel_goes_through_tls() {
    let authority = Authority::new();
    let origin = SecureOrigin::answering(authority.server(&authority.issue("localhost"), &[], None), |_, line| {
        send(line, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello");
        let mut bytes = [0; 4];
        let read = std::io::Read::read_exact(line, &mut bytes);
        read.is_ok() && line.write_all(&bytes).and_then(|()| line.flush()).is_ok()
    });
    let gate = start(&config(&origin.url(), "ca = \"{dir}/ca.pem\""), &[("ca.pem", &authority.pem)]);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.get("/tunnel").field("connection", "upgrade").field("upgrade", "echo").bytes());
    let head = raw.next_head().expect("an answer");
    assert_eq!(head.status, 101, "{head:?}");
    raw.send("ping");
    assert_eq!(raw.read_at_least(9), b"helloping");
}

#[test]
fn what_would_do_nothing_is_refused() {
    for (url, line, text) in [
        ("http://127.0.0.1:9", "tls = { }", "no endpoint is reached over TLS"),
        ("http://127.0.0.1:9", "protocol = \"auto\"", "without TLS there is nothing to choose"),
        ("https://127.0.0.1:9", "tls = { ca = \"{dir}/none.pem\" }", "there is no such file"),
        ("https://127.0.0.1:9", "tls = { ca = \"{dir}/secret\" }", "has no certificate"),
        ("https://127.0.0.1:9", "tls = { cert = \"{dir}/secret\" }", "a certificate needs its key"),
        ("https://127.0.0.1:9", "tls = { insecure = true }", "insecure"),
        ("http://127.0.0.1:9", "http2 = { max_connections = 2 }", "HTTP/2 is not spoken"),
        ("http://127.0.0.1:9", "protocol = \"h3\"", "h3"),
    ] {
        let setup = Setup::configured(&Config::new(url).upstream_setting(line));
        let file = setup.dir().join("sessiongate.toml");
        let ended = finish(binary().arg("check").arg(file));
        assert_eq!(ended.code, Some(2), "{line}: {}", ended.stdout);
        assert!(ended.stderr.contains(text), "{line}: {}", ended.stderr);
    }
}
