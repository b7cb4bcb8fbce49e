//! An upstream that is killed, stalls, flaps, cuts its answers and comes back, under steady load: every call gets one
//! well-formed answer, and no POST arrives twice.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Call, Config, Gate, Session, Setup, eventually, scale};

/// Clients at once, and calls of each in a second: 500 calls a second.
const CLIENTS: usize = 100;
const PACE: Duration = Duration::from_millis(200);

/// What the upstream does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Fine,
    /// Nobody listens, and connections are reset.
    Dead,
    /// Reads calls and does not answer.
    Stalled,
    /// Sends half an answer.
    Cutting,
    /// Sends something that is no answer.
    Babbling,
}

/// An upstream with moods. It notes the id of each call that arrived whole.
struct Upstream {
    address: SocketAddr,
    mood: Mutex<Mood>,
    listening: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    arrived: Mutex<HashMap<String, usize>>,
}

impl Upstream {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let upstream = Arc::new(Self {
            address: listener.local_addr().expect("a bound socket has an address"),
            mood: Mutex::new(Mood::Fine),
            listening: AtomicBool::new(true),
            connections: Mutex::default(),
            arrived: Mutex::default(),
        });
        upstream.listen(listener);
        upstream
    }

    fn listen(self: &Arc<Self>, listener: TcpListener) {
        let upstream = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !upstream.listening.load(Ordering::SeqCst) {
                    return;
                }
                upstream.connections.lock().expect("connections").push(stream.try_clone().expect("a clone"));
                let upstream = Arc::clone(&upstream);
                thread::spawn(move || upstream.serve(stream));
            }
        });
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().expect("the mood")
    }

    /// Changes the mood; to die and to come back takes more than a word.
    fn become_(self: &Arc<Self>, mood: Mood) {
        let before = std::mem::replace(&mut *self.mood.lock().expect("the mood"), mood);
        if mood == Mood::Dead && before != Mood::Dead {
            self.listening.store(false, Ordering::SeqCst);
            // Wakes the listener, which ends.
            drop(TcpStream::connect(self.address));
        }
        if mood == Mood::Dead || before == Mood::Stalled {
            for stream in self.connections.lock().expect("connections").drain(..) {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        if mood != Mood::Dead && before == Mood::Dead {
            let mut listener = None;
            eventually("the port is free again", || {
                listener = TcpListener::bind(self.address).ok();
                listener.is_some()
            });
            self.listening.store(true, Ordering::SeqCst);
            self.listen(listener.expect("it listens"));
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut unread = Vec::new();
        while let Some(id) = read_call(&mut stream, &mut unread) {
            *self.arrived.lock().expect("arrivals").entry(id.clone()).or_default() += 1;
            let body = format!("served {id}");
            let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let sent = match self.mood() {
                Mood::Fine => stream.write_all(whole.as_bytes()).is_ok(),
                Mood::Dead => false,
                Mood::Stalled => {
                    // Until the gate has had enough.
                    let _ = stream.read(&mut [0; 1]);
                    false
                }
                Mood::Cutting => {
                    let _ = stream.write_all(&whole.as_bytes()[..whole.len() - 4]);
                    false
                }
                Mood::Babbling => {
                    let _ = stream.write_all(b"\x16\x03\x01\x00\x05hello");
                    false
                }
            };
            if !sent {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    fn arrivals(&self, id: &str) -> usize {
        self.arrived.lock().expect("arrivals").get(id).copied().unwrap_or_default()
    }
}

/// The id of the next call, once it has arrived whole.
fn read_call(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = memchr::memmem::find(unread, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&unread[..end]).into_owned();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            let whole = match field("content-length: ") {
                Some(length) => end + 4 + length.parse::<usize>().expect("a length"),
                None if field("transfer-encoding: chunked").is_some() => {
                    memchr::memmem::find(&unread[end..], b"\r\n0\r\n\r\n").map_or(usize::MAX, |at| end + at + 7)
                }
                None => end + 4,
            };
            if unread.len() >= whole {
                unread.drain(..whole);
                return head.split(' ').nth(1)?.strip_prefix("/orders/").map(str::to_owned);
            }
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        unread.extend_from_slice(&chunk[..read]);
    }
}

/// What became of the calls of a kind.
#[derive(Debug, Default)]
struct Tally {
    served: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
}

/// A call with an id of its own; every third is a GET, the others are POSTs in both framings.
fn call(session: &Session, id: &str, number: usize) -> Vec<u8> {
    let target = format!("/orders/{id}");
    match number % 3 {
        0 => session.get(&target).bytes(),
        1 => session.post(&target, r#"{"n":1}"#).bytes(),
        _ => {
            let call: Call = session.call("POST", &target).field("content-type", "application/json");
            [&call.field("transfer-encoding", "chunked").head()[..], b"7\r\n{\"n\":1}\r\n0\r\n\r\n"].concat()
        }
    }
}

/// One client: calls at its pace, each of which must have exactly one answer.
fn client(gate: &Gate, session: &Session, upstream: &Upstream, name: usize, end: Instant, tally: &Tally) {
    let mut raw = gate.connect();
    let mut due = Instant::now() + PACE * u32::try_from(name).expect("a small number") / 100;
    for number in 0.. {
        due += PACE;
        if due > end {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let id = format!("{name}-{number}");
        raw.send(call(session, &id, number));
        let reply = raw.next_to("GET").unwrap_or_else(|| panic!("{id} has no answer"));
        let arrivals = upstream.arrivals(&id);
        assert!(number % 3 == 0 || arrivals <= 1, "{id} arrived {arrivals} times");
        match reply.status {
            200 if reply.complete => {
                assert_eq!(reply.text(), format!("served {id}"));
                assert!(arrivals >= 1, "{id} was answered by nobody");
                tally.served.fetch_add(1, Ordering::Relaxed);
            }
            200 => {
                tally.cut.fetch_add(1, Ordering::Relaxed);
            }
            502..=504 => {
                let code = reply.json()["code"].as_str().expect("a code").to_owned();
                assert!(["upstream-failed", "upstream-unavailable", "upstream-timeout"].contains(&&*code), "{code}");
                assert!(reply.complete, "{reply:?}");
                tally.refused.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{id} got {other}: {}", reply.text()),
        }
        // An answer that was cut ends its connection, and that is how the client knows.
        if !reply.complete || reply.field("connection") == Some("close") {
            raw.assert_closed();
            raw = gate.connect();
        }
    }
}

#[test]
fn under_every_fault_each_call_has_one_answer_and_no_post_arrives_twice() {
    let upstream = Upstream::start();
    let config = Config::new(&format!("http://{}", upstream.address))
        .lenient()
        .upstream_setting("response_timeout = \"300ms\"\nconnect_timeout = \"300ms\"");
    let gate = Setup::configured(&config).start();
    let session = gate.open();
    let end = Instant::now() + Duration::from_secs(6) * scale();
    let tally = Tally::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|name| {
                let (gate, session, upstream, tally) = (&gate, &session, &upstream, &tally);
                scope.spawn(move || client(gate, session, upstream, name, end, tally))
            })
            .collect();
        let flapping = [Mood::Dead, Mood::Fine].into_iter().cycle().take(8).map(|mood| (mood, 50));
        let troubles = [(Mood::Dead, 300), (Mood::Stalled, 400), (Mood::Cutting, 200), (Mood::Babbling, 200)];
        let moods: Vec<_> =
            troubles.into_iter().flat_map(|trouble| [(Mood::Fine, 300), trouble]).chain(flapping).collect();
        for (mood, span) in moods.into_iter().cycle() {
            if Instant::now() >= end || clients.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
            upstream.become_(mood);
            thread::sleep(Duration::from_millis(span));
        }
        upstream.become_(Mood::Fine);
    });
    let counts = [&tally.served, &tally.refused, &tally.cut].map(|count| count.load(Ordering::Relaxed));
    assert!(counts.iter().all(|count| *count > 0), "served, refused, cut: {counts:?}");
    // Well again at once, and nothing of the past is left in the pool.
    let mut raw = gate.connect();
    for number in 0..50 {
        raw.send(call(&session, &format!("after-{number}"), number));
        assert_eq!(raw.reply().text(), format!("served after-{number}"));
    }
    println!("served, refused, cut: {counts:?}");
}
