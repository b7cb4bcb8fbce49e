//! gRPC through the gate: a real client and a real service, which frame, stream and end calls as they like.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, BufMut};
use futures_util::Stream;
use http::uri::PathAndQuery;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{ClientStreamingService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::harness::{Config, Gate, PATIENCE, Session};

/// Messages are bytes: what they mean is nobody's business here.
#[derive(Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// The service.
struct Shop;

impl UnaryService<Vec<u8>> for Shop {
    type Response = Vec<u8>;
    type Future = Answer<Vec<u8>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        if request.get_ref().is_empty() {
            return Box::pin(ready(Err(Status::not_found("no such order"))));
        }
        let mut response = Response::new([b"got ", request.get_ref().as_slice()].concat());
        response.metadata_mut().insert("x-shop", "open".parse().expect("a value"));
        Box::pin(ready(Ok(response)))
    }
}

impl ServerStreamingService<Vec<u8>> for Shop {
    type Response = Vec<u8>;
    type ResponseStream = Messages;
    type Future = Answer<Messages>;

    /// As many as were asked for; then `aborted`, if that was too much.
    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let count: usize = String::from_utf8_lossy(request.get_ref()).parse().expect("a number");
        let messages = (0..count).map(|number| Ok(vec![b'x'; number]));
        let end = (count > 100).then(|| Err(Status::aborted("enough")));
        let stream: Messages = Box::pin(futures_util::stream::iter(messages.chain(end)));
        Box::pin(ready(Ok(Response::new(stream))))
    }
}

impl ClientStreamingService<Vec<u8>> for Shop {
    type Response = Vec<u8>;
    type Future = Answer<Vec<u8>>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        Box::pin(async move {
            let (mut messages, mut bytes) = (request.into_inner(), 0);
            while let Some(message) = messages.message().await? {
                bytes += message.len();
            }
            Ok(Response::new(bytes.to_string().into_bytes()))
        })
    }
}

impl StreamingService<Vec<u8>> for Shop {
    type Response = Vec<u8>;
    type ResponseStream = Messages;
    type Future = Answer<Messages>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let echo: Messages = Box::pin(request.into_inner());
        Box::pin(ready(Ok(Response::new(echo))))
    }
}

fn serve(runtime: &Runtime) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let mut grpc = tonic::server::Grpc::new(Plain);
                let answer = match request.uri().path() {
                    "/shop.Shop/Unary" => grpc.unary(Shop, request).await,
                    "/shop.Shop/Down" => grpc.server_streaming(Shop, request).await,
                    "/shop.Shop/Up" => grpc.client_streaming(Shop, request).await,
                    _ => grpc.streaming(Shop, request).await,
                };
                Ok::<_, std::convert::Infallible>(answer)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// A client of the service behind a gate.
struct Client {
    runtime: Runtime,
    gate: Gate,
    session: Session,
    grpc: tonic::client::Grpc<Channel>,
}

impl Client {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let address = serve(&runtime);
        // Strict, but for the media types: gRPC says what it accepts by what it sends.
        let config = Config::new(&format!("http://{address}")).upstream_setting("protocol = \"http2\"").route(
            "name = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"\n\
             headers = { content-type = { allow = [\"application/grpc*\"] }, accept = { required_on = \"never\" } }",
        );
        let gate = Gate::configured(&config);
        let session = gate.open();
        let endpoint = Channel::from_shared(format!("http://{}", gate.address())).expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("a connection");
        Self { runtime, gate, session, grpc: tonic::client::Grpc::new(channel) }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.session.token);
        for (name, value) in [
            ("authorization", bearer.as_str()),
            ("client-id", &self.session.client),
            ("session-id", &self.session.id),
            ("x-correlation-id", "corr-7"),
        ] {
            request.metadata_mut().insert(name, value.parse().expect("a value"));
        }
        request
    }

    /// Runs a call within reason.
    fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, call).await.expect("it ends") })
    }
}

fn method(name: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(name)
}

