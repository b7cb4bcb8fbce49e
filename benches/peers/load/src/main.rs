//! An HTTP/1.1 origin, and a load generator, in one loop that spins while a run is on.
//!
//! Why one process that never sleeps: a gateway whose load side has fallen asleep pays for waking it with every send, an
//! inter-processor interrupt of several microseconds in a virtual machine. That is a cost of the test bed and not of the
//! gateway, and it favors fast ones: the load side falls asleep only while a slow one works.
//!
//! On its start it prints the port that the origin listens on. Then it reads commands from standard input,
//!
//! ```text
//! run port=N connections=N seconds=N requests=FILE [close=1] [tls=1] [rate=N] [sign=FILE]
//! ```
//!
//! and answers each with one line of JSON. `requests` holds whole requests, separated by NUL, which are sent in turn.
//! Without `rate` the loop is closed: each connection sends its next request when the last one was answered. With it, it is
//! open: request `i` is due at `i / rate` seconds, and its latency counts from then, sent in time or not. `close` makes a
//! connection of its own for each request, over TLS with a full handshake. `sign`: see [`requests`]. The process ends when
//! its input does.

mod client;
mod http;
mod origin;
mod requests;
mod run;

use std::io::{self, Read, Write};
use std::net::TcpListener;

use rustix::event::{Timespec, epoll};

use origin::Origin;
use run::Run;

/// Events that one look at the sockets may give.
const EVENTS: usize = 256;
/// Whose event it is stands in the upper half of its number, which of them in the lower.
const INPUT: u64 = 0;
const LISTENER: u64 = 1 << 32;
const ORIGIN: u64 = 2 << 32;
const CLIENT: u64 = 3 << 32;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    // Sleep for as long as is asked, not up to 50 µs longer.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, io::stdin(), epoll::EventData::new_u64(INPUT), epoll::EventFlags::IN)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;

    let mut origin = Origin::new(listener);
    let mut run: Option<Run> = None;
    let mut events = Vec::with_capacity(EVENTS);
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        if let Some(done) = run.take_if(|run| run.is_over()) {
            println!("{}", done.result());
            io::stdout().flush()?;
        }
        if let Some(run) = &mut run {
            run.send_what_is_due();
            run.rest();
        }
        let wait = run.is_some().then_some(&at_once);
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), wait) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let number = event.data.u64();
            let index = (number & u64::from(u32::MAX)) as usize;
            match number & !u64::from(u32::MAX) {
                INPUT => match command()? {
                    Some(line) => run = Some(Run::begin(&line, &epoll)?),
                    None => return Ok(()),
                },
                LISTENER => origin.accept(&epoll)?,
                ORIGIN => origin.answer(index),
                _ => {
                    if let Some(run) = &mut run {
                        run.receive(index, &epoll)?;
                    }
                }
            }
        }
    }
}

/// The next command; none at the end of the input. Commands are written whole and wait for their answer.
fn command() -> io::Result<Option<String>> {
    let mut text = [0; 4096];
    let length = io::stdin().read(&mut text)?;
    Ok((length > 0).then(|| String::from_utf8_lossy(&text[..length]).into_owned()))
}
