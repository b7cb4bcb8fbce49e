//! A client that writes exact bytes and reads answers strictly.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// A request, written as it is.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

impl Call {
    /// A request with a `host` and nothing else.
    pub fn new(method: &str, target: &str) -> Self {
        let fields = vec![("host".to_owned(), "shop.test".to_owned())];
        Self { method: method.into(), target: target.into(), fields, body: None }
    }

    /// The same call to somewhere else.
    pub fn to(mut self, method: &str, target: &str) -> Self {
        (self.method, self.target) = (method.into(), target.into());
        self
    }

    /// Adds a line.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Replaces all lines of a field.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).field(name, value)
    }

    /// Removes all lines of a field.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// Sends a body of known length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        self = self.set("content-length", &body.len().to_string());
        self.body = Some(body);
        self
    }

    /// The request on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// The head on the wire.
    pub fn head(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// What of this call must not come back in a refusal.
    pub fn secrets(&self) -> Vec<String> {
        let secret = |name: &str| matches!(name, "authorization" | "session-id");
        self.fields
            .iter()
            .filter(|(name, value)| secret(&name.to_ascii_lowercase()) && value.len() > 12)
            .map(|(_, value)| value.rsplit(' ').next().unwrap_or_default().to_owned())
            .collect()
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub version: String,
    /// In order; names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Whether the body came to its end as its framing says.
    pub complete: bool,
    /// Statuses of interim answers before this one.
    pub interim: Vec<u16>,
    /// What of the call must not be in a refusal.
    pub secrets: Vec<String>,
}

impl Reply {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}) in {self:?}"))
    }

    /// Fails unless the status is this one and the answer came whole.
    #[track_caller]
    pub fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{:?} {}", self.fields, self.text());
        assert!(self.complete, "cut short: {self:?}");
        self
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
pub struct Raw {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connects in cleartext.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = Self::socket(address);
        let stream = socket.try_clone().expect("a socket can be cloned");
        Self { stream: Box::new(stream), socket, unread: Vec::new() }
    }

    /// Uses a stream that was made over `socket`.
    pub fn over(stream: impl Read + Write + Send + 'static, socket: TcpStream) -> Self {
        Self { stream: Box::new(stream), socket, unread: Vec::new() }
    }

    /// A socket that gives up reading and writing in time.
    pub fn socket(address: SocketAddr) -> TcpStream {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("the gate accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        socket.set_nodelay(true).expect("no delay");
        socket
    }

    /// The client's own address.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a connected socket has an address")
    }

    /// Writes bytes; a peer that has closed is a failure.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the gate reads");
    }

    /// Writes bytes, as far as the peer takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Another way to write in cleartext, for a thread of its own.
    pub fn writer(&self) -> TcpStream {
        self.socket.try_clone().expect("a socket can be cloned")
    }

    /// Gives up writing and reading after so long.
    pub fn stop_waiting_after(&self, span: Duration) {
        self.socket.set_write_timeout(Some(span)).expect("a write timeout");
        self.socket.set_read_timeout(Some(span)).expect("a read timeout");
    }

    /// Ends our side; the other stays open.
    pub fn finish(&self) {
        self.socket.shutdown(Shutdown::Write).expect("half-close");
    }

    /// Sends a call and reads its final answer.
    #[track_caller]
    pub fn exchange(&mut self, call: &Call) -> Reply {
        // A refusal may come before the body was taken.
        let _ = self.try_send(call.bytes());
        Reply { secrets: call.secrets(), ..self.reply_to(&call.method) }
    }

    /// The next final answer, to a method other than HEAD.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.reply_to("GET")
    }

    /// The next final answer to a method.
    #[track_caller]
    pub fn reply_to(&mut self, method: &str) -> Reply {
        self.next_to(method).expect("an answer, not a closed connection")
    }

    /// The next final answer, or nothing if the connection was closed before its first byte.
    #[track_caller]
    pub fn next_to(&mut self, method: &str) -> Option<Reply> {
        let mut interim = Vec::new();
        loop {
            let mut reply = self.next_head()?;
            if (100..200).contains(&reply.status) && reply.status != 101 {
                interim.push(reply.status);
                continue;
            }
            self.read_body(&mut reply, method);
            return Some(Reply { interim, ..reply });
        }
    }

    /// The next head, interim or final.
    #[track_caller]
    pub fn next_head(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            if !self.fill() {
                assert!(self.unread.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.unread));
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        Some(parse_head(&String::from_utf8_lossy(&head)))
    }

    #[track_caller]
    fn read_body(&mut self, reply: &mut Reply, method: &str) {
        reply.complete = true;
        let lengths = reply.all("content-length");
        assert!(lengths.len() <= 1, "more than one length: {reply:?}");
        let length = lengths.first().map(|text| text.parse::<usize>().expect("a length is a number"));
        let coding = reply.field("transfer-encoding").map(str::to_owned);
        assert!(length.is_none() || coding.is_none(), "both framings: {reply:?}");
        if method == "HEAD" || matches!(reply.status, 100..=199 | 204 | 304) {
            return;
        }
        if let Some(coding) = coding {
            assert_eq!(coding, "chunked");
            reply.complete = self.read_chunks(reply).is_some();
        } else if let Some(length) = length {
            while self.unread.len() < length && self.fill() {}
            reply.complete = self.unread.len() >= length;
            let there = length.min(self.unread.len());
            reply.body = self.unread.drain(..there).collect();
        } else {
            while self.fill() {}
            reply.body = std::mem::take(&mut self.unread);
        }
    }

    fn read_chunks(&mut self, reply: &mut Reply) -> Option<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            while self.unread.len() < size + 2 {
                if !self.fill() {
                    let there = size.min(self.unread.len());
                    reply.body.extend(self.unread.drain(..there));
                    return None;
                }
            }
            reply.body.extend(self.unread.drain(..size));
            let end: Vec<u8> = self.unread.drain(..2).collect();
            assert_eq!(end, b"\r\n", "a chunk ends with its line");
        }
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { return line.is_empty().then_some(()) };
            reply.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                break at;
            }
            if !self.fill() {
                return None;
            }
        };
        let line: Vec<u8> = self.unread.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Reads more; false at the end of the stream, by FIN or by reset.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&chunk[..read]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came in {PATIENCE:?}; unread: {:?}", String::from_utf8_lossy(&self.unread))
            }
            Err(_) => false,
        }
    }

    /// At least `count` bytes, or all there are until the end.
    pub fn read_at_least(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count && self.fill() {}
        std::mem::take(&mut self.unread)
    }

    /// Fails unless the gate closes the connection without sending anything more.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        while self.fill() {}
        assert!(self.unread.is_empty(), "bytes before the end: {:?}", String::from_utf8_lossy(&self.unread));
    }

    /// Fails unless the connection still serves: a call without credentials gets its 401.
    #[track_caller]
    pub fn assert_in_step(&mut self) {
        self.send("GET /in-step HTTP/1.1\r\nhost: shop.test\r\n\r\n");
        self.reply().assert_refused("credentials-missing");
    }

    /// Fails unless the connection was closed or the next request on it gets its own answer.
    #[track_caller]
    pub fn assert_in_step_or_closed(&mut self) {
        if self.try_send("GET /in-step HTTP/1.1\r\nhost: shop.test\r\n\r\n").is_err() {
            return;
        }
        if let Some(reply) = self.next_to("GET") {
            reply.assert_refused("credentials-missing");
        }
    }
}

#[track_caller]
fn parse_head(head: &str) -> Reply {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let mut parts = status_line.splitn(3, ' ');
    let version = parts.next().unwrap_or_default().to_owned();
    assert!(version.starts_with("HTTP/1."), "not an HTTP/1 answer: {head:?}");
    let status = parts.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"));
    let fields = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
            assert!(!name.is_empty() && !name.contains(' '), "not a field name: {line:?}");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    Reply { status, version, fields, ..Reply::default() }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
