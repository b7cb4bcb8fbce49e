//! The whole gateway: workers, admin, sweeper, reload, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing_appender::non_blocking::WorkerGuard;

use super::clients;
use super::entrance::Entrance;
use super::fronts::AdminFront;
use super::listener::{self, ConnectionStats, ListenError};
use super::tls::TlsError;
use super::worker::{self, WorkerContext, WorkerListener};
use super::{Drain, Limits};
use crate::admin::{Admin, ReloadCounts};
use crate::auth::Issuers;
use crate::clock::Clock;
use crate::config::snapshot::LimitsConfig;
use crate::config::{Live, Snapshot};
use crate::front::Proxy;
use crate::gate::Gate;
use crate::store::AnyStore;
use crate::store::memory::{MemoryStore, Retention};
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::{Recorder, Telemetry};
use crate::timer::Timer;
use crate::upstream::Upstreams;

/// How often expired sessions are swept and idle upstream connections are closed.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Ticks of housekeeping from one sweep of the buckets of rate rules to the next.
const BUCKETS_EVERY: u64 = 10;

/// Sessions that one bite of the sweeper takes.
const BITE: usize = 1000;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A thread or a runtime cannot be made.
    #[error("the gateway cannot start its threads: {0}")]
    Thread(#[from] io::Error),
    /// The process metrics cannot be registered.
    #[error("the process metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Reads the configuration again; the argument is the generation of the new snapshot. The error is for the log.
pub type Load = Box<dyn Fn(u64) -> Result<Snapshot, String> + Send + Sync>;

/// How a gateway is started.
pub struct Options {
    /// The configuration.
    pub snapshot: Snapshot,
    /// Where a reload reads it from; none: there is nothing to reload.
    pub load: Option<Load>,
    /// The access log, and the guard that flushes it at the end.
    pub access_log: Option<(AccessLogger, WorkerGuard)>,
    /// Whether ports that another process has are shared with it.
    pub takeover: bool,
}

/// An address that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The address, with the port that was chosen.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it is the operator's.
    pub admin: bool,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let admin = if self.admin { " (admin)" } else { "" };
        write!(f, "{scheme}://{}{admin}", self.address)
    }
}

/// A running gateway.
pub struct Gateway {
    bound: Vec<Bound>,
    control: Arc<Control>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    _log: Option<WorkerGuard>,
}

/// What the threads of a gateway share.
struct Control {
    gate: Arc<Gate>,
    issuers: Arc<Issuers>,
    upstreams: Arc<Upstreams>,
    live: Arc<Live>,
    load: Option<Load>,
    limits: Arc<ArcSwap<Limits>>,
    /// By the address of their listener, as it was configured.
    entrances: Vec<(SocketAddr, Arc<Entrance>)>,
    /// Held during a reload: two at once would give two snapshots one generation, and who has seen the first would never
    /// see the second.
    reloading: Mutex<()>,
    reloads: Arc<ReloadCounts>,
    drain: Drain,
    /// Ends the operator's listener, when the last worker has ended.
    operator: Drain,
    working: AtomicUsize,
}

/// Held by a worker as long as it runs.
struct Working(Arc<Control>);

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.working.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.operator.end();
        }
    }
}

impl Gateway {
    /// Starts a gateway; when this returns, it listens.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let Options { mut snapshot, load, access_log, takeover } = options;
        let workers = snapshot.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
        let (log, guard) = access_log.unzip();
        let telemetry = Arc::new(Telemetry::new(log));
        let mut sockets: Vec<Vec<WorkerListener>> = (0..workers).map(|_| Vec::new()).collect();
        let (mut bound, mut entrances) = (Vec::new(), Vec::new());
        for config in &snapshot.listeners {
            let entrance = Arc::new(Entrance::open(config, &snapshot.trusted_proxies)?);
            entrances.push((config.address, Arc::clone(&entrance)));
            let group = listener::bind(config.address, workers, takeover)?;
            bound.extend(group.first().and_then(|socket| socket.local_addr().ok()).map(|address| Bound {
                address,
                tls: entrance.speaks_tls(),
                admin: false,
            }));
            for (worker, socket) in sockets.iter_mut().zip(group) {
                worker.push(WorkerListener { socket, entrance: Arc::clone(&entrance) });
            }
        }
        let admin_socket = match &snapshot.admin {
            Some(admin) => listener::bind(admin.address, 1, takeover)?.pop(),
            None => None,
        };
        bound.extend(admin_socket.as_ref().and_then(|socket| socket.local_addr().ok()).map(|address| Bound {
            address,
            tls: false,
            admin: true,
        }));
        let process = prometheus::Registry::new();
        process.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;

