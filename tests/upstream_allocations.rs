//! What a warm call to an upstream allocates: nothing but the header map of its answer.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use sessiongate::timer::Timer;
use sessiongate::upstream::fields::Fields;
use sessiongate::upstream::upload::Upload;
use sessiongate::upstream::{Endpoint, HostField, Outbound, PoolConfig, Repeat, WorkerPool};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const CALLS: u64 = 1000;

struct Get;

impl Outbound for Get {
    fn method(&self) -> &Method {
        &Method::GET
    }

    fn target(&self) -> Option<&PathAndQuery> {
        None
    }

    fn host<'a>(&'a self, endpoint: &'a Endpoint) -> &'a [u8] {
        endpoint.authority.as_bytes()
    }

    fn fields(&self, out: &mut impl Fields) {
        out.field(&http::header::ACCEPT, b"*/*");
    }
}

/// Answers every request with 1 KiB, without an allocation.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let head = "HTTP/1.1 200 OK\r\ndate: Tue, 01 Jan 2030 00:00:00 GMT\r\ncontent-type: application/json\r\n\
                    server: x\r\nconnection: keep-alive\r\ncontent-length: 1024\r\n\r\n";
        let mut answer = head.as_bytes().to_vec();
        answer.resize(answer.len() + 1024, b'x');
        let mut request = [0; 1024];
        while socket.read(&mut request).is_ok_and(|count| count > 0) {
            socket.write_all(&answer).unwrap();
        }
    });
    port
}

async fn call(pool: &WorkerPool) {
    let reply = pool.send(&Get, Upload::Empty, Repeat::Safe, Duration::from_secs(5)).await.unwrap();
    let mut body = reply.body;
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data.len(), 1024);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_warm_call_allocates_only_the_header_map_of_its_answer() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: origin(),
        authority: HeaderValue::from_static("origin"),
        tls: false,
    };
    let config = PoolConfig {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        max_idle: 4,
        host: HostField::Endpoint,
        ..PoolConfig::new("origin", vec![endpoint])
    };
    let pool = WorkerPool::new(config, Timer::start());
    for _ in 0..100 {
        call(&pool).await;
    }
    let before = dhat::HeapStats::get().total_blocks;
    for _ in 0..CALLS {
        call(&pool).await;
    }
    let blocks = dhat::HeapStats::get().total_blocks - before;
    // Its two tables. The rest is the timer's driver, now and then.
    assert!(blocks <= 2 * CALLS + CALLS / 10, "{blocks} blocks for {CALLS} calls");
}
