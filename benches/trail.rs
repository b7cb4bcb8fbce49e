//! What does a record of the trail cost its call: time, and heap allocations?

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use http::Request;
use sessiongate::config::Snapshot;
use sessiongate::gate::memo::TokenMemo;
use sessiongate::gate::{Gate, Known};
use sessiongate::policy::head::{Head, RawHead};
use sessiongate::telemetry::record::{Arrival, CallRecord, Details};
use sessiongate::telemetry::{Recorder, Telemetry};
use sessiongate::trail::Trail;
use sessiongate::trail::config::{SubjectForm, TrailConfig};

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

/// The record of a call, from its beginning to its end.
fn record(recorder: &Arc<Recorder>, head: &Head<'_>, known: &Known, traced: bool) {
    let arrival = Arrival { peer: ([192, 0, 2, 7], 40_000).into(), http2: false, tls: true };
    let time = sessiongate::policy::time::Timestamp::EPOCH;
    let mut record = CallRecord::begin(Arc::clone(recorder), Instant::now(), time, arrival, None);
    record.details = traced.then(|| Details::of(head));
    record.verb = Some(head.verb());
    record.caller.clone_from(&known.caller);
    record.enter(&known.session);
    record.status = 200;
}

/// What is known of an admitted call.
fn known(gate: &Gate, live: &Snapshot, head: &Head<'_>) -> Known {
    let mut known = Known::default();
    let admitted = gate.admit(live, head, gate.clock().now(), &TokenMemo::default(), &mut known).now_or_never();
    assert!(matches!(admitted, Some(Ok(_))));
    known
}

fn bench(criterion: &mut Criterion) {
    let (live, (gate, ids)) = (support::snapshot("strict", 1), support::gate(1, 1));
    let request: Request<()> = support::call(&support::token("subject-0"), ids[0]);
    let head = Head::parse(RawHead::from(&request), &live.names, &live.via).expect("a good head");
    let known = known(&gate, &live, &head);
    let telemetry = Arc::new(Telemetry::new(None));
    let trail = Trail::new(Arc::clone(&telemetry));
    let config = TrailConfig {
        memory: 64 << 20,
        calls_per_session: 200,
        keep: Duration::from_secs(3600),
        queue: 16 << 20,
        subject: SubjectForm::Off,
        subject_key: None,
        stdout: false,
        files: None,
    };
    let opened = trail.open(Some(&config)).expect("nothing to open");
    trail.adopt(opened).expect("a thread");
    let recorder = Arc::new(Recorder::new(telemetry).with_keeper(trail.keeper()));
    for (name, traced) in [("off", false), ("on", true)] {
        const CALLS: u64 = 1000;
        (0..CALLS).for_each(|_| record(&recorder, &head, &known, traced));
        {
            let _counting = dhat::Profiler::builder().testing().build();
            (0..CALLS).for_each(|_| record(&recorder, &head, &known, traced));
            let allocated = dhat::HeapStats::get().total_blocks;
            println!("record, trail {name}: {allocated} heap allocations in {CALLS} calls");
            // Its own place and its ids; with a trail, the texts of its head, and now and then room for more records.
            let most = if traced { 4 * CALLS + CALLS / 5 } else { 3 * CALLS };
            assert!(allocated <= most, "{allocated}");
        }
        criterion.bench_function(&format!("record/trail {name}"), |bencher| {
            bencher.iter(|| record(&recorder, &head, &known, traced));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
