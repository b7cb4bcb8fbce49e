//! Upstreams by name: their addresses are followed.

use std::net::SocketAddr;

use crate::harness::{Config, Dns, Gate, Line, Origin, Raw, eventually};

fn serve(line: &mut Line) {
    while line.read_request().is_some() {
        line.reply(200, &[], b"ok");
    }
}

/// Two origins that differ in their address and have the same port.
fn twins() -> (Origin, Origin, u16) {
    loop {
        let first = Origin::speaking_at("127.0.0.2:0", serve);
        let port = first.address().port();
        let other = SocketAddr::from(([127, 0, 0, 3], port));
        // The port may be taken at the other address.
        if std::net::TcpListener::bind(other).is_ok() {
            return (first, Origin::speaking_at(&other.to_string(), serve), port);
        }
    }
}

fn config(dns: &Dns, port: u16) -> Config {
    Config::new(&format!("http://shop.internal:{port}"))
        .section("resolver", &format!("servers = [\"{}\"]\ntimeout = \"500ms\"", dns.address()))
        .section("server", "workers = 1")
        .section("admin", "address = \"127.0.0.1:0\"")
        .upstream_setting("idle_timeout = \"60s\"")
}

#[test]
fn a_name_that_moves_is_followed_and_old_connections_are_left() {
    let (first, second, port) = twins();
    let dns = Dns::start(&["127.0.0.2"]);
    let gate = Gate::configured(&config(&dns, port));
    let session = gate.open();
    for _ in 0..5 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!((first.calls(), second.calls()), (5, 0));

    dns.moves_to(&["127.0.0.3"]);
    eventually("calls follow", || {
        gate.send(&session.get("/orders")).assert_status(200);
        second.calls() > 0
    });
    eventually("the connection to the old address is closed", || first.open_connections() == 0);
    let before = first.calls();
    for _ in 0..5 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!(first.calls(), before);
}

#[test]
fn the_last_good_address_stays_when_the_resolver_fails() {
    let (first, _second, port) = twins();
    let dns = Dns::start(&["127.0.0.2"]);
    let gate = Gate::configured(&config(&dns, port));
    let session = gate.open();
    gate.send(&session.get("/orders")).assert_status(200);
    dns.fails();
    eventually("it cannot be resolved", || gate.stderr().contains("upstream name cannot be resolved"));
    for _ in 0..5 {
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!(first.calls(), 6);
    let failures = format!("upstream=\"shop\",endpoint=\"shop.internal:{port}\",result=\"failure\"");
    assert!(gate.metrics().lines().any(|line| line.contains(&failures) && !line.ends_with(" 0")));
}

#[test]
fn all_addresses_of_a_name_are_used_and_one_out_of_reach_is_passed_over() {
    let (first, second, port) = twins();
    let dns = Dns::start(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    // Calls at once need new connections.
    let gate = Gate::configured(&config(&dns, port).upstream_setting("max_idle = 1\nconnect_timeout = \"5s\""));
    let session = gate.open();
    eventually("both are used", || {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (address, call) = (gate.address(), session.get("/orders"));
                std::thread::spawn(move || Raw::connect(address).exchange(&call).status)
            })
            .collect();
        calls.into_iter().for_each(|call| assert_eq!(call.join().expect("a call"), 200));
        first.connections() > 0 && second.connections() > 0
    });
}

#[test]
fn a_name_that_does_not_resolve_is_502_and_says_so() {
    let dns = Dns::start(&[]);
    let gate = Gate::configured(&config(&dns, 1));
    let session = gate.open();
    let reply = gate.send(&session.get("/orders"));
    reply.assert_refused("upstream-failed");
    assert!(reply.field("proxy-status").is_some_and(|status| status.contains("error=dns_error")), "{reply:?}");
    assert!(gate.metrics().contains("kind=\"dns\""), "{}", gate.metrics());
}

#[test]
fn localhost_needs_no_name_server() {
    let origin = Origin::start();
    let dns = Dns::start(&["127.0.0.2"]);
    let config = Config::new(&format!("http://localhost:{}", origin.address().port()))
        .section("resolver", &format!("servers = [\"{}\"]", dns.address()));
    let gate = Gate::configured(&config);
    gate.send(&gate.open().get("/orders")).assert_status(200);
    assert_eq!((origin.calls(), dns.asked()), (1, 0));
}
