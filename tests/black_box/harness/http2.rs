//! An HTTP/2 client, on hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{Call, Certificate, PATIENCE, Reply};

/// One HTTP/2 connection.
pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    scheme: &'static str,
}

impl Http2 {
    /// In cleartext, by prior knowledge.
    pub fn cleartext(address: SocketAddr) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let socket = TcpStream::connect(address).await.expect("the gate accepts");
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                    .await
                    .expect("HTTP/2");
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender, scheme: "http" }
    }

    /// Over TLS, by ALPN.
    pub fn tls(address: SocketAddr, certificate: &Certificate) -> Self {
        let runtime = runtime();
        let connector = tokio_rustls::TlsConnector::from(certificate.client(&[b"h2"]));
        let sender = runtime.block_on(async {
            let socket = TcpStream::connect(address).await.expect("the gate accepts");
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = connector.connect(name, socket).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .expect("HTTP/2");
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender, scheme: "https" }
    }

    /// Sends a call and reads its whole answer.
    #[track_caller]
    pub fn exchange(&mut self, call: &Call) -> Reply {
        let pending = self.start(call);
        self.finish(pending)
    }

    /// Sends a call without waiting for its answer.
    pub fn start(&mut self, call: &Call) -> JoinHandle<hyper::Result<Reply>> {
        let mut authority = String::new();
        let mut request = http::Request::builder().method(call.method.as_str());
        for (name, value) in &call.fields {
            if name == "host" {
                authority.clone_from(value);
            } else {
                request = request.header(name, value);
            }
        }
        let request = request
            .uri(format!("{}://{authority}{}", self.scheme, call.target))
            .body(Full::new(Bytes::from(call.body.clone().unwrap_or_default())))
            .expect("a request");
        let sending = self.sender.send_request(request);
        let secrets = call.secrets();
        self.runtime.spawn(async move {
            let response = sending.await?;
            let fields = |headers: &http::HeaderMap| {
                let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect::<Vec<_>>()
            };
            let mut reply = Reply {
                status: response.status().as_u16(),
                version: format!("{:?}", response.version()),
                fields: fields(response.headers()),
                secrets,
                ..Reply::default()
            };
            let mut body = response.into_body();
            loop {
                match body.frame().await {
                    None => break,
                    Some(Err(_)) => return Ok(reply),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => reply.body.extend_from_slice(&data),
                        Err(frame) => reply.trailers = frame.trailers_ref().map(fields).unwrap_or_default(),
                    },
                }
            }
            reply.complete = true;
            Ok(reply)
        })
    }

    /// The answer to a call that was started.
    #[track_caller]
    pub fn finish(&self, pending: JoinHandle<hyper::Result<Reply>>) -> Reply {
        self.try_finish(pending).expect("an answer")
    }

    /// The answer to a call that was started, or how it failed.
    #[track_caller]
    pub fn try_finish(&self, pending: JoinHandle<hyper::Result<Reply>>) -> hyper::Result<Reply> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, pending).await });
        answer.expect("an answer in time").expect("no panic")
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}
