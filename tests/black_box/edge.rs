//! What connections meet before HTTP: the PROXY protocol, certificates by name, certificates of clients.

use std::io::Write;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::SerialNumber;
use rustix::process::Signal;

use crate::harness::{
    Authority, CLIENT, Call, Certificate, Config, Gate, Issued, Origin, Raw, Session, Setup, eventually, token,
};

/// A gate that takes PROXY headers from loopback.
fn proxied(origin: &Origin, server: &str, limits: &str) -> Gate {
    let config = Config::new(&origin.url())
        .lenient()
        .section("server", server)
        .section("limits", limits)
        .section("admin", "address = \"127.0.0.1:0\"")
        .listener("address = \"127.0.0.1:0\"\nproxy_protocol = \"any\"\nproxy_protocol_from = [\"127.0.0.0/8\"]")
        .listener("address = \"127.0.0.1:0\"");
    Gate::configured(&config)
}

/// The two listeners, the one with the PROXY protocol first.
fn listeners(gate: &Gate) -> (SocketAddr, SocketAddr) {
    let text = gate.stderr();
    let mut found = text.lines().filter(|line| line.contains("listening on") && !line.contains("admin"));
    let mut next = || {
        let line = found.next().expect("a listener");
        line.rsplit("//").next().expect("an address").trim().trim_end_matches('/').parse().expect("an address")
    };
    (next(), next())
}

fn over(address: SocketAddr, header: &[u8]) -> Raw {
    let mut raw = Raw::connect(address);
    raw.send(header);
    raw
}

/// Version 2 for a client at 192.0.2.9.
fn version_2(command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[command, 0x11, 0, 12, 192, 0, 2, 9, 198, 51, 100, 1, 0x13, 0x88, 0x01, 0xbb]);
    header
}

#[test]
fn a_load_balancer_says_whose_connection_it_is() {
    let origin = Origin::start();
    let gate = proxied(&origin, "", "");
    let (behind, plain) = listeners(&gate);
    let opened = Raw::connect(plain).exchange(&Session::opening(&token(), CLIENT));
    let id = opened.field("session-id").expect("an id").to_owned();
    let session = Session { token: token(), client: CLIENT.into(), id };

    for (header, client) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n".to_vec(), "2001:db8::7"),
        (version_2(0x21), "192.0.2.9"),
        (version_2(0x20), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        // In one piece with the call, and the call behind it twice.
        let call = session.get("/orders").field("x-forwarded-for", "203.0.113.66");
        let mut raw = Raw::connect(behind);
        raw.send([header.as_slice(), &call.bytes()].concat());
        raw.reply().assert_status(200);
        assert_eq!(origin.last().all("x-forwarded-for"), [client], "the client is not a trusted proxy");
        raw.exchange(&call).assert_status(200);
        assert_eq!(origin.last().all("x-forwarded-for"), [client]);
    }
    // Byte by byte.
    let mut raw = Raw::connect(behind);
    for byte in version_2(0x21) {
        raw.send([byte]);
    }
    raw.exchange(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.last().all("x-forwarded-for"), ["192.0.2.9"]);
    eventually("the log names the client", || gate.stdout().contains("192.0.2.9"));
}

#[test]
fn a_carried_client_that_is_a_trusted_proxy_is_believed() {
    let origin = Origin::start();
    let gate = proxied(&origin, "trusted_proxies = [\"192.0.2.9\"]", "");
    let (behind, _) = listeners(&gate);
    let mut raw = over(behind, &version_2(0x21));
    let opened = raw.exchange(&Session::opening(&token(), CLIENT));
    let id = opened.field("session-id").expect("an id").to_owned();
    let session = Session { token: token(), client: CLIENT.into(), id };
    raw.exchange(&session.get("/orders").field("x-forwarded-for", "203.0.113.66")).assert_status(200);
    assert_eq!(origin.last().all("x-forwarded-for"), ["203.0.113.66, 192.0.2.9"]);
}

