//! HTTP/2, by hyper's client: many calls at once over one connection.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Answer, CallError, Wanted};
use crate::cli::load::chance::Chance;
use crate::cli::load::scenario::Request;
use crate::cli::load::target::{DialError, Stream, Target};
use crate::cli::load::template::Values;

/// A share of a connection.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    /// Scheme and authority, as every URI begins.
    base: String,
    path: Vec<u8>,
    value: Vec<u8>,
}

impl Http2 {
    /// Starts HTTP/2 on a connection.
    ///
    /// # Errors
    /// [`DialError::Http2`].
    pub async fn new(stream: Stream, target: &Target) -> Result<Self, DialError> {
        let started = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) =
            started.map_err(|error| DialError::Http2 { authority: target.authority.clone(), error })?;
        // What goes wrong with it is seen by the calls on it.
        tokio::spawn(connection);
        let base = format!("{}://{}", target.scheme, target.authority);
        Ok(Self { sender, base, path: Vec::new(), value: Vec::new() })
    }

    /// Whether the connection still takes calls.
    pub fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(super) async fn exchange(
        &mut self,
        request: &Request,
        values: &Values<'_>,
        chance: &mut Chance,
        wanted: Wanted<'_>,
        answer: &mut Answer,
    ) -> Result<(), CallError> {
        let call = self.request(request, values, chance).map_err(|_| CallError::Malformed)?;
        self.sender.ready().await.map_err(|_| CallError::Closed)?;
        let response = self.sender.send_request(call).await.map_err(|_| CallError::Closed)?;
        answer.status = response.status().as_u16();
        for (name, found) in wanted.fields.iter().zip(&mut answer.fields) {
            *found = response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        let keep = (wanted.body)(answer.status);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| CallError::Closed)?;
            if let (true, Some(data)) = (keep, frame.data_ref()) {
                answer.keep(data);
            }
        }
        Ok(())
    }

    fn request(
        &mut self,
        request: &Request,
        values: &Values<'_>,
        chance: &mut Chance,
    ) -> http::Result<http::Request<Full<Bytes>>> {
        self.path.clear();
        self.path.extend_from_slice(self.base.as_bytes());
        request.path.render(values, chance, &mut self.path);
        let mut call = http::Request::builder().method(request.method.clone()).uri(self.path.as_slice());
        for (name, value) in &request.fields {
            self.value.clear();
            value.render(values, chance, &mut self.value);
            call = call.header(name.as_str(), self.value.as_slice());
        }
        let mut body = Vec::new();
        if let Some(template) = &request.body {
            template.render(values, chance, &mut body);
        }
        call.body(Full::new(body.into()))
    }
}
