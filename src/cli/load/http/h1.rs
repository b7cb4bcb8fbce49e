//! HTTP/1.1 with as little as possible between a call and its socket: two buffers that are kept, one write, and one read
//! where the answer comes in one piece. hyper's client would put a task and a channel between the two.

use std::mem::MaybeUninit;
use std::task::{Context, Waker};

use bytes::{Buf, BytesMut};
use http::Method;
use httparse::{ParserConfig, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::either::Either;

use super::{Answer, CallError, Wanted};
use crate::cli::load::chance::Chance;
use crate::cli::load::scenario::Request;
use crate::cli::load::target::Stream;
use crate::cli::load::template::Values;

/// Most header fields of an answer.
const FIELDS_MAX: usize = 96;

/// Largest head of an answer, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// How much is asked of the socket at once, in bytes.
const READ: usize = 16 * 1024;

/// A connection.
pub struct Http1 {
    stream: Stream,
    out: Vec<u8>,
    body: Vec<u8>,
    buffer: BytesMut,
    reusable: bool,
}

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

struct Head {
    status: u16,
    framing: Framing,
    close: bool,
}

impl Http1 {
    /// A new connection is ready for a call.
    pub fn new(stream: Stream) -> Self {
        let buffer = BytesMut::with_capacity(READ);
        Self { stream, out: Vec::with_capacity(1024), body: Vec::new(), buffer, reusable: true }
    }

    /// Whether another call can be made: the last answer let it stay, and the other side has not ended it since.
    pub fn is_usable(&self) -> bool {
        let socket = match &self.stream {
            Either::Left(socket) => socket,
            Either::Right(stream) => stream.get_ref().0,
        };
        // Nothing is to be read between calls, except the end. Asking costs no system call.
        let quiet = socket.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending()
            || socket.try_io(tokio::io::Interest::READABLE, || would_block(socket)).is_err_and(is_would_block);
        self.reusable && self.buffer.is_empty() && quiet
    }

    pub(super) async fn exchange(
        &mut self,
        request: &Request,
        values: &Values<'_>,
        chance: &mut Chance,
        wanted: Wanted<'_>,
        answer: &mut Answer,
    ) -> Result<(), CallError> {
        // It stays so if this future is dropped half way.
        self.reusable = false;
        self.out.clear();
        request.render_http1(values, chance, &mut self.out, &mut self.body);
        self.stream.write_all(&self.out).await.map_err(|_| CallError::Closed)?;
        if matches!(self.stream, Either::Right(_)) {
            self.stream.flush().await.map_err(|_| CallError::Closed)?;
        }
        let head = self.head(&request.method, wanted, answer).await?;
        answer.status = head.status;
        let keep = (wanted.body)(head.status);
        match head.framing {
            Framing::Length(length) => self.take(length, keep, answer).await?,
            Framing::Chunked => self.chunks(keep, answer).await?,
            Framing::UntilClose => self.rest(keep, answer).await?,
        }
        self.reusable = !head.close && head.framing != Framing::UntilClose;
        Ok(())
    }

    /// Reads a head, and past interim ones.
    async fn head(&mut self, method: &Method, wanted: Wanted<'_>, answer: &mut Answer) -> Result<Head, CallError> {
        loop {
            if !self.buffer.is_empty()
                && let Some((length, head)) = parse(&self.buffer, method, wanted, answer)?
            {
                self.buffer.advance(length);
                if head.status >= 200 {
                    return Ok(head);
                }
                continue;
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(CallError::Malformed);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), CallError> {
        // Gives the room of what was consumed back, without an allocation while nobody else holds a part.
        self.buffer.reserve(READ / 2);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(CallError::Closed),
            Ok(_) => Ok(()),
        }
    }

    async fn take(&mut self, mut left: u64, keep: bool, answer: &mut Answer) -> Result<(), CallError> {
        while left > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let there = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            if keep {
                answer.keep(&self.buffer[..there]);
            }
            self.buffer.advance(there);
            left -= there as u64;
        }
        Ok(())
    }

    async fn chunks(&mut self, keep: bool, answer: &mut Answer) -> Result<(), CallError> {
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(Status::Complete((length, size))) => {
                        self.buffer.advance(length);
                        break size;
                    }
                    Ok(Status::Partial) if self.buffer.len() < HEAD_MAX => self.fill().await?,
                    Ok(Status::Partial) | Err(_) => return Err(CallError::Malformed),
                }
            };
            if size == 0 {
                // Trailers, up to an empty line.
                while !self.line().await? {}
                return Ok(());
            }
            self.take(size, keep, answer).await?;
            if !self.line().await? {
                return Err(CallError::Malformed);
            }
        }
    }

    /// Reads a line; whether it was empty.
    async fn line(&mut self) -> Result<bool, CallError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let empty = matches!(&self.buffer[..end], [] | [b'\r']);
                self.buffer.advance(end + 1);
                return Ok(empty);
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(CallError::Malformed);
            }
            self.fill().await?;
        }
    }

    async fn rest(&mut self, keep: bool, answer: &mut Answer) -> Result<(), CallError> {
        loop {
            if keep {
                answer.keep(&self.buffer);
            }
            self.buffer.clear();
            self.buffer.reserve(READ / 2);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(CallError::Closed),
            }
        }
    }
}

