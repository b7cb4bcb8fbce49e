//! A worker on the runtime of the test, its front, and a client that speaks bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::front::Hint;
use crate::policy::rejection::Rejection;
use crate::server::entrance::Entrance;
use crate::server::listener::{self, ConnectionStats};
use crate::server::worker::{self, WorkerContext, WorkerListener};
use crate::server::{Drain, Front, Limits, Peer, RequestBody};
use crate::timer::Timer;
use crate::upstream::upload::UploadFault;

/// Answers with what it was given. The path says how:
/// `/unread` ignores the body, `/wait` answers when told to, `/large` sends megabytes, `/broken` sends half an answer,
/// `/hint` sends interim responses before, `/panic` does, anything else echoes.
#[derive(Debug)]
pub(in crate::server) struct Echo {
    /// One line per call.
    pub(super) calls: Mutex<Vec<String>>,
    /// Lets one `/wait` go on per permit.
    pub(super) go: Semaphore,
    /// Calls that were begun or dropped.
    pub(super) begun: Semaphore,
    pub(super) dropped: Semaphore,
}

pub(in crate::server) struct Connection {
    echo: Arc<Echo>,
    pub(super) peer: Peer,
}

struct Begun<'a>(&'a Echo, bool);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.add_permits(1);
        }
    }
}

type Body = UnsyncBoxBody<Bytes, UploadFault>;

fn full(status: u16, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).expect("valid")
}

impl Front for Echo {
    type Connection = Connection;
    type Body = Body;

    fn connect(self: &Arc<Self>, peer: Peer) -> Arc<Connection> {
        Arc::new(Connection { echo: Arc::clone(self), peer })
    }

    async fn answer(
        connection: Arc<Connection>,
        request: Request<RequestBody>,
        refused: Option<Rejection>,
        hint: Option<Hint<'_>>,
    ) -> Response<Body> {
        let echo = &connection.echo;
        if let Some(rejection) = refused {
            echo.calls.lock().push(rejection.row().reason.to_owned());
            return full(rejection.status().as_u16(), rejection.row().reason.to_owned());
        }
        let mut begun = Begun(echo, false);
        echo.begun.add_permits(1);
        let (head, body) = request.into_parts();
        echo.calls.lock().push(format!("{} {}", head.method, head.uri));
        let hint = hint.filter(|_| head.uri.path().starts_with("/hint"));
        if let Some(hint) = hint {
            hint(b"HTTP/1.1 103 Early Hints\r\nhint: 1\r\n\r\n");
            tokio::task::yield_now().await;
        }
        let response = match head.uri.path() {
            "/unread" => full(403, "unread".to_owned()),
            "/wait" => {
                echo.go.acquire().await.expect("open").forget();
                full(200, "waited".to_owned())
            }
            "/large" => {
                let chunks = (0..64).map(|_| Ok(http_body::Frame::data(Bytes::from(vec![b'x'; 64 * 1024]))));
                let body = StreamBody::new(futures_util::stream::iter(chunks));
                Response::new(BodyExt::boxed_unsync(body))
            }
            "/broken" => {
                let parts = [Ok(http_body::Frame::data(Bytes::from_static(b"half"))), Err(UploadFault::Gone)];
                // The first part goes out before the second comes.
                let parts = futures_util::stream::unfold(parts.into_iter(), |mut parts| async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Some((parts.next()?, parts))
                });
                Response::new(BodyExt::boxed_unsync(StreamBody::new(parts)))
            }
            "/panic" => panic!("a call that must not take down the others"),
            "/peer" => full(200, format!("{:?} {:?}", connection.peer.protocol, connection.peer.tls)),
            _ => match body.collect().await {
                Ok(collected) => {
                    let trailers = collected.trailers().map_or(0, http::HeaderMap::len);
                    let bytes = collected.to_bytes();
                    let text = String::from_utf8_lossy(&bytes);
                    let shown = if bytes.len() > 100 { format!("{} bytes", bytes.len()) } else { text.into_owned() };
                    let trailers = if trailers > 0 { format!(" +{trailers}") } else { String::new() };
                    full(200, format!("{} {} {shown}{trailers}", head.method, head.uri))
                }
                Err(error) => {
                    echo.calls.lock().push(format!("{error:?}"));
                    let status = error.rejection().map_or(499, |rejection| rejection.status().as_u16());
                    full(status, format!("{error:?}"))
                }
            },
        };
        if let Some(hint) = hint {
            hint(format!("HTTP/1.1 103 Early Hints\r\nhint: {}\r\n\r\n", "2".repeat(5000)).as_bytes());
        }
        begun.1 = true;
        response
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) echo: Arc<Echo>,
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) drain: Drain,
    pub(super) stats: Arc<ConnectionStats>,
    pub(super) worker: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::with(Limits::default(), None)
    }

    pub(super) fn limited(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, None)
    }

    pub(super) fn with(limits: Limits, tls: Option<Arc<Entrance>>) -> Self {
        let socket = listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, false).expect("bind").remove(0);
        let address = socket.local_addr().expect("bound");
        let none = || Semaphore::new(0);
        let echo = Arc::new(Echo { calls: Mutex::default(), go: none(), begun: none(), dropped: none() });
        let context = WorkerContext { limits: Arc::new(ArcSwap::from_pointee(limits)), ..WorkerContext::default() };
        let (drain, stats) = (context.drain.clone(), Arc::clone(&context.stats));
        let limits = Arc::clone(&context.limits);
        let listeners = vec![WorkerListener { socket, entrance: tls.unwrap_or_default() }];
        let worker = tokio::spawn(worker::serve(listeners, context, Timer::start(), Arc::clone(&echo)));
        Self { address, echo, limits, drain, stats, worker }
    }

    pub(super) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        Client::new(stream)
    }

    /// What the front was asked.
    pub(super) fn calls(&self) -> Vec<String> {
        self.echo.calls.lock().clone()
    }

    /// Waits until `/wait` or another call has begun.
    pub(super) async fn begun(&self) {
        self.echo.begun.acquire().await.expect("open").forget();
    }
}

/// No test should take long; what hangs fails.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time")
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("connection: close")
    }
}

impl Client {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.expect("sent");
    }

    async fn more(&mut self) -> usize {
        let mut chunk = [0; 4096];
        let count = soon(self.stream.read(&mut chunk)).await.unwrap_or(0);
        self.read.extend_from_slice(&chunk[..count]);
        count
    }

    /// The next answer, which has a length.
    pub(super) async fn answer(&mut self) -> Answer {
        let head = loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect::<Vec<_>>();
                break String::from_utf8(head).expect("text");
            }
            assert!(self.more().await > 0, "closed before an answer: {:?}", String::from_utf8_lossy(&self.read));
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().expect("a length"));
        while self.read.len() < length {
            assert!(self.more().await > 0, "closed within an answer");
        }
        let body = String::from_utf8(self.read.drain(..length).collect()).expect("text");
        let status = head[9..12].parse().expect("a status");
        Answer { status, head, body }
    }

    pub(super) async fn call(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes).await;
        self.answer().await
    }

    /// The connection is closed, and nothing more was sent.
    pub(super) async fn ends(&mut self) {
        assert_eq!(self.more().await, 0, "{:?}", String::from_utf8_lossy(&self.read));
        assert!(self.read.is_empty(), "{:?}", String::from_utf8_lossy(&self.read));
    }
}
