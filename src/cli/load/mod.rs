//! `load`: virtual clients that open sessions and walk through an API, to learn what it can carry.

mod alarm;
mod args;
mod chance;
mod credentials;
mod http;
mod live;
mod measure;
mod pool;
mod probe;
mod report;
mod run;
mod scenario;
mod schedule;
mod slo;
mod target;
mod template;
mod walk;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sessiongate::timer::Timer;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::output::{say, say_json, tell};
use super::process;
use super::words;
pub use args::Args;
use args::Unit;
use credentials::Credentials;
use live::Live;
use measure::{Measurements, Window};
use report::{Report, SloReport, Try};
use run::{Course, Mode, Plan, Run};
use scenario::Scenario;
use schedule::Rate;
use slo::{Search, Slo};
use target::Target;

/// Runs a load, or a search for the highest one.
///
/// # Errors
/// [`Failure::Input`] and [`Failure::Mistakes`] before anything is called, [`Failure::Runtime`] if the target cannot be
/// called, [`Failure::Said`] if the result is not what was asked for.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.print_scenario {
        return print_scenario(&args.scenario);
    }
    if args.pace.duration.is_zero() {
        return Err(Failure::Input("--duration 0s measures nothing".into()));
    }
    process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::runtime("the load cannot start", error))?;
    runtime.block_on(load(args))
}

fn built_in(name: &Path) -> Option<&'static str> {
    scenario::BUILT_IN.iter().find(|(known, _)| name == Path::new(known)).map(|(_, text)| *text)
}

fn print_scenario(name: &Path) -> Result<(), Failure> {
    match built_in(name) {
        Some(text) => say(text.trim_end()),
        None => {
            let names = scenario::BUILT_IN.map(|(name, _)| name).join(" and ");
            Err(Failure::Input(format!("{} is not built in; these are: {names}", name.display())))
        }
    }
}

async fn load(args: &Args) -> Result<(), Failure> {
    let cut = interrupts()?;
    let plan = plan(args).await?;
    probe(&plan, &cut).await?;
    let per_second = match args.pace.per {
        Unit::Walk => 1.0,
        // Of a walk without calls there is none: each flow has a step.
        Unit::Call => plan.scenario.calls_per_walk().recip(),
    };
    let (report, holds) = match &args.output.slo {
        Some(slo) => search(args, &plan, slo, per_second, &cut).await?,
        None => {
            let course = course(args, per_second);
            let (report, _) = once(&plan, course, args.output.progress, &cut).await?;
            (report, true)
        }
    };
    if let Some(path) = &args.output.html {
        std::fs::write(path, report::html::render(&report))
            .map_err(|error| Failure::runtime(&format!("cannot write {}", path.display()), error))?;
    }
    if args.output.json {
        say_json(&report)?
    } else {
        say(report::text::render(&report))?
    }
    let clean = args.output.slo.is_some() || report.calls.bad_share <= args.output.max_errors;
    if holds && clean { Ok(()) } else { Err(Failure::Said(1)) }
}

/// What cuts runs off: the first INT or TERM does, the second ends the process.
fn interrupts() -> Result<CancellationToken, Failure> {
    let failed = |error| Failure::runtime("cannot catch signals", error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let cut = CancellationToken::new();
    let cutter = cut.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cutter.is_cancelled() {
                std::process::exit(130);
            }
            cutter.cancel();
        }
    });
    Ok(cut)
}

async fn plan(args: &Args) -> Result<Plan, Failure> {
    let scenario = match built_in(&args.scenario) {
        Some(text) => Scenario::parse(text, &args.scenario.display().to_string())?,
        None => Scenario::load(&args.scenario)?,
    };
    let pace = &args.pace;
    let folder = args.scenario.parent().unwrap_or(Path::new(""));
    // Longer than any run that is meant to end.
    let life = Duration::from_secs(24 * 3600) + pace.warm_up + pace.duration + pace.drain;
    let credentials = Credentials::gather(&args.credentials, &scenario.clients, folder, life)?;
    let target = Target::resolve(&args.target).await?;
    let threads = usize::from(pace.threads);
    let connections = pace.connections.or(pace.concurrency).unwrap_or(100) as usize;
    if connections < threads || pace.concurrency.is_some_and(|clients| (clients as usize) < threads) {
        return Err(Failure::Input(format!("{threads} threads need as many connections and clients at least")));
    }
    Ok(Plan {
        scenario: Arc::new(scenario),
        credentials: Arc::new(credentials),
        target: Arc::new(target),
        threads,
        connections,
        walks: pace.walks.unwrap_or(u64::MAX),
        timeout: pace.timeout,
        drain: pace.drain,
        think: !pace.no_think,
        seed: pace.seed.unwrap_or_else(|| u64::from_ne_bytes(sessiongate::random::bytes())),
    })
}

