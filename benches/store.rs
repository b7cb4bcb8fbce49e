//! What does a session cost, in memory and in time, and does sweeping hold up look-ups?

mod support;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use sessiongate::policy::ids::SessionId;
use sessiongate::store::SessionStore;

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn bench(criterion: &mut Criterion) {
    let before = support::resident();
    let count = 1_000_000;
    // Every session with an owner of its own: the dearest case.
    let (gate, ids) = support::gate(count, count);
    let bytes = (support::resident() - before) / count;
    println!("store: {bytes} bytes of resident memory per session at {count} sessions, each with its own subject");
    assert!(bytes <= 375, "a session costs at most 375 bytes");
    let stepped = support::stepped();
    let before = support::resident();
    let followed = support::gate_of(count, count, stepped.flows.of_client(support::CLIENT));
    let bytes = (support::resident() - before) / count;
    println!("store: {bytes} bytes of resident memory per session that follows a flow");
    assert!(bytes <= 375, "so does one that follows a flow");
    drop(followed);

    let mut turn = ids.iter().cycle();
    criterion.bench_function("find/1000000 sessions", |bencher| {
        bencher.iter(|| {
            let id = turn.next().expect("endless");
            gate.store().find(id.key()).now_or_never().and_then(Result::ok).flatten().expect("found")
        });
    });
    criterion.bench_function("key of an id", |bencher| bencher.iter(|| ids[0].key()));
    let shared = support::Shared::default();
    let mut group = criterion.benchmark_group("open");
    group.measurement_time(Duration::from_secs(2));
    group.bench_function("one", |bencher| {
        bencher.iter(|| {
            support::open(&gate, SessionId::from_random(sessiongate::random::bytes()), "subject", &shared, None)
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
