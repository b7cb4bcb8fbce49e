//! An upstream that does what a test tells it to, byte for byte, and remembers every byte it was sent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{PATIENCE, eventually};

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Which connection it came on, from 1.
    pub connection: usize,
    pub method: String,
    /// The target exactly as it came, shown as text.
    pub target: String,
    /// In order; names as they came.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Seen {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Default)]
struct Record {
    seen: Mutex<Vec<Seen>>,
    bytes: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    stopped: AtomicBool,
}

/// An upstream.
pub struct Origin {
    address: SocketAddr,
    record: Arc<Record>,
}

impl Origin {
    /// Answers every request with `200` and `{"ok":true}`.
    pub fn start() -> Self {
        Self::answering(|_, line| line.reply(200, &[("content-type", "application/json")], br#"{"ok":true}"#))
    }

    /// Answers each whole request as `script` says.
    pub fn answering(script: impl Fn(&Seen, &mut Line) + Send + Sync + 'static) -> Self {
        Self::speaking(move |line| {
            while let Some(seen) = line.read_request() {
                script(&seen, line);
            }
        })
    }

    /// Answers every request with these bytes, and keeps the connection.
    pub fn sending(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::answering(move |_, line| line.send(&bytes))
    }

    /// Hands each connection to `script` before anything was read.
    pub fn speaking(script: impl Fn(&mut Line) + Send + Sync + 'static) -> Self {
        Self::speaking_at("127.0.0.1:0", script)
    }

    /// The same, at this address.
    pub fn speaking_at(address: &str, script: impl Fn(&mut Line) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let record = Arc::new(Record::default());
        let (shared, script) = (Arc::clone(&record), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                shared.open.fetch_add(1, Ordering::SeqCst);
                let (record, script) = (Arc::clone(&shared), Arc::clone(&script));
                thread::spawn(move || {
                    let mut line = Line::new(stream, number, Arc::clone(&record));
                    script(&mut line);
                    drop(line);
                    record.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, record }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests arrived, whole or not.
    pub fn calls(&self) -> usize {
        self.record.seen.lock().expect("the record").len()
    }

    /// How many bytes arrived.
    pub fn bytes(&self) -> usize {
        self.record.bytes.load(Ordering::SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.record.open.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.record.seen.lock().expect("the record").clone()
    }

    /// The latest request.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the origin was called")
    }

    /// Waits until so many requests have arrived.
    #[track_caller]
    pub fn await_calls(&self, count: usize) {
        eventually(&format!("{count} calls at the origin"), || self.calls() >= count);
    }

    /// Fails if a single byte of a request arrived.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_eq!((self.bytes(), self.calls()), (0, 0), "the origin was called: {:?}", self.seen());
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.record.stopped.store(true, Ordering::SeqCst);
        // The listener wakes up and sees that it should end.
        let _ = TcpStream::connect(self.address);
    }
}

/// An address where nobody listens.
pub fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// One connection of an origin.
pub struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
    number: usize,
    record: Arc<Record>,
    ended: bool,
}

impl Line {
    fn new(stream: TcpStream, number: usize, record: Arc<Record>) -> Self {
        stream.set_read_timeout(Some(PATIENCE * 3)).expect("a read timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, unread: Vec::new(), number, record, ended: false }
    }

    /// Reads a request and notes it; nothing at the end of the connection.
    pub fn read_request(&mut self) -> Option<Seen> {
        let mut seen = self.read_head()?;
        self.read_body(&mut seen);
        Some(seen)
    }

    /// Reads the head of a request and notes it.
    pub fn read_head(&mut self) -> Option<Seen> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            if self.ended || !self.fill() {
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let mut request = lines.next().unwrap_or_default().splitn(3, ' ');
        let mut word = || request.next().unwrap_or_default().to_owned();
        let (method, target) = (word(), word());
        let fields = lines
            .map(|line| line.split_once(':').unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
            .collect();
        let seen = Seen { connection: self.number, method, target, fields, ..Seen::default() };
        self.note(|all| all.push(seen.clone()));
        Some(seen)
    }

    /// Reads the body that belongs to the head that was read last.
    pub fn read_body(&mut self, seen: &mut Seen) {
        let chunked = seen.field("transfer-encoding").is_some();
        let length = seen.field("content-length").map_or(0, |text| text.parse().unwrap_or(0));
        seen.complete = if chunked { self.read_chunks(seen) } else { self.read_length(length, seen) };
        let whole = seen.clone();
        let number = self.number;
        self.note(|all| {
            if let Some(noted) = all.iter_mut().rfind(|noted| noted.connection == number) {
                *noted = whole;
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut Vec<Seen>)) {
        change(&mut self.record.seen.lock().expect("the record"));
    }

    fn read_length(&mut self, length: usize, seen: &mut Seen) -> bool {
        while self.unread.len() < length && self.fill() {}
        let there = length.min(self.unread.len());
        seen.body = self.unread.drain(..there).collect();
        seen.body.len() == length
    }

    fn read_chunks(&mut self, seen: &mut Seen) -> bool {
        loop {
            let Some(line) = self.line() else { return false };
            let size = usize::from_str_radix(&line, 16).expect("the gate sends plain chunk sizes");
            if size == 0 {
                break;
            }
            while self.unread.len() < size + 2 {
                if !self.fill() {
                    return false;
                }
            }
            seen.body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
        }
        loop {
            match self.line() {
                None => return false,
                Some(line) if line.is_empty() => return true,
                Some(line) => {
                    let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                    seen.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.record.bytes.fetch_add(read, Ordering::SeqCst);
                self.unread.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }

    /// Reads what comes next, framed or not, until there are `count` bytes.
    pub fn read_raw(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count && self.fill() {}
        let there = count.min(self.unread.len());
        self.unread.drain(..there).collect()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes.as_ref());
    }

    /// Sends bytes as far as the gate takes them.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends an answer with a length.
    pub fn reply(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        let mut bytes = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len()).into_bytes();
        for (name, value) in fields {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    /// Ends the connection with a FIN.
    pub fn close(&mut self) {
        self.ended = true;
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection with a reset.
    pub fn reset(&mut self) {
        self.ended = true;
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("linger can be set");
        // Unread bytes or a linger of zero turn the close of the last handle into a reset.
        if let Ok(null) = TcpListener::bind("127.0.0.1:0").and_then(|other| TcpStream::connect(other.local_addr()?)) {
            drop(std::mem::replace(&mut self.stream, null));
        }
    }

    /// Reads what has come, at least a byte; nothing at the end.
    pub fn read_some(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.unread)
    }

    /// Another way to write, for a thread of its own.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a socket can be cloned")
    }

    /// Gives up writing after so long.
    pub fn stop_waiting_after(&self, span: Duration) {
        self.stream.set_write_timeout(Some(span)).expect("a write timeout");
    }

    /// Ends our side; the other stays open.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads what comes until the end of the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        self.ended = true;
        std::mem::take(&mut self.unread)
    }

    /// Waits until the gate ends the connection; nothing is answered.
    pub fn hang(&mut self) {
        while self.fill() {}
        self.ended = true;
    }
}

/// An address that is there and where nobody answers: a full accept queue drops handshakes.
pub struct Deaf {
    address: SocketAddr,
    _sockets: Vec<socket2::Socket>,
}

impl Deaf {
    pub fn new() -> Self {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("a free port");
        listener.listen(0).expect("a queue of one");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        let queued = (0..4).map(|_| {
            let socket = socket();
            socket.set_nonblocking(true).expect("non-blocking");
            let _ = socket.connect(&address.into());
            socket
        });
        Self { address, _sockets: queued.chain([listener]).collect() }
    }

    /// Its base.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
