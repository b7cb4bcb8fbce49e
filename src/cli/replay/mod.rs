//! `replay`: recorded calls under a new configuration, before it goes live.

mod model;
mod tally;
mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use clap::Args as ClapArgs;
use sessiongate::config::{self, Snapshot};
use sessiongate::replay::{Gap, InOrder, Reader, Recorded, Replay};
use sessiongate::trail::read::{self, Damaged, Unreadable};

use super::damage::Damage;
use super::failure::Failure;
use super::output::{Form, OutputArgs, say, say_json, tell};
use super::progress::Progress;
use tally::Tally;

const EXAMPLES: &str = "\
Examples:
  sessiongate replay --config next.toml /var/lib/sessiongate/trail/trail-*
  zcat trail-*.gz | sessiongate replay --config next.toml --max-changed 100 -

Nothing is sent anywhere, and no gateway is asked. Files may be compressed with gzip, larger than memory, and of several
gateways.

Exit codes: 0 at most --max-changed verdicts change, 1 more do, 2 bad usage or configuration.";

/// Run recorded calls through a new configuration and say which verdicts change
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration to try
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,

    /// Trail files; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// With more verdicts that change than this, the exit code is 1
    #[arg(long, value_name = "CALLS", default_value_t = 0)]
    max_changed: u64,

    #[command(flatten)]
    output: OutputArgs,
}

/// Records that are handed over together.
const BATCH: usize = 512;

/// Batches that wait to be judged.
const QUEUE: usize = 16;

/// What the thread that reads hands over.
enum Read {
    Call(Box<Recorded>),
    Unplaced(Gap),
    Damaged(Damaged),
}

/// Replays the files and prints what changes.
///
/// # Errors
/// [`Failure::Mistakes`] in the configuration; [`Failure::Input`] for a file that cannot be read, or if there is no record at
/// all; exit code 1 if more verdicts change than may.
pub fn run(args: &Args) -> Result<(), Failure> {
    let live = Arc::new(config::load(&args.config, 1)?);
    let (mut replay, mut order) = (Replay::new(Arc::clone(&live)), InOrder::default());
    let (mut tally, mut damage) = (Tally::default(), Damage::default());
    let mut progress = Progress::over(&args.files);
    let (sender, receiver) = sync_channel(QUEUE);
    let outcome = thread::scope(|scope| {
        let counted = Arc::clone(&progress.read);
        let live = Arc::clone(&live);
        let reading = scope.spawn(move || read_all(&args.files, live, &counted, &sender));
        for read in receiver.iter().flatten() {
            match read {
                Read::Call(call) => order.push(call),
                Read::Unplaced(gap) => tally.unplaced(gap),
                Read::Damaged(damaged) => damage.note(damaged),
            }
            while let Some(call) = order.pop(false) {
                tally.add(&call, replay.judge(&call));
            }
            progress.tick(|| format!("{} calls, {} changed", tally.calls(), tally.changed()));
        }
        reading.join()
    });
    progress.end();
    outcome
        .map_err(|_| Failure::Runtime("the thread that reads has failed".into()))?
        .map_err(|error| Failure::Input(error.to_string()))?;
    while let Some(call) = order.pop(true) {
        tally.add(&call, replay.judge(&call));
    }
    damage.report();
    if tally.calls() == 0 {
        return Err(Failure::Input("there is no record of a trail in these files".into()));
    }
    let changed = tally.changed();
    let left_out = replay.left_out().map(str::to_owned).collect();
    let report = tally.report(&args.config, args.files.len(), &damage, order.late, left_out);
    match args.output.output {
        Form::Text => say(text::render(&report))?,
        Form::Json => say_json(&report)?,
    }
    if changed > args.max_changed {
        tell(format_args!("{changed} verdicts change, and at most {} may (--max-changed)", args.max_changed));
        return Err(Failure::Said(1));
    }
    Ok(())
}

/// Reads records and asks the rules that need no memory, in a thread of its own.
fn read_all(
    files: &[PathBuf],
    live: Arc<Snapshot>,
    counted: &Arc<AtomicU64>,
    sender: &SyncSender<Vec<Read>>,
) -> Result<(), Unreadable> {
    let (mut reader, mut batch) = (Reader::new(live), Vec::with_capacity(BATCH));
    read::in_order(files, counted, |record| {
        batch.push(match record {
            Ok(line) => match reader.read(line) {
                Ok(call) => Read::Call(Box::new(call)),
                Err(gap) => Read::Unplaced(gap),
            },
            Err(damaged) => Read::Damaged(damaged),
        });
        if batch.len() == BATCH {
            // Whoever judges waits for the end of this thread.
            _ = sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
        }
    })?;
    _ = sender.send(batch);
    Ok(())
}
