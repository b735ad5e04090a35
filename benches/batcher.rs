//! What the policy costs a request: push and next, for batches of one key.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use thalweg::batcher::{Batcher, Entry, Next, Policy, Want};
use thalweg::clock::Time;
use thalweg::tensor::GroupKey;

/// About as large as a request on its way: the payload itself lies elsewhere.
struct Request {
    key: GroupKey,
    _rest: [u64; 16],
}

impl Entry for Request {
    fn key(&self) -> &GroupKey {
        &self.key
    }
    fn rows(&self) -> usize {
        1
    }
    fn priority(&self) -> usize {
        0
    }
    fn enqueued(&self) -> Time {
        Time::from_nanos(1)
    }
    fn deadline(&self) -> Option<Time> {
        Some(Time::from_nanos(1_000_000_000))
    }
    fn is_gone(&self) -> bool {
        false
    }
}

fn push_and_next(c: &mut Criterion) {
    let mut group = c.benchmark_group("batcher");
    for size in [1, 16, 64] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::new("push_and_next", size), |bencher| {
            let mut batcher = Batcher::new(Policy {
                max_batch_size: 64,
                preferred_batch_size: vec![],
                max_queue_delay: Duration::ZERO,
                priority_levels: 1,
            });
            bencher.iter(|| {
                for _ in 0..size {
                    let key = GroupKey([512].into_iter().collect());
                    batcher.push(Request { key, _rest: [0; 16] });
                }
                match batcher.next(Time::from_nanos(2), Want::Any, &mut |_, _| ()) {
                    Next::Run(batch) => black_box(batch.len()),
                    Next::Wait(_) => 0,
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, push_and_next);
criterion_main!(benches);
