//! What does the way from a head to its admission cost, warm: time, heap allocations, and with a thousand times the
//! sessions?

mod support;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use http::Request;
use sessiongate::config::Snapshot;
use sessiongate::gate::memo::TokenMemo;
use sessiongate::gate::{Admission, Gate, Known};
use sessiongate::policy::head::{Head, RawHead};

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

/// Stages 3 to 7.
fn admit(gate: &Gate, live: &Snapshot, memo: &TokenMemo, request: &Request<()>) {
    let raw = RawHead::from(request);
    let head = Head::parse(raw, &live.names, &live.via).expect("a good head");
    let mut known = Known::default();
    let now = gate.clock().now();
    let admitted = gate.admit(live, &head, now, memo, &mut known).now_or_never();
    assert!(matches!(admitted, Some(Ok(Admission::Forward(..)))));
}

fn bench(criterion: &mut Criterion) {
    let live = support::snapshot("strict", 1);
    let memo = TokenMemo::default();
    let token = support::token("subject-0");
    for count in [10_000, 1_000_000] {
        let (gate, ids) = support::gate(count, 1);
        let calls: Vec<_> = ids.iter().map(|id| support::call(&token, *id)).collect();
        calls.iter().for_each(|call| admit(&gate, &live, &memo, call));
        {
            let _counting = dhat::Profiler::builder().testing().build();
            calls.iter().for_each(|call| admit(&gate, &live, &memo, call));
            let allocated = dhat::HeapStats::get().total_blocks;
            println!("admit with {count} sessions: {allocated} heap allocations in {} calls", calls.len());
            assert_eq!(allocated, 0, "an admission allocates nothing");
        }
        let mut turn = calls.iter().cycle();
        criterion.bench_function(&format!("admit/{count} sessions"), |bencher| {
            bencher.iter_batched(
                || turn.next().expect("endless"),
                |call| admit(&gate, &live, &memo, call),
                BatchSize::SmallInput,
            );
        });
    }
    let limited = support::limited();
    let (gate, ids) = support::gate(10_000, 1);
    let call = support::call(&token, ids[0]);
    let memo = TokenMemo::default();
    admit(&gate, &limited, &memo, &call);
    {
        let _counting = dhat::Profiler::builder().testing().build();
        (0..1_000).for_each(|_| admit(&gate, &limited, &memo, &call));
        let allocated = dhat::HeapStats::get().total_blocks;
        println!("admit with three rate rules: {allocated} heap allocations in 1000 calls");
        assert_eq!(allocated, 0, "counting a call allocates nothing");
    }
    criterion.bench_function("admit/three rate rules", |bencher| {
        bencher.iter(|| admit(&gate, &limited, &memo, &call));
    });
    let stepped = support::stepped();
    let (gate, ids) = support::gate_of(10_000, 1, stepped.flows.of_client(support::CLIENT));
    let call = support::call(&token, ids[0]);
    let memo = TokenMemo::default();
    admit(&gate, &stepped, &memo, &call);
    {
        let _counting = dhat::Profiler::builder().testing().build();
        (0..1_000).for_each(|_| admit(&gate, &stepped, &memo, &call));
        let allocated = dhat::HeapStats::get().total_blocks;
        println!("admit a step: {allocated} heap allocations in 1000 calls");
        assert_eq!(allocated, 0, "to enter and settle a step allocates nothing");
    }
    // Each call enters its step and is given up at once.
    criterion.bench_function("admit/a step", |bencher| bencher.iter(|| admit(&gate, &stepped, &memo, &call)));
    let many = support::snapshot("strict", 500);
    let (gate, ids) = support::gate(10_000, 1);
    let call = support::call(&token, ids[0]);
    let memo = TokenMemo::default();
    criterion.bench_function("admit/500 routes", |bencher| bencher.iter(|| admit(&gate, &many, &memo, &call)));
}

criterion_group!(benches, bench);
criterion_main!(benches);