        let (issuers, upstreams) = (Issuers::default(), Upstreams::default());
        issuers.adopt(&mut snapshot.auth);
        upstreams.resolve(snapshot.generation, &snapshot.pools, &snapshot.resolver);
        let control = Arc::new(Control {
            gate: Arc::new(Gate::new(AnyStore::Memory(MemoryStore::default()), Clock::default())),
            limits: Arc::new(ArcSwap::from_pointee(limits(&snapshot))),
            issuers: Arc::new(issuers),
            upstreams: Arc::new(upstreams),
            live: Arc::new(Live::new(snapshot)),
            load,
            entrances,
            reloading: Mutex::default(),
            reloads: Arc::default(),
            drain: Drain::new(),
            operator: Drain::new(),
            working: AtomicUsize::new(workers),
        });
        let proxies: Arc<Mutex<Vec<Arc<Proxy>>>> = Arc::default();
        let stats = Arc::<ConnectionStats>::default();
        let mut threads = Vec::with_capacity(workers + 1);
        for (number, listeners) in sockets.into_iter().enumerate() {
            let context = WorkerContext {
                limits: Arc::clone(&control.limits),
                drain: control.drain.clone(),
                stats: Arc::clone(&stats),
            };
            let (control, telemetry, proxies) = (Arc::clone(&control), Arc::clone(&telemetry), Arc::clone(&proxies));
            threads.push(thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let _working = Working(Arc::clone(&control));
                worker::run(listeners, context, |timer| {
                    let recorder = Arc::new(Recorder::new(telemetry));
                    let proxy = Arc::new(Proxy::new(
                        Arc::clone(&control.gate),
                        Arc::clone(&control.live),
                        recorder,
                        timer.clone(),
                        Arc::clone(&control.upstreams),
                    ));
                    proxies.lock().push(Arc::clone(&proxy));
                    tokio::spawn(reap(Arc::clone(&proxy)));
                    proxy
                })
            })?);
        }
        let admin = Admin {
            gate: Arc::clone(&control.gate),
            live: Arc::clone(&control.live),
            telemetry,
            upstreams: Arc::clone(&control.upstreams),
            proxies: Box::new(move || proxies.lock().clone()),
            connections: Box::new(move || stats.counts()),
            reloads: Arc::clone(&control.reloads),
            process,
        };
        let for_thread = Arc::clone(&control);
        threads.push(
            thread::Builder::new()
                .name("control".into())
                .spawn(move || run_control(&for_thread, admin_socket, Arc::new(admin)))?,
        );
        Ok(Self { bound, control, threads, _log: guard })
    }

    /// The addresses it listens on: those for calls in the order of the configuration, then the operator's.
    #[must_use]
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Something to control it with while another thread waits in [`join`](Self::join).
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.control))
    }

    /// As [`Handle::reload`].
    pub fn reload(&self) {
        self.control.reload();
    }

    /// As [`Handle::drain`].
    pub fn drain(&self) {
        self.control.drain();
    }

    /// As [`Handle::end`].
    pub fn end(&self) {
        self.control.drain.end();
    }

    /// Waits until all threads have ended.
    ///
    /// # Errors
    /// The first error of a thread.
    pub fn join(self) -> io::Result<()> {
        let mut outcome = Ok(());
        for thread in self.threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the gateway panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// Controls a running gateway; clones control the same one.
#[derive(Clone)]
pub struct Handle(Arc<Control>);

impl Handle {
    /// Reads the configuration again and puts it in force, or leaves everything as it is and logs why.
    pub fn reload(&self) {
        self.0.reload();
    }

    /// Begins the shutdown: no more sessions are opened and readiness is off at once; after `server.drain.delay` no more
    /// connections are accepted, and what is under way may finish until the deadline.
    pub fn drain(&self) {
        self.0.drain();
    }

    /// Ends at once; connections that are left are dropped.
    pub fn end(&self) {
        self.0.drain.end();
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Control {
    fn drain(&self) {
        self.gate.begin_drain();
        let (drain, delay) = (self.drain.clone(), self.live.snapshot().drain_delay);
        tracing::info!(?delay, "draining");
        if delay.is_zero() {
            drain.begin();
        } else {
            thread::spawn(move || {
                thread::sleep(delay);
                drain.begin();
            });
        }
    }

    fn reload(&self) {
        let Some(load) = &self.load else {
            return tracing::info!("there is no configuration file, so there is nothing to reload");
        };
        let _reloading = self.reloading.lock();
        let generation = self.live.generation() + 1;
        let loaded = load(generation).and_then(|snapshot| {
            let entrances = self.open_entrances(&snapshot).map_err(|error| error.to_string())?;
            Ok((snapshot, entrances))
        });
        match loaded {
            Ok((mut snapshot, entrances)) => {
                let fixed = self.live.snapshot().changes_needing_restart(&snapshot);
                if !fixed.is_empty() {
                    tracing::warn!(
                        settings = fixed.join(", "),
                        "these settings changed but take effect only after a restart"
                    );
                }
                self.limits.store(Arc::new(limits(&snapshot)));
                self.issuers.adopt(&mut snapshot.auth);
                self.upstreams.resolve(generation, &snapshot.pools, &snapshot.resolver);
                self.live.swap(snapshot);
                entrances.into_iter().for_each(|(current, next)| current.replace(&next));
                self.reloads.count(true);
                tracing::info!(generation, "configuration reloaded");
            }
            Err(reason) => {
                self.reloads.count(false);
                tracing::error!(
                    generation = self.live.generation(),
                    reason,
                    "configuration refused; the one before stays in force"
                );
            }
        }
    }

    /// What the listeners are to do with connections next. A file that is broken refuses the reload as a whole.
    fn open_entrances(&self, next: &Snapshot) -> Result<Vec<(&Entrance, Entrance)>, TlsError> {
        let mut opened = Vec::new();
        for (address, entrance) in &self.entrances {
            // A listener that is gone from the file, or speaks TLS only there, runs on as it is until the restart.
            let same = |tls: bool| tls == entrance.speaks_tls();
            let config = next.listeners.iter().find(|config| config.address == *address && same(config.tls.is_some()));
            let Some(config) = config else { continue };
            opened.push((&**entrance, Entrance::open(config, &next.trusted_proxies)?));
        }
        Ok(opened)
    }
}

/// The thread that serves the operator and keeps house.
fn run_control(control: &Arc<Control>, socket: Option<std::net::TcpListener>, admin: Arc<Admin>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(sweep(Arc::clone(control)));
        tokio::spawn(clients::keep(Arc::clone(&control.gate), Arc::clone(&control.live)));
        let issuers = Arc::clone(&control.issuers);
        tokio::spawn(async move { issuers.supervise().await });
        let upstreams = Arc::clone(&control.upstreams);
        tokio::spawn(async move { upstreams.supervise().await });
        let timer = Timer::start();
        let listeners = socket.into_iter().map(|socket| WorkerListener { socket, entrance: Arc::default() }).collect();
        // The operator can watch until the last call has ended.
        let context = WorkerContext { limits: Arc::default(), drain: control.operator.clone(), stats: Arc::default() };
        worker::serve(listeners, context, timer, Arc::new(AdminFront(admin))).await
    })
}

/// Ends sessions that are due and forgets those that ended long ago.
async fn sweep(control: Arc<Control>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    for tick in 0_u64.. {
        interval.tick().await;
        if tick.is_multiple_of(BUCKETS_EVERY) {
            control.gate.limiter().sweep(control.gate.clock().now().steady);
        }
        let sessions = control.live.snapshot().sessions;
        let retention = Retention { tombstone_ttl: sessions.tombstone_ttl, tombstone_max: sessions.tombstone_max };
        let AnyStore::Memory(store) = control.gate.store();
        while store.sweep(control.gate.clock().now().steady, retention, BITE) {
            tokio::task::yield_now().await;
        }
        let now = control.gate.clock().now().steady;
        while control.gate.answers().sweep(now, sessions.idempotency_ttl, BITE) {
            tokio::task::yield_now().await;
        }
    }
}

/// Closes upstream connections that have been idle for too long.
async fn reap(proxy: Arc<Proxy>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        proxy.pools().all().iter().for_each(|pool| pool.reap());
    }
}

fn limits(snapshot: &Snapshot) -> Limits {
    let LimitsConfig {
        head,
        uri,
        handshake_timeout,
        head_timeout,
        body_timeout,
        write_timeout,
        idle_timeout,
        max_connections,
        h2_streams,
        requests_per_connection,
        body_rate: _,
    } = snapshot.limits;
    Limits {
        head_bytes: head,
        uri_bytes: uri,
        head_timeout,
        handshake_timeout,
        idle_timeout,
        body_timeout,
        write_timeout,
        drain_timeout: snapshot.drain_deadline,
        max_connections,
        h2_streams,
        max_requests_per_connection: requests_per_connection.map_or(u64::MAX, |most| u64::from(most.get())),
        ..Limits::default()
    }
}