#[test]
fn without_its_header_a_connection_ends_and_is_counted() {
    let origin = Origin::start();
    let gate = proxied(&origin, "", "head_timeout = \"300ms\"");
    let (behind, _) = listeners(&gate);
    let call = Call::new("GET", "/orders");
    for bytes in [
        call.bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 nonsense 1 2\r\n".to_vec(),
        [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 600]].concat(),
    ] {
        let mut raw = Raw::connect(behind);
        let _ = raw.try_send(&bytes);
        raw.assert_closed();
    }
    over(behind, b"PROXY TCP4 1.2").assert_closed();
    Raw::connect(behind).assert_closed();
    let metrics = gate.metrics();
    for line in [
        "sessiongate_connections_refused_total{reason=\"proxy-header\"} 5",
        "sessiongate_connections_refused_total{reason=\"proxy-timeout\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    origin.assert_untouched();
}

#[test]
fn a_stranger_may_not_say_who_the_client_is() {
    let origin = Origin::start();
    let config = Config::new(&origin.url())
        .section("admin", "address = \"127.0.0.1:0\"")
        .listener("address = \"127.0.0.1:0\"\nproxy_protocol = \"v2\"\nproxy_protocol_from = [\"192.0.2.0/24\"]");
    let gate = Gate::configured(&config);
    let mut raw = Raw::connect(gate.address());
    let _ = raw.try_send(version_2(0x21));
    raw.assert_closed();
    assert!(gate.metrics().contains("sessiongate_connections_refused_total{reason=\"proxy-sender\"} 1"));
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let config = Config::new(&origin.url()).lenient().listener(
        "address = \"127.0.0.1:0\"\nproxy_protocol = \"v1\"\nproxy_protocol_from = [\"127.0.0.1\"]\ntls = { cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }",
    );
    let setup = Setup::configured(&config);
    setup.write("cert.pem", &certificate.cert_pem);
    setup.write("key.pem", &certificate.key_pem);
    let gate = setup.start();
    let mut socket = Raw::socket(gate.tls_address());
    socket.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n").expect("the gate reads");
    let (mut raw, _) = certificate.over(socket, "localhost", certificate.client(&[b"http/1.1"])).expect("a handshake");
    raw.exchange(&Call::new("GET", "/")).assert_refused("credentials-missing");
    eventually("the log names the client", || gate.stdout().contains("192.0.2.7"));
}

#[test]
fn each_name_gets_its_certificate_and_a_reload_takes_all_of_them() {
    let origin = Origin::start();
    let [first, shop, wild, next] = ["localhost", "shop.test", "*.api.test", "shop.test"].map(Certificate::named);
    let config = Config::new(&origin.url()).listener(
        "address = \"127.0.0.1:0\"\ntls = { cert = \"{dir}/0.pem\", key = \"{dir}/0.pem\", certs = [{ cert = \"{dir}/1.pem\", key = \"{dir}/1.pem\" }, { cert = \"{dir}/2.pem\", key = \"{dir}/2.pem\" }] }",
    );
    let setup = Setup::configured(&config);
    for (number, certificate) in [&first, &shop, &wild].into_iter().enumerate() {
        setup.write(&format!("{number}.pem"), format!("{}{}", certificate.cert_pem, certificate.key_pem));
    }
    let gate = setup.start();
    let serves = |certificate: &Certificate, name: &str| certificate.handshake_as(gate.tls_address(), name).is_ok();
    assert!(serves(&first, "localhost") && serves(&shop, "shop.test") && serves(&wild, "eu.api.test"));
    assert!(!serves(&first, "shop.test") && !serves(&wild, "a.eu.api.test"));
    gate.write("1.pem", format!("{}{}", next.cert_pem, next.key_pem));
    gate.signal(Signal::HUP);
    eventually("the second certificate is replaced", || serves(&next, "shop.test"));
    assert!(serves(&wild, "eu.api.test"));
}

