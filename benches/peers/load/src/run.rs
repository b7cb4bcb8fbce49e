//! One run of load: connections, when they send, and what came back.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::event::epoll;
use rustls::ClientConfig;

use crate::client::{self, Client, Progress};
use crate::requests::Requests;

/// A run that is on.
pub struct Run {
    address: SocketAddr,
    close: bool,
    tls: Option<Arc<ClientConfig>>,
    requests: Requests,
    /// Time between two requests of an open loop.
    gap: Option<Duration>,
    /// Requests of an open loop that were sent.
    issued: u32,
    /// Connections of an open loop that could send.
    free: VecDeque<usize>,
    begin: Instant,
    end: Instant,
    clients: Vec<Option<Client>>,
    part: Vec<u8>,
    refused: u64,
    errors: u64,
    /// Nanoseconds of each answered request.
    latencies: Vec<u32>,
}

impl Run {
    /// Starts what a command asks for.
    pub fn begin(command: &str, epoll: &OwnedFd) -> io::Result<Self> {
        let options: HashMap<&str, &str> = command.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let number =
            |name: &str| options.get(name).map_or(Ok(0.0), |text| f64::from_str(text)).map_err(io::Error::other);
        let requests = options.get("requests").ok_or(io::Error::other("no requests"))?;
        let rate = number("rate")?;
        let now = Instant::now();
        let mut run = Self {
            address: (Ipv4Addr::LOCALHOST, number("port")? as u16).into(),
            close: options.contains_key("close"),
            tls: options.contains_key("tls").then(client::tls),
            requests: Requests::read(requests, options.get("sign").copied())?,
            gap: (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate)),
            issued: 0,
            free: VecDeque::new(),
            begin: now,
            end: now,
            clients: Vec::new(),
            part: vec![0; 64 * 1024],
            refused: 0,
            errors: 0,
            latencies: Vec::with_capacity(1 << 20),
        };
        for index in 0..number("connections")? as usize {
            run.clients.push(None);
            run.open(index, epoll)?;
        }
        run.begin = Instant::now();
        run.end = run.begin + Duration::from_secs_f64(number("seconds")?);
        Ok(run)
    }

    /// Whether its time is up.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn open(&mut self, index: usize, epoll: &OwnedFd) -> io::Result<()> {
        let client = Client::open(self.address, self.tls.as_ref())?;
        let number = epoll::EventData::new_u64(crate::CLIENT | index as u64);
        epoll::add(epoll, &client.stream, number, epoll::EventFlags::IN)?;
        self.clients[index] = Some(client);
        self.turn(index);
        Ok(())
    }

    /// A connection has nothing to wait for.
    fn turn(&mut self, index: usize) {
        match self.gap {
            None => self.send(index, Instant::now()),
            Some(_) => self.free.push_back(index),
        }
    }

    fn send(&mut self, index: usize, due: Instant) {
        let Some(client) = &mut self.clients[index] else { return };
        if client.send(self.requests.next(), due).is_err() {
            self.errors += 1;
        }
    }

    /// Open loop: sends the requests whose time has come, as far as connections are free.
    pub fn send_what_is_due(&mut self) {
        let Some(gap) = self.gap else { return };
        while let due = self.begin + gap * self.issued
            && due <= Instant::now()
            && let Some(index) = self.free.pop_front()
        {
            self.send(index, due);
            self.issued += 1;
        }
    }

    /// Open loop with nothing under way: nobody needs this side before the next request is due, so it sleeps almost till
    /// then. (A real-time task that never rests would have its core taken away for 50 ms of every second.)
    pub fn rest(&self) {
        const MARGIN: Duration = Duration::from_micros(20);
        let Some(gap) = self.gap else { return };
        if self.free.len() == self.clients.len() {
            let left = (self.begin + gap * self.issued).saturating_duration_since(Instant::now());
            if let Some(time) = left.checked_sub(MARGIN) {
                thread::sleep(time);
            }
        }
    }

    /// Reads what has arrived on a connection.
    pub fn receive(&mut self, index: usize, epoll: &OwnedFd) -> io::Result<()> {
        let Some(client) = &mut self.clients[index] else { return Ok(()) };
        match client.receive(&mut self.part) {
            Progress::Waiting => Ok(()),
            Progress::Gone => {
                self.errors += 1;
                self.open(index, epoll)
            }
            Progress::Answered { success } => {
                if let Some(due) = client.due.take() {
                    self.latencies.push(due.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
                    self.refused += u64::from(!success);
                }
                if self.close {
                    self.open(index, epoll)
                } else {
                    self.turn(index);
                    Ok(())
                }
            }
        }
    }

    /// What came of it, as JSON.
    pub fn result(mut self) -> String {
        let seconds = self.begin.elapsed().as_secs_f64();
        self.latencies.sort_unstable();
        let micros = |share: f64| {
            let last = self.latencies.len().saturating_sub(1);
            let index = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(index.min(last)).map_or(0.0, |nanos| f64::from(*nanos) / 1000.0)
        };
        format!(
            r#"{{"requests":{},"seconds":{seconds:.6},"refused":{},"errors":{},"p50":{:.1},"p99":{:.1},"p999":{:.1},"max":{:.1}}}"#,
            self.latencies.len(),
            self.refused,
            self.errors,
            micros(0.5),
            micros(0.99),
            micros(0.999),
            micros(1.0),
        )
    }
}
