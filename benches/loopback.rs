//! What does a guarded call add to a direct one, over real sockets on loopback, and what does a refusal cost?
//!
//! Origin, gate and client share this process: read the ratios, not the times.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use sessiongate::config::Fileless;
use sessiongate::config::snapshot::{AccessLog, LogFormat};
use sessiongate::server::{Gateway, Options};

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An origin that answers every head with 1 KiB.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1024\r\n\r\n";
    let reply = format!("{head}{}", "x".repeat(1024));
    let mut request = [0; 4096];
    stream.set_nodelay(true).expect("a socket");
    while let Ok(1..) = stream.read(&mut request) {
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// One keep-alive connection, and a request that it sends again and again.
struct Client {
    stream: TcpStream,
    request: String,
}

impl Client {
    fn new(address: SocketAddr, request: String) -> Self {
        let stream = TcpStream::connect(address).expect("a listener");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, request }
    }

    /// One call; gives the head of the answer in lower case.
    fn call(&mut self) -> String {
        self.stream.write_all(self.request.as_bytes()).expect("sent");
        let (mut got, mut part) = (Vec::new(), [0; 8192]);
        loop {
            let count = self.stream.read(&mut part).expect("an answer");
            assert!(count > 0, "the connection closed");
            got.extend_from_slice(&part[..count]);
            let Some(end) = got.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
            let length: usize = field(&head, "content-length").parse().expect("a length");
            if got.len() >= end + 4 + length {
                return head;
            }
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| *known == name).expect("the field").1
}

fn bench(criterion: &mut Criterion) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("once");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, support::SECRET).expect("written");
    let upstream = origin();
    let flags = Fileless {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tls: None,
        upstream: format!("http://{upstream}").parse().expect("a URL"),
        hs256_secret_file: secret,
        audiences: Vec::new(),
        admin: None,
        workers: Some(1),
        access: AccessLog::Off,
        format: LogFormat::Auto,
    };
    let snapshot = flags.compile(1).unwrap_or_else(|errors| panic!("{errors}"));
    let gate = Gateway::start(Options { snapshot, load: None, access_log: None, takeover: false }).expect("started");
    let address = gate.bound()[0].address;

    let (token, client) = (support::token("bench"), support::CLIENT);
    let proof = format!("host: shop\r\nauthorization: Bearer {token}\r\nclient-id: {client}\r\n");
    let opened = Client::new(address, format!("POST /session HTTP/1.1\r\n{proof}\r\n")).call();
    let call = |id: &str| format!("GET /orders/4711 HTTP/1.1\r\naccept: */*\r\n{proof}session-id: {id}\r\n\r\n");
    let good = call(field(&opened, "session-id"));
    let bad = call("00000000-0000-4000-8000-000000000000");
    for (name, address, request, status) in
        [("direct", upstream, &good, "200"), ("guarded", address, &good, "200"), ("refused", address, &bad, "404")]
    {
        let (mut client, wanted) = (Client::new(address, request.clone()), format!("http/1.1 {status}"));
        criterion.bench_function(&format!("loopback/{name}"), |bencher| {
            bencher.iter(|| assert!(client.call().starts_with(&wanted)));
        });
    }
    gate.end();
}

criterion_group!(benches, bench);
criterion_main!(benches);