#[test]
fn a_client_must_show_a_certificate_that_was_not_revoked() {
    let origin = Origin::start();
    let (certificate, authority, other) = (Certificate::new(), Authority::new(), Authority::new());
    let issue = |authority: &Authority, serial: u64| {
        authority.issue_as("client.test", |params| params.serial_number = Some(SerialNumber::from(serial)))
    };
    let (good, bad, foreign) = (issue(&authority, 1), issue(&authority, 2), issue(&other, 1));
    let config = |auth: &str| {
        Config::new(&origin.url()).lenient().section("admin", "address = \"127.0.0.1:0\"").listener(&format!(
            "address = \"127.0.0.1:0\"\ntls = {{ cert = \"{{dir}}/cert.pem\", key = \"{{dir}}/key.pem\", client_ca = \"{{dir}}/ca.pem\", client_crl = \"{{dir}}/crl.pem\", client_auth = \"{auth}\", forward_client_cert = true }}"
        ))
    };
    let setup = Setup::configured(&config("required"));
    setup.write("cert.pem", &certificate.cert_pem);
    setup.write("key.pem", &certificate.key_pem);
    setup.write("ca.pem", &authority.pem);
    setup.write("crl.pem", authority.revoke(&[]));
    let gate = setup.start();
    let as_client = |client: Option<&Issued>| {
        let socket = Raw::socket(gate.tls_address());
        let config = certificate.client_as(&[b"http/1.1"], client);
        let (mut raw, _) = certificate.over(socket, "localhost", config).ok()?;
        // TLS 1.3 tells of a refusal only behind the handshake.
        raw.try_send(Call::new("GET", "/").bytes()).ok()?;
        raw.next_to("GET").map(|reply| reply.status)
    };
    assert_eq!(as_client(Some(&good)), Some(401));
    assert_eq!(as_client(Some(&bad)), Some(401));
    assert_eq!(as_client(Some(&foreign)), None);
    assert_eq!(as_client(None), None);

    gate.write("crl.pem", authority.revoke(&[2]));
    gate.signal(Signal::HUP);
    eventually("the revoked one is refused", || as_client(Some(&bad)).is_none());
    assert_eq!(as_client(Some(&good)), Some(401));
    gate.write_config(&config("optional"));
    gate.signal(Signal::HUP);
    eventually("none is fine", || as_client(None) == Some(401));
    assert_eq!((as_client(Some(&foreign)), as_client(Some(&bad))), (None, None));
    assert!(gate.metrics().contains("sessiongate_tls_handshakes_total{result=\"ok\"}"));

    // What upstreams see of it (RFC 9440), and what they do not.
    let call = |client: Option<&Issued>| {
        let config = certificate.client_as(&[b"http/1.1"], client);
        let (mut raw, _) = certificate.over(Raw::socket(gate.tls_address()), "localhost", config).expect("a handshake");
        let opening = Session::opening(&token(), CLIENT);
        let id = raw.exchange(&opening).field("session-id").expect("an id").to_owned();
        let session = Session { token: token(), client: CLIENT.into(), id };
        raw.exchange(&session.get("/orders").field("client-cert", ":Zm9yZ2Vk:")).assert_status(200);
        origin.last().all("client-cert").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(call(Some(&good)), [format!(":{}:", STANDARD.encode(&good.der))]);
    assert_eq!(call(None), Vec::<String>::new());
}

#[test]
fn the_oldest_version_of_tls_can_be_raised() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let config = Config::new(&origin.url()).listener(
        "address = \"127.0.0.1:0\"\ntls = { cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\", min_version = \"1.3\" }",
    );
    let setup = Setup::configured(&config);
    setup.write("cert.pem", &certificate.cert_pem);
    setup.write("key.pem", &certificate.key_pem);
    let gate = setup.start();
    let with = |version| {
        let config = certificate.client_of(version);
        certificate.over(Raw::socket(gate.tls_address()), "localhost", config).is_ok()
    };
    assert!(with(&rustls::version::TLS13) && !with(&rustls::version::TLS12));
}