fn would_block(socket: &tokio::net::TcpStream) -> std::io::Result<()> {
    let mut byte = [MaybeUninit::uninit()];
    // Something to read, or the end: neither belongs here.
    socket2::SockRef::from(socket).peek(&mut byte).map(drop)
}

fn is_would_block(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// The head at the start of `bytes` and its length, once it is whole.
fn parse(
    bytes: &[u8],
    method: &Method,
    wanted: Wanted<'_>,
    answer: &mut Answer,
) -> Result<Option<(usize, Head)>, CallError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(CallError::Malformed),
    };
    let status = response.code.ok_or(CallError::Malformed)?;
    let mut close = response.version == Some(0);
    let mut framing = Framing::UntilClose;
    for field in &*response.headers {
        if field.name.eq_ignore_ascii_case("content-length") {
            let number = std::str::from_utf8(field.value).ok().and_then(|text| text.trim().parse().ok());
            if framing != Framing::Chunked {
                framing = Framing::Length(number.ok_or(CallError::Malformed)?);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if field.name.eq_ignore_ascii_case("connection") {
            let mut words = field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            close |= words.any(|word| word.eq_ignore_ascii_case(b"close"));
        }
        if let Some(place) = wanted.fields.iter().position(|name| field.name.eq_ignore_ascii_case(name)) {
            let value = String::from_utf8_lossy(field.value).into_owned();
            if let Some(found) = answer.fields.get_mut(place) {
                found.get_or_insert(value);
            }
        }
    }
    if method == Method::HEAD || matches!(status, 100..=199 | 204 | 304) {
        framing = Framing::Length(0);
    }
    Ok(Some((length, Head { status, framing, close })))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cli::load::template::{Place, Template};

    /// Makes a call to a server that answers with `bytes` in two pieces, cut at every place.
    async fn answered(bytes: &[u8], cut: usize) -> (Result<(), CallError>, Answer, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let (first, second) = (bytes[..cut].to_vec(), bytes[cut..].to_vec());
        let serving = tokio::spawn(async move {
            server.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
            server.write_all(&first).await.unwrap();
            tokio::task::yield_now().await;
            server.write_all(&second).await.unwrap();
        });
        let path = Template::parse("/", Place::Path, |_| None).unwrap();
        let request = Request::new(Method::GET, path, Vec::new(), None);
        let values = Values {
            authority: "h",
            token: "",
            client_id: "",
            subject: "",
            session_id: "",
            number: 0,
            repeat: 0,
            captured: &[],
        };
        let mut answer = Answer { fields: vec![None], ..Answer::default() };
        let mut connection = Http1::new(Either::Left(socket));
        let wanted = Wanted { fields: &["etag".to_owned()], body: &|_| true };
        let done = connection.exchange(&request, &values, &mut Chance::of_walk(0, 0), wanted, &mut answer).await;
        serving.await.unwrap();
        (done, answer, connection.reusable)
    }

    #[tokio::test]
    async fn answers_are_read_wherever_they_are_cut() {
        let answers: [(&[u8], &[u8], bool); 6] = [
            (b"HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 5\r\n\r\nhello", b"hello", true),
            (b"HTTP/1.1 200 OK\r\netag: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nt: 1\r\n\r\n", b"hello", true),
            (b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 204 No Content\r\netag: x\r\n\r\n", b"", true),
            (b"HTTP/1.1 200 OK\r\netag: x\r\n\r\nhello", b"hello", false),
            (b"HTTP/1.1 200 OK\r\netag: x\r\nconnection: a, close\r\ncontent-length: 1\r\n\r\nh", b"h", false),
            (b"HTTP/1.0 200 OK\r\netag: x\r\ncontent-length: 1\r\n\r\nh", b"h", false),
        ];
        for (bytes, body, reusable) in answers {
            for cut in 0..=bytes.len() {
                let (done, answer, kept) = answered(bytes, cut).await;
                assert_eq!(done, Ok(()), "{:?} cut at {cut}", String::from_utf8_lossy(bytes));
                assert_eq!((answer.body.as_slice(), kept), (body, reusable));
                assert_eq!(answer.fields, [Some("x".to_owned())]);
            }
        }
    }

    #[tokio::test]
    async fn answers_that_break_off_are_errors() {
        for (bytes, error) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"[..], CallError::Closed),
            (b"HTTP/1.1 200", CallError::Closed),
            (b"", CallError::Closed),
            (b"SSH-2.0-OpenSSH\r\n\r\n", CallError::Malformed),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", CallError::Malformed),
        ] {
            let (done, ..) = answered(bytes, 0).await;
            assert_eq!(done, Err(error), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
