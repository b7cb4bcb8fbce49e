//! A small HTTP client: one connection for each call, as `curl` does it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends a request and reads the whole answer.
///
/// # Errors
/// That there is no connection, or no answer.
pub async fn send(gate: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
    let stream = TcpStream::connect(gate).await.map_err(|error| format!("no connection: {error}"))?;
    let broken = |error: hyper::Error| format!("no answer: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer; what goes wrong is seen there.
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    Ok(Response::from_parts(parts, body.collect().await.map_err(broken)?.to_bytes()))
}
