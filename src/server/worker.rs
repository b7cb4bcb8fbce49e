//! One worker: a thread with its own runtime, listeners, timer and front. No call hops threads.

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio_util::task::TaskTracker;

use super::entrance::Entrance;
use super::listener::{Accepted, ConnectionStats, accept};

use super::{Context, Drain, Front, Limits, connection};
use crate::timer::Timer;

/// A listening socket of one worker.
#[derive(Debug)]
pub struct WorkerListener {
    /// From [`listener::bind`](super::listener::bind).
    pub socket: TcpListener,
    /// What its connections meet first.
    pub entrance: Arc<Entrance>,
}

/// What all workers share, and what is counted of this one.
#[derive(Debug, Clone, Default)]
pub struct WorkerContext {
    /// Read by each connection when it is accepted.
    pub limits: Arc<ArcSwap<Limits>>,
    /// The signal to finish.
    pub drain: Drain,
    /// This worker's counters.
    pub stats: Arc<ConnectionStats>,
}

/// Runs a worker on this thread until it has drained: [`serve`] on a new current-thread runtime.
///
/// `front` is called inside the runtime, so it may spawn tasks there; they end with the worker.
///
/// # Errors
///
/// If the runtime or a listener cannot be set up.
pub fn run<F: Front>(
    listeners: Vec<WorkerListener>,
    context: WorkerContext,
    front: impl FnOnce(&Timer) -> Arc<F>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let timer = Timer::start();
        let front = front(&timer);
        serve(listeners, context, timer, front).await
    })
    // Dropping the runtime drops what is left of the connections.
}

/// Accepts and serves connections on the current runtime until the drain has begun and every connection has ended,
/// [`Limits::drain_timeout`] has passed, or the drain has ended. Connections that are left then end with the runtime.
///
/// # Errors
///
/// If a listener cannot be registered with the runtime.
pub async fn serve<F: Front>(
    listeners: Vec<WorkerListener>,
    context: WorkerContext,
    timer: Timer,
    front: Arc<F>,
) -> io::Result<()> {
    let WorkerContext { limits, drain, stats } = context;
    let drain = drain.child();
    let tracker = TaskTracker::new();
    let context = Context { front, limits: **limits.load(), timer, drain: drain.clone(), stats };
    let context = Arc::new(context);
    for WorkerListener { socket, entrance } in listeners {
        let accepting = Accepting {
            socket: tokio::net::TcpListener::from_std(socket)?,
            entrance,
            limits: Arc::clone(&limits),
            connections: tracker.clone(),
        };
        tracker.spawn(accepting.run(Arc::clone(&context)));
    }
    drop(context);
    drain.begun().await;
    tracker.close();
    let deadline = limits.load().drain_timeout;
    tokio::select! {
        () = tracker.wait() => {}
        () = tokio::time::sleep(deadline) => {}
        () = drain.ended() => {}
    }
    Ok(())
}

/// The loop of one listener.
struct Accepting {
    socket: tokio::net::TcpListener,
    entrance: Arc<Entrance>,
    limits: Arc<ArcSwap<Limits>>,
    connections: TaskTracker,
}

impl Accepting {
    /// Accepts until the drain begins, and then what the kernel has accepted for us by that time: closing the socket
    /// would reset it.
    async fn run<F: Front>(self, mut context: Arc<Context<F>>) {
        let mut begun = pin!(context.drain.begun());
        loop {
            let next = accept(&self.socket, &context.stats, || self.limits.load().max_connections);
            tokio::select! {
                biased;
                () = begun.as_mut() => break,
                accepted = next => self.spawn(accepted, &mut context),
            }
        }
        // Lets the runtime see what has arrived.
        tokio::task::yield_now().await;
        let most = || self.limits.load().max_connections;
        while let Some(accepted) = accept(&self.socket, &context.stats, most).now_or_never() {
            self.spawn(accepted, &mut context);
        }
    }

    fn spawn<F: Front>(&self, accepted: Accepted, context: &mut Arc<Context<F>>) {
        let current = **self.limits.load();
        if context.limits != current {
            *context = Arc::new(context.under(current));
        }
        let steps = self.entrance.current();
        self.connections.spawn(connection::serve(accepted, steps, Arc::clone(context)));
    }
}

impl<F> Context<F> {
    /// The same for connections that are accepted under other limits.
    fn under(&self, limits: Limits) -> Self {
        Self {
            front: Arc::clone(&self.front),
            limits,
            timer: self.timer.clone(),
            drain: self.drain.clone(),
            stats: Arc::clone(&self.stats),
        }
    }
}
