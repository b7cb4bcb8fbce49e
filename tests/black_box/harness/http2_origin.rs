//! An upstream that speaks HTTP/2, frame by frame as a test tells it to.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What a request is answered with.
pub type Script = dyn Fn(Http2Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// One request.
pub struct Http2Call {
    /// Which connection it came on, from 1.
    pub connection: usize,
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
}

impl Http2Call {
    /// Reads the body to its end; none if it broke off.
    pub async fn body(&mut self) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(data) = self.request.body_mut().data().await {
            let data = data.ok()?;
            self.request.body_mut().flow_control().release_capacity(data.len()).ok()?;
            whole.extend_from_slice(&data);
        }
        Some(whole)
    }

    /// Answers with success and leaves HTTP: what is sent from here on, and what is received.
    pub fn switch(mut self) -> (SendStream<Bytes>, RecvStream) {
        let stream = self.respond.send_response(Response::new(()), false).expect("an open stream");
        (stream, self.request.into_body())
    }

    /// Answers with a body.
    pub fn reply(mut self, status: u16, body: &'static [u8]) {
        let head = Response::builder().status(status).body(()).expect("a head");
        if let Ok(mut stream) = self.respond.send_response(head, body.is_empty())
            && !body.is_empty()
        {
            let _ = stream.send_data(Bytes::from_static(body), true);
        }
    }
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    seen: Mutex<Vec<(usize, String)>>,
    most: AtomicUsize,
    open: AtomicUsize,
}

/// An upstream.
pub struct Http2Origin {
    address: SocketAddr,
    secure: bool,
    record: Arc<Record>,
    _runtime: Runtime,
}

impl Http2Origin {
    /// Answers every call as `script` says, `streams` at a time on each connection.
    pub fn answering<F>(
        tls: Option<Arc<ServerConfig>>,
        streams: u32,
        script: impl Fn(Http2Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start(tls, streams, false, script)
    }

    /// The same, for one that also takes extended CONNECT.
    pub fn switching<F>(tls: Option<Arc<ServerConfig>>, script: impl Fn(Http2Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start(tls, 100, true, script)
    }

    fn start<F>(
        tls: Option<Arc<ServerConfig>>,
        streams: u32,
        connect: bool,
        script: impl Fn(Http2Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut http2 = h2::server::Builder::new();
        http2.max_concurrent_streams(streams);
        if connect {
            http2.enable_connect_protocol();
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (record, secure) = (Arc::<Record>::default(), tls.is_some());
        let script: Arc<Script> = Arc::new(move |call| Box::pin(script(call)));
        let shared = Arc::clone(&record);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (record, script, tls) = (Arc::clone(&shared), Arc::clone(&script), tls.clone());
                let http2 = http2.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, http2, number, record, script).await,
                        Some(config) => {
                            if let Ok(socket) = tokio_rustls::TlsAcceptor::from(config).accept(socket).await {
                                serve(socket, http2, number, record, script).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, secure, record, _runtime: runtime }
    }

    /// Its base.
    pub fn url(&self) -> String {
        if self.secure {
            format!("https://localhost:{}", self.address.port())
        } else {
            format!("http://{}", self.address)
        }
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// All requests so far: the connection, and method and target.
    pub fn seen(&self) -> Vec<(usize, String)> {
        self.record.seen.lock().expect("the record").clone()
    }

    /// Most calls at once.
    pub fn most(&self) -> usize {
        self.record.most.load(Ordering::SeqCst)
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    http2: h2::server::Builder,
    number: usize,
    record: Arc<Record>,
    script: Arc<Script>,
) {
    let Ok(mut connection) = http2.handshake(socket).await else {
        return;
    };
    let mut goodbye = false;
    while let Some(Ok((request, respond))) = connection.accept().await {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str()).to_owned();
        record.seen.lock().expect("the record").push((number, format!("{} {target}", request.method())));
        if target == "/goodbye" && !goodbye {
            // This one is the last that is processed.
            goodbye = true;
            connection.graceful_shutdown();
        }
        let open = record.open.fetch_add(1, Ordering::SeqCst) + 1;
        record.most.fetch_max(open, Ordering::SeqCst);
        let (record, answered) = (Arc::clone(&record), script(Http2Call { connection: number, request, respond }));
        tokio::spawn(async move {
            answered.await;
            record.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}
