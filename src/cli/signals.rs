//! What signals do to a running gateway.

use std::io::{self, IsTerminal};
use std::thread;

use sessiongate::server::{Gateway, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Whether a process outlives the terminal it was started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// It does; HUP never ends it.
    Never,
    /// It does not: nobody would know that it still runs.
    WithTerminal,
}

/// The signals that a gateway heeds. From the moment this is made none of them ends the process by itself, so it is
/// made before anything else of a start.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Begins to catch them; within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the end of a gateway. TERM and INT drain it, a second one ends it at once, HUP reloads it; a HUP that
    /// came because the terminal is gone counts as a TERM where `leaves` says so.
    ///
    /// # Errors
    /// The first error of a thread of the gateway.
    pub async fn rule(mut self, gateway: Gateway, leaves: Leaves) -> io::Result<()> {
        let on_terminal = io::stdout().is_terminal();
        let handle = gateway.handle();
        let (sender, mut ended) = oneshot::channel();
        thread::Builder::new().name("join".into()).spawn(move || sender.send(gateway.join()))?;
        let mut draining = false;
        loop {
            tokio::select! {
                outcome = &mut ended => {
                    return outcome.unwrap_or_else(|_| Err(io::Error::other("its threads cannot be waited for")));
                }
                _ = self.hang_up.recv() => {
                    let gone = on_terminal && !io::stdout().is_terminal();
                    if leaves == Leaves::WithTerminal && gone { stop(&handle, &mut draining) } else { handle.reload() }
                }
                _ = self.terminate.recv() => stop(&handle, &mut draining),
                _ = self.interrupt.recv() => stop(&handle, &mut draining),
            }
        }
    }
}

fn stop(handle: &Handle, draining: &mut bool) {
    if *draining {
        tracing::warn!("ending at once");
        handle.end();
    } else {
        *draining = true;
        handle.drain();
    }
}