fn course(args: &Args, per_second: f64) -> Course {
    let pace = &args.pace;
    let open = |Rate { from, to }| Mode::Open {
        rate: Rate { from: from * per_second, to: to * per_second },
        arrivals: pace.arrivals,
    };
    let mode = match (pace.concurrency, pace.ramp) {
        (Some(clients), _) => Mode::Closed { clients: clients as usize },
        (None, Some(ramp)) => open(ramp),
        (None, None) => open(Rate::steady(pace.rate.unwrap_or(10.0))),
    };
    Course { mode, warm_up: pace.warm_up, duration: pace.duration }
}

/// Finds out beforehand what would be wrong with every call.
async fn probe(plan: &Plan, cut: &CancellationToken) -> Result<(), Failure> {
    let now = Instant::now();
    let alarms = alarm::Alarms::start().map_err(|error| Failure::runtime("there is no timer", error))?;
    let ground = walk::Ground {
        scenario: Arc::clone(&plan.scenario),
        credentials: Arc::clone(&plan.credentials),
        target: Arc::clone(&plan.target),
        pool: Arc::new(pool::Pool::new(Arc::clone(&plan.target), 1)),
        timer: Timer::start(),
        alarms,
        measured: Arc::new(Mutex::new(Measurements::new(&plan.scenario))),
        window: Window::new(now, Duration::ZERO, Duration::ZERO),
        timeout: plan.timeout,
        think: false,
        seed: plan.seed,
        running: std::sync::atomic::AtomicU64::new(0),
    };
    tokio::select! {
        outcome = ground.probe() => outcome.map_err(Failure::Runtime),
        () = cut.cancelled() => Err(Failure::Said(130)),
    }
}

/// One run and its report, and all that was measured.
async fn once(
    plan: &Plan,
    course: Course,
    progress: Duration,
    cut: &CancellationToken,
) -> Result<(Report, Measurements), Failure> {
    let run = Run::begin(plan, course, cut).await?;
    let mut live = Live::new(&run.window, progress);
    while !run.is_over() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        live.tick(&run);
    }
    live.end();
    let interrupted = cut.is_cancelled();
    let seconds = run.window.end.min(Instant::now()).saturating_duration_since(run.window.measured).as_secs_f64();
    let measured = run.measured();
    Ok((Report::new(plan, &course, &measured, seconds, run.window.slice, interrupted), measured))
}

/// Searches the highest rate; the report is of the last run at which the objective held, else of the last one.
async fn search(
    args: &Args,
    plan: &Plan,
    slo: &Slo,
    per_second: f64,
    cut: &CancellationToken,
) -> Result<(Report, bool), Failure> {
    let step = args.output.step;
    let mut search = Search::new(args.pace.rate.unwrap_or(10.0) * per_second);
    let (mut tries, mut best, mut last) = (Vec::new(), None, None);
    while let Some(rate) = search.next() {
        let mode = Mode::Open { rate: Rate::steady(rate), arrivals: args.pace.arrivals };
        let course = Course { mode, warm_up: step / 5, duration: step };
        let (report, measured) = once(plan, course, Duration::ZERO, cut).await?;
        if report.interrupted {
            last = Some(report);
            break;
        }
        let mut misses = slo.misses(&measured.total());
        // Whoever comes and is not served in time has no latency yet.
        if report.walks.unfinished > 0 {
            misses.push(format!("{} walks unfinished", report.walks.unfinished));
        }
        let holds = misses.is_empty();
        search.note(rate, holds);
        let tried = Try {
            rate,
            calls_per_second: report.calls.per_second,
            p50_ms: report.latency_ms.p50,
            p99_ms: report.latency_ms.p99,
            bad_share: report.calls.bad_share,
            misses,
        };
        let verdict = if holds { "holds".to_owned() } else { format!("missed: {}", tried.misses.join(", ")) };
        let (rate, p99) = (words::rate(rate), words::time(tried.p99_ms));
        tell(format_args!("{rate:>8} walks/s for {:.0} s: p99 {p99}, {slo} {verdict}", step.as_secs_f64()));
        tries.push(tried);
        *if holds { &mut best } else { &mut last } = Some(report);
    }
    let rate = search.found();
    let mut report = best.or(last).ok_or_else(|| Failure::Runtime("nothing was tried".into()))?;
    report.slo = Some(SloReport { objective: slo.to_string(), rate, tries });
    Ok((report, rate.is_some()))
}
