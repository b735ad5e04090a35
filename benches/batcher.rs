//! What the policy costs a request: push and next, for batches of one key.

#[path = "stages/entries.rs"]
mod entries;
#[path = "stages/policy.rs"]
mod policy;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use thalweg::batcher::Batcher;

use policy::policy;

fn push_and_next(c: &mut Criterion) {
    let mut group = c.benchmark_group("batcher");
    for size in [1, 16, 64] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::new("push_and_next", size), |bencher| {
            let mut batcher = Batcher::new(policy());
            bencher.iter(|| black_box(entries::push_and_next(&mut batcher, size)));
        });
    }
    group.finish();
}

criterion_group!(benches, push_and_next);
criterion_main!(benches);