#[test]
fn a_unary_call_is_answered_with_its_metadata() {
    let client = Client::new();
    let mut grpc = client.grpc.clone();
    let response = client.run(async {
        grpc.ready().await.expect("ready");
        grpc.unary(client.request(b"order 7".to_vec()), method("/shop.Shop/Unary"), Plain).await
    });
    let response = response.expect("an answer");
    assert_eq!(response.get_ref(), b"got order 7");
    let metadata = response.metadata();
    assert_eq!(metadata.get("x-shop").and_then(|value| value.to_str().ok()), Some("open"));
    assert_eq!(metadata.get("session-id").and_then(|value| value.to_str().ok()), Some(client.session.id.as_str()));
    assert_eq!(metadata.get("grpc-status").and_then(|value| value.to_str().ok()), Some("0"), "a trailer");
}

#[test]
fn an_error_without_a_message_keeps_its_status_and_its_text() {
    let client = Client::new();
    let mut grpc = client.grpc.clone();
    let status = client.run(async {
        grpc.ready().await.expect("ready");
        grpc.unary(client.request(Vec::new()), method("/shop.Shop/Unary"), Plain).await
    });
    let status = status.expect_err("a status");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such order"));
}

#[test]
fn a_stream_of_answers_comes_whole_and_with_its_status() {
    let client = Client::new();
    for (count, code) in [(0, Code::Ok), (5, Code::Ok), (300, Code::Aborted)] {
        let mut grpc = client.grpc.clone();
        let (seen, ended) = client.run(async {
            grpc.ready().await.expect("ready");
            let request = client.request(count.to_string().into_bytes());
            let response = grpc.server_streaming(request, method("/shop.Shop/Down"), Plain).await;
            let mut messages = response.expect("a stream").into_inner();
            let mut seen = 0;
            loop {
                match messages.message().await {
                    Ok(Some(message)) => {
                        assert_eq!(message.len(), seen);
                        seen += 1;
                    }
                    Ok(None) => break (seen, Code::Ok),
                    Err(status) => break (seen, status.code()),
                }
            }
        });
        assert_eq!((seen, ended), (count, code));
    }
}

#[test]
fn a_stream_of_requests_is_counted_to_its_end() {
    let client = Client::new();
    let mut grpc = client.grpc.clone();
    let response = client.run(async {
        grpc.ready().await.expect("ready");
        let messages = futures_util::stream::iter((0..200).map(|_| vec![b'x'; 5_000]));
        grpc.client_streaming(client.request(messages), method("/shop.Shop/Up"), Plain).await
    });
    assert_eq!(response.expect("an answer").get_ref(), b"1000000");
}

#[test]
fn both_sides_take_turns_on_one_stream() {
    let client = Client::new();
    let mut grpc = client.grpc.clone();
    client.run(async {
        grpc.ready().await.expect("ready");
        let (send, mut sent) = mpsc::channel::<Vec<u8>>(1);
        let messages = futures_util::stream::poll_fn(move |context| sent.poll_recv(context));
        let response = grpc.streaming(client.request(messages), method("/shop.Shop/Both"), Plain).await;
        let mut answers = response.expect("a stream").into_inner();
        for number in 0..20 {
            let message = format!("message {number}").into_bytes();
            send.send(message.clone()).await.expect("sent");
            assert_eq!(answers.message().await.expect("an answer"), Some(message), "before the next is sent");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(send);
        assert_eq!(answers.message().await.expect("an end"), None);
    });
    assert_eq!(client.gate.send(&client.session.get("/session")).status, 200);
}

#[test]
fn nothing_reaches_the_service_without_a_session() {
    let client = Client::new();
    let mut grpc = client.grpc.clone();
    let refused = client.run(async {
        grpc.ready().await.expect("ready");
        grpc.unary::<_, Vec<u8>, _>(Request::new(b"order 7".to_vec()), method("/shop.Shop/Unary"), Plain).await
    });
    assert_ne!(refused.expect_err("refused").code(), Code::Ok);
}
