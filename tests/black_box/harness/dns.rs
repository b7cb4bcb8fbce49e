//! A name server that says what a test tells it to.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What it answers every question for addresses with.
#[derive(Debug, Clone)]
enum Answer {
    Addresses(Vec<Ipv4Addr>),
    /// SERVFAIL.
    Failure,
}

/// A name server over UDP.
pub struct Dns {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Dns {
    /// Gives every name these addresses, for a second.
    pub fn start(addresses: &[&str]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let answer = Arc::new(Mutex::new(Answer::Failure));
        let dns = Self { address, answer, asked: Arc::default(), stopped: Arc::default() };
        dns.moves_to(addresses);
        let (answer, asked, stopped) = (Arc::clone(&dns.answer), Arc::clone(&dns.asked), Arc::clone(&dns.stopped));
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let answer = answer.lock().expect("the answer").clone();
                let _ = socket.send_to(&reply(&query[..length], &answer), peer);
                asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        dns
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives these addresses from now on.
    pub fn moves_to(&self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an IPv4 address")).collect();
        *self.answer.lock().expect("the answer") = Answer::Addresses(addresses);
    }

    /// Fails from now on.
    pub fn fails(&self) {
        *self.answer.lock().expect("the answer") = Answer::Failure;
    }

    /// How many questions were answered.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let waker = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let _ = waker.send_to(b"end", self.address);
    }
}

/// The answer to a query (RFC 1035 section 4.1).
fn reply(query: &[u8], answer: &Answer) -> Vec<u8> {
    const A: [u8; 2] = [0, 1];
    let Some(name_length) = query.get(12..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else {
        return Vec::new();
    };
    let question = &query[12..(12 + name_length + 5).min(query.len())];
    let wants_a = question[question.len() - 4..question.len() - 2] == A;
    let (code, addresses): (u8, &[Ipv4Addr]) = match answer {
        Answer::Addresses(addresses) if wants_a => (0, addresses),
        Answer::Addresses(_) => (0, &[]),
        Answer::Failure => (2, &[]),
    };
    let count = u8::try_from(addresses.len()).expect("a few addresses");
    // A response, recursion desired and available.
    let mut reply = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    reply.extend_from_slice(question);
    for address in addresses {
        // The name of the question, A, IN, one second, four bytes.
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}
