//! HTTP/2 and TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{Server, soon};
use crate::config::snapshot::{ListenerConfig, TlsConfig, TlsFiles};
use crate::server::Limits;
use crate::server::entrance::Entrance;

type Sender = http2::SendRequest<Full<Bytes>>;

async fn h2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> (Sender, tokio::task::JoinHandle<()>) {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.expect("an HTTP/2 handshake");
    let task = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, task)
}

fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(format!("http://a{path}")).body(Full::new(Bytes::from(body))).expect("valid")
}

async fn text(sender: &mut Sender, request: Request<Full<Bytes>>) -> String {
    let response = soon(sender.send_request(request)).await.expect("an answer");
    assert_eq!(response.version(), Version::HTTP_2);
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let server = Server::start();
    let (mut sender, _) = h2(TcpStream::connect(server.address).await.expect("connected")).await;
    assert_eq!(text(&mut sender, post("/x", "abc")).await, "POST http://a/x abc");
    assert_eq!(text(&mut sender, post("/unread", "abc")).await, "unread");
    assert_eq!(text(&mut sender, post("/peer", "")).await, "Http2 None");
}

#[tokio::test]
async fn a_preface_may_arrive_in_parts() {
    let server = Server::start();
    let mut client = server.connect().await;
    for part in ["PRI * HTT", "P/2.0\r\n\r\nSM", "\r\n\r\n"] {
        client.send(part).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.send(b"\0\0\0\x04\0\0\0\0\0").await;
    let mut frame = [0; 9];
    soon(tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut frame)).await.expect("a frame");
    assert_eq!(frame[3], 4, "SETTINGS");
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed() {
    let server = Server::limited(|limits| limits.idle_timeout = Duration::from_millis(100));
    let (mut sender, task) = h2(TcpStream::connect(server.address).await.expect("connected")).await;
    text(&mut sender, post("/x", "abc")).await;
    soon(task).await.expect("closed by GOAWAY");
    assert!(sender.is_closed());
}

#[tokio::test]
async fn an_http_2_connection_without_a_request_is_closed() {
    let server = Server::limited(|limits| limits.head_timeout = Duration::from_millis(100));
    let (_sender, task) = h2(TcpStream::connect(server.address).await.expect("connected")).await;
    soon(task).await.expect("closed by GOAWAY");
}

#[tokio::test]
async fn a_drain_lets_streams_end() {
    let server = Server::start();
    let (mut sender, task) = h2(TcpStream::connect(server.address).await.expect("connected")).await;
    let waiting = sender.send_request(post("/wait", ""));
    let waiting = tokio::spawn(waiting);
    soon(server.begun()).await;
    server.drain.begin();
    server.echo.go.add_permits(1);
    assert_eq!(soon(waiting).await.expect("no panic").expect("an answer").status(), 200);
    soon(task).await.expect("closed");
    soon(server.worker).await.expect("no panic").expect("drained");
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_reset_and_the_others_go_on() {
    let server = Server::limited(|limits| limits.write_timeout = Duration::from_millis(100));
    let (mut sender, _) = h2(TcpStream::connect(server.address).await.expect("connected")).await;
    // Not read: the window of its stream stays shut, the larger one of the connection does not.
    let large = soon(sender.send_request(post("/large", ""))).await.expect("an answer");
    for _ in 0..4 {
        assert_eq!(text(&mut sender, post("/x", "abc")).await, "POST http://a/x abc");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    soon(large.into_body().collect()).await.expect_err("reset");
    assert_eq!(text(&mut sender, post("/x", "abc")).await, "POST http://a/x abc");
}

struct Issued {
    dir: tempfile::TempDir,
}

impl Issued {
    fn new() -> Self {
        let issued = Self { dir: tempfile::tempdir().expect("a directory") };
        issued.again();
        issued
    }

    /// Writes a new certificate over the old one.
    fn again(&self) {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("issued");
        std::fs::write(self.dir.path().join("chain.pem"), issued.cert.pem()).expect("written");
        std::fs::write(self.dir.path().join("key.pem"), issued.signing_key.serialize_pem()).expect("written");
    }

    fn certificate(&self) -> Arc<Entrance> {
        let files = TlsFiles { cert: self.path("chain.pem"), key: self.path("key.pem") };
        let tls = TlsConfig { certificates: vec![files], ..TlsConfig::default() };
        let config = ListenerConfig { address: ([127, 0, 0, 1], 0).into(), tls: Some(tls), proxy: None };
        Arc::new(Entrance::open(&config, &[]).expect("a pair"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    async fn connect(&self, server: &Server, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let certificate = CertificateDer::from_pem_file(self.dir.path().join("chain.pem")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(server.address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let issued = Issued::new();
    let server = Server::with(Limits::default(), Some(issued.certificate()));
    let stream = issued.connect(&server, &["h2", "http/1.1"]).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, _) = h2(stream).await;
    let peer = text(&mut sender, post("/peer", "")).await;
    assert_eq!(peer, r#"Http2 Some(TlsPeer { server_name: Some("localhost"), certificate: None, thumbprint: None })"#);

    for alpn in [&["http/1.1"][..], &[]] {
        let stream = issued.connect(&server, alpn).await.expect("a handshake");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        for _ in 0..2 {
            let response = soon(sender.send_request(post("/x", "abc"))).await.expect("an answer");
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(body, "POST http://a/x abc");
        }
    }
}

#[tokio::test]
async fn a_tls_connection_sleeps_and_serves_again() {
    let issued = Issued::new();
    let limits = Limits { sleep_after: Duration::from_millis(1), ..Limits::default() };
    let server = Server::with(limits, Some(issued.certificate()));
    let stream = issued.connect(&server, &["http/1.1"]).await.expect("a handshake");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    for _ in 0..2 {
        let response = soon(sender.send_request(post("/x", "abc"))).await.expect("an answer");
        response.into_body().collect().await.expect("a body");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn a_reload_changes_the_certificate_of_new_handshakes_only() {
    let issued = Issued::new();
    let certificate = issued.certificate();
    let server = Server::with(Limits::default(), Some(Arc::clone(&certificate)));
    let old = issued.connect(&server, &["h2"]).await.expect("a handshake");
    issued.again();
    issued.connect(&server, &["h2"]).await.expect_err("the old certificate is not the new root");
    certificate.replace(&issued.certificate());
    issued.connect(&server, &["h2"]).await.expect("the new certificate");
    let (mut sender, _) = h2(old).await;
    assert_eq!(text(&mut sender, post("/x", "abc")).await, "POST http://a/x abc");
}

#[tokio::test]
async fn a_slow_handshake_is_given_up() {
    let issued = Issued::new();
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with(limits, Some(issued.certificate()));
    server.connect().await.ends().await;
    assert_eq!(server.stats.counts().handshakes, [("ok", 0), ("failed", 0), ("timeout", 1)]);
}
