//! An origin that does what it is told, byte by byte.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, channel};

use crate::timer::Timer;
use crate::upstream::fields::Fields;
use crate::upstream::upload::{Patience, Upload, UploadFault};
use crate::upstream::{Endpoint, HostField, Outbound, PoolConfig, Repeat, Reply, ReplyBody, UpstreamError, WorkerPool};

/// A step of the script of one connection.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Reads a whole request.
    Read,
    /// Reads up to the end of the head.
    ReadHead,
    /// Writes.
    Send(Vec<u8>),
    /// Waits for a moment.
    Pause,
    /// Closes with RST.
    Reset,
    /// Does nothing for ever.
    Hang,
}

pub(super) fn send(text: &str) -> Act {
    Act::Send(text.as_bytes().to_vec())
}

/// Answers so many calls.
pub(super) fn answers(count: usize) -> Vec<Act> {
    (0..count).flat_map(|_| [Act::Read, send(OK)]).collect()
}

pub(super) const MOMENT: Duration = Duration::from_millis(30);
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What arrived, as (number of the connection, bytes of the request).
type Seen = Arc<Mutex<Vec<(usize, String)>>>;

pub(super) struct Origin {
    pub(super) pool: WorkerPool,
    seen: Seen,
}

impl Origin {
    /// Follows one script per connection, closes each at the end of its script, and refuses further ones.
    pub(super) async fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            for (number, script) in scripts.into_iter().enumerate() {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(follow(socket, number, script, Arc::clone(&log)));
            }
        });
        let config = PoolConfig {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            max_idle: 4,
            host: HostField::Endpoint,
            ..PoolConfig::new(
                "origin",
                vec![Endpoint {
                    host: "127.0.0.1".into(),
                    port,
                    authority: HeaderValue::from_static("origin"),
                    tls: false,
                }],
            )
        };
        Self { pool: WorkerPool::new(config, Timer::start()), seen }
    }

    pub(super) async fn call(&self, method: Method, upload: Upload) -> Result<Reply, UpstreamError> {
        let repeat = if method == Method::GET { Repeat::Safe } else { Repeat::IfUnsent };
        let call = Call { method, interim: Mutex::default() };
        self.pool.send(&call, upload, repeat, Duration::from_secs(5)).await
    }

    /// A GET, and its answer as text.
    pub(super) async fn get(&self) -> Result<String, UpstreamError> {
        text(self.call(Method::GET, Upload::Empty).await?).await
    }

    /// Idle connections now.
    pub(super) fn idle(&self) -> usize {
        self.pool.endpoints().map(|endpoint| endpoint.idle).sum()
    }

    /// What the origin has read so far.
    pub(super) fn seen(&self) -> Vec<(usize, String)> {
        self.seen.lock().clone()
    }

    /// How many requests each connection carried.
    pub(super) fn connections(&self) -> Vec<usize> {
        let seen = self.seen.lock();
        let last = seen.iter().map(|(number, _)| *number + 1).max().unwrap_or(0);
        (0..last).map(|number| seen.iter().filter(|(on, _)| *on == number).count()).collect()
    }
}

/// `<status> <body>|<trailers>`.
pub(super) async fn text(reply: Reply) -> Result<String, UpstreamError> {
    let body: ReplyBody = reply.body;
    let body = body.collect().await?;
    let trailers: Vec<_> = body
        .trailers()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
        .collect();
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let status = reply.head.status.as_u16();
    Ok(if trailers.is_empty() { format!("{status} {body}") } else { format!("{status} {body}|{}", trailers.join(",")) })
}

/// A request of a few fields.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) interim: Mutex<Vec<u16>>,
}

impl Outbound for Call {
    fn method(&self) -> &Method {
        &self.method
    }

    fn target(&self) -> Option<&PathAndQuery> {
        static TARGET: LazyLock<PathAndQuery> = LazyLock::new(|| PathAndQuery::from_static("/x"));
        Some(&TARGET)
    }

    fn host<'a>(&'a self, endpoint: &'a Endpoint) -> &'a [u8] {
        endpoint.authority.as_bytes()
    }

    fn fields(&self, _: &mut impl Fields) {}

    fn interim(&self, head: &http::response::Parts) {
        self.interim.lock().push(head.status.as_u16());
    }
}

/// An upload fed by the test; without a length it is chunked.
pub(super) fn upload(length: Option<u64>) -> (tokio::sync::mpsc::Sender<Result<Frame<Bytes>, UploadFault>>, Upload) {
    let (feed, frames) = channel(1000);
    let body = Fed { frames: StreamBody::new(Frames(frames)), left: length };
    let patience = Patience { stall: Duration::from_millis(200), rate: None };
    (feed, Upload::stream(body.boxed_unsync(), Some(10_000_000), patience, &Timer::start()))
}

struct Frames(Receiver<Result<Frame<Bytes>, UploadFault>>);

impl futures_util::Stream for Frames {
    type Item = Result<Frame<Bytes>, UploadFault>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// A body that says how long it is.
struct Fed {
    frames: StreamBody<Frames>,
    left: Option<u64>,
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let polled = std::pin::Pin::new(&mut self.frames).poll_frame(context);
        if let (std::task::Poll::Ready(Some(Ok(frame))), Some(left)) = (&polled, &mut self.left) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        polled
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}

async fn follow(mut socket: TcpStream, number: usize, script: Vec<Act>, seen: Seen) {
    let mut unread = String::new();
    for act in script {
        match act {
            Act::Read => {
                let Some(request) = read(&mut socket, &mut unread, is_whole).await else { return };
                seen.lock().push((number, request));
            }
            Act::ReadHead => {
                let Some(request) = read(&mut socket, &mut unread, |text| text.contains("\r\n\r\n")).await else {
                    return;
                };
                seen.lock().push((number, request));
            }
            Act::Send(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Pause => tokio::time::sleep(MOMENT).await,
            Act::Reset => {
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

async fn read(socket: &mut TcpStream, unread: &mut String, whole: impl Fn(&str) -> bool) -> Option<String> {
    loop {
        if whole(unread) {
            return Some(std::mem::take(unread));
        }
        let mut buffer = vec![0; 65_536];
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => unread.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
        }
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length.map(|length| length.parse::<usize>().unwrap()) {
        Some(length) => body.len() >= length,
        None if head.contains("transfer-encoding: chunked") => {
            body.starts_with("0\r\n") && body.ends_with("\r\n\r\n")
                || body.contains("\r\n0\r\n") && body.ends_with("\r\n\r\n")
        }
        None => true,
    }
}
