//! What does identifying a caller cost: the connection's last token, a remembered one, one never seen before?

mod support;

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sessiongate::gate::memo::TokenMemo;

fn bench(criterion: &mut Criterion) {
    let live = support::snapshot("strict", 1);
    let token = support::token("subject");
    let memo = TokenMemo::default();
    let known = memo.recall(&live, &token).expect("a good token");
    criterion.bench_function("last token of the connection", |bencher| {
        bencher.iter(|| memo.recall(&live, &token).map(|found| Arc::ptr_eq(found.caller(), known.caller())));
    });
    criterion.bench_function("remembered token", |bencher| bencher.iter(|| live.auth.identify(&token)));
    let mut number = 0;
    criterion.bench_function("token never seen before", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                support::token(&number.to_string())
            },
            |token| live.auth.identify(&token),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
