//! Responses of upstreams. The reader is private, so the bytes come from a socket as they would from an upstream that
//! closes behind them: fewer executions, but all of what reads them.
//!
//! The first byte of an input chooses the method and where the bytes are cut in two; the others are what the upstream
//! sends.

use std::cell::LazyCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use sessiongate::timer::Timer;
use sessiongate::upstream::fields::Fields;
use sessiongate::upstream::upload::Upload;
use sessiongate::upstream::{Endpoint, HostField, Outbound, PoolConfig, Repeat, UpstreamError, WorkerPool};
use tokio::runtime::Runtime;

const TIMEOUT: Duration = Duration::from_secs(20);

struct Call(Method);

impl Outbound for Call {
    fn method(&self) -> &Method {
        &self.0
    }

    fn target(&self) -> Option<&PathAndQuery> {
        None
    }

    fn host<'a>(&'a self, endpoint: &'a Endpoint) -> &'a [u8] {
        endpoint.authority.as_bytes()
    }

    fn fields(&self, _: &mut impl Fields) {}
}

/// An upstream that answers every connection with the pieces it is told.
struct Origin {
    runtime: Runtime,
    pool: WorkerPool,
    pieces: mpsc::Sender<[Vec<u8>; 2]>,
}

impl Origin {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (pieces, told) = mpsc::channel();
        std::thread::spawn(move || {
            for pieces in told {
                let (socket, _) = listener.accept().expect("a connection");
                answer(socket, &pieces);
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let timer = runtime.block_on(async { Timer::start() });
        let endpoint =
            Endpoint { host: "127.0.0.1".into(), port, authority: HeaderValue::from_static("origin"), tls: false };
        let config = PoolConfig {
            connect_timeout: TIMEOUT,
            response_timeout: TIMEOUT,
            idle_timeout: TIMEOUT,
            // No connection is used twice.
            max_idle: 0,
            host: HostField::Endpoint,
            ..PoolConfig::new("origin", vec![endpoint])
        };
        Self { runtime, pool: WorkerPool::new(config, timer), pieces }
    }
}

/// Reads one request, answers, and waits for the other side to close, so that no ports are left waiting on its side.
fn answer(mut socket: TcpStream, pieces: &[Vec<u8>; 2]) {
    let mut request = Vec::new();
    let mut piece = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        match socket.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&piece[..count]),
        }
    }
    _ = socket.set_nodelay(true);
    for piece in pieces {
        if socket.write_all(piece).is_err() {
            return;
        }
    }
    _ = socket.shutdown(Shutdown::Write);
    while socket.read(&mut piece).is_ok_and(|count| count > 0) {}
}

thread_local! {
    static ORIGIN: LazyCell<Origin> = LazyCell::new(Origin::new);
}

/// Reads bytes as the answer of an upstream.
pub fn check(bytes: &[u8]) {
    let [choice, sent @ ..] = bytes else { return };
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let (first, second) = sent.split_at(sent.len() * usize::from(choice >> 1) / 128);
    ORIGIN.with(|origin| {
        origin.pieces.send([first.to_vec(), second.to_vec()]).expect("the origin lives");
        let to_head = method == Method::HEAD;
        let outcome = origin.runtime.block_on(async {
            let call = Call(method);
            let reply = origin.pool.send(&call, Upload::Empty, Repeat::IfUnsent, TIMEOUT).await?;
            let mut body = reply.body;
            let mut data = Vec::new();
            let mut trailers = None;
            let whole = loop {
                match tokio::time::timeout(TIMEOUT, body.frame()).await.expect("the body ends or fails") {
                    None => break true,
                    Some(Err(_)) => break false,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(piece) => data.extend_from_slice(&piece),
                        Err(frame) => trailers = frame.into_trailers().ok(),
                    },
                }
            };
            Ok((reply.head, data, trailers, whole))
        });
        match outcome {
            Err(UpstreamError::ResponseTimeout | UpstreamError::ConnectTimeout { .. }) => panic!("it hangs"),
            Err(UpstreamError::Reset(error)) => assert_ne!(error.kind(), ErrorKind::Other),
            Err(error) => _ = error.rejection(),
            Ok((head, data, trailers, whole)) => {
                assert!(trailers.as_ref().is_none_or(|fields| !fields.contains_key("content-length")));
                is_read_alike(sent, &head, &data, whole, to_head);
            }
        }
    });
}

/// Panics unless httparse reads the same answer.
fn is_read_alike(sent: &[u8], head: &http::response::Parts, data: &[u8], whole: bool, to_head: bool) {
    let shown = sent.escape_ascii();
    let mut rest = sent;
    let (status, fields) = loop {
        let mut slots = [httparse::EMPTY_HEADER; 300];
        let mut response = httparse::Response::new(&mut slots);
        let Ok(httparse::Status::Complete(end)) = response.parse(rest) else { panic!("{shown}") };
        rest = &rest[end..];
        let status = response.code.expect("a status");
        if status >= 200 {
            let fields = response.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()));
            break (status, fields.collect::<Vec<_>>());
        }
        assert_ne!(status, 101, "nobody asked for it: {shown}");
    };
    assert_eq!(head.status.as_u16(), status, "{shown}");
    for name in ["connection", "keep-alive", "transfer-encoding", "proxy-connection"] {
        assert!(!head.headers.contains_key(name), "{name} in {shown}");
    }
    for (name, value) in &head.headers {
        assert!(fields.iter().any(|(known, _)| known == name.as_str()), "{name} in {shown}");
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{shown}");
    }
    let values = |name: &str| -> Vec<&Vec<u8>> {
        fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect()
    };
    let coding = values("transfer-encoding");
    let told: Vec<_> = head.headers.get_all("content-length").iter().collect();
    assert!(told.len() <= 1, "{shown}");
    let told: Option<usize> = told.first().map(|value| value.to_str().expect("digits").parse().expect("a number"));
    if to_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        assert!(data.is_empty() && whole, "{shown}");
    } else if !coding.is_empty() {
        assert!(coding.len() == 1 && coding[0].eq_ignore_ascii_case(b"chunked") && told.is_none(), "{shown}");
        let (wanted, ended) = chunks(rest);
        assert!(wanted.starts_with(data), "{shown}");
        assert!(!whole || ended && wanted == data, "{shown}");
    } else if let Some(length) = told {
        assert_eq!(data, &rest[..length.min(rest.len())], "{shown}");
        assert_eq!(whole, rest.len() >= length, "{shown}");
        let first = values("content-length")[0];
        assert_eq!(std::str::from_utf8(first).ok().and_then(|text| text.parse().ok()), Some(length), "{shown}");
    } else {
        assert!(values("content-length").is_empty() && whole && data == rest, "{shown}");
    }
}

/// The data of as many chunks as httparse reads, and whether the last one is there.
fn chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    while let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) {
        rest = &rest[line..];
        if size == 0 {
            return (data, true);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        data.extend_from_slice(&rest[..size]);
        let Some(behind) = rest[size..].strip_prefix(b"\r\n") else { break };
        rest = behind;
    }
    (data, false)
}
