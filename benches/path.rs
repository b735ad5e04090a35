//! The path of a request without sockets and without a model: hand-over to a lane and back, gather, scatter.

#![allow(clippy::expect_used, reason = "a bench ends where something is not as it should be")]

#[path = "stages/policy.rs"]
mod policy;
#[path = "stages/rows.rs"]
mod rows;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use smallvec::smallvec;
use thalweg::clock::Clock;
use thalweg::device::{Cpu, TensorView};
use thalweg::engine::Running;
use thalweg::error::Result;
use thalweg::lane::{Feed, Host, Supervisor};
use thalweg::metrics::Metrics;
use thalweg::queue::{self, Memory, Places, Producer};
use thalweg::reply::Mailbox;
use thalweg::tensor::{BatchOutput, Column, Dim, GroupKey, Payload, Rows, Signature, Storage};

use policy::policy;
use rows::{WIDTH, draft, flat, signature};

const BATCHES: [usize; 3] = [1, 16, 64];

/// Gives its input back.
struct Echo;

impl Running for Echo {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
        let input = &inputs[0];
        let storage = Storage::Fixed(Box::new(input.data.to_vec()));
        let column = Column::new(input.datatype, input.shape.clone(), Some(0), storage).expect("whole");
        Ok(BatchOutput::new(vec![column]))
    }
}

fn start_lane(signature: &Signature) -> (Producer, Clock) {
    let clock = Clock::start();
    let metrics = Metrics::new().expect("metrics").model("echo", "1");
    let (producer, requests) = queue::channel(Places::new(1024), Memory::new(1 << 30));
    let feed = Feed::new(requests, policy(), clock, Arc::clone(&metrics));
    let pipeline = Host::new(Cpu::new(signature, &[], &[]), Box::new(Echo));
    Supervisor::of_one(pipeline, feed, clock, metrics).start().expect("a thread");
    (producer, clock)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// One connection sends a batch's worth of requests and waits for all answers.
fn hand_over(c: &mut Criterion) {
    let signature = flat();
    let (producer, clock) = start_lane(&signature);
    let payload = Bytes::from(vec![0; WIDTH * 4]);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut group = c.benchmark_group("hand_over");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_with_input(BenchmarkId::from_parameter(batch), &batch, |bencher, &batch| {
            let mailbox = Mailbox::new(batch);
            let mut ready = Vec::with_capacity(batch);
            bencher.iter(|| {
                for _ in 0..batch {
                    let draft = draft(payload.clone(), GroupKey::default(), clock.now());
                    producer.submit(draft, mailbox.issue(()));
                }
                ready.clear();
                while ready.len() < batch {
                    match mailbox.poll_answers(&mut Context::from_waker(&waker), &mut ready) {
                        Poll::Ready(_) => {}
                        Poll::Pending => std::thread::park(),
                    }
                }
                assert!(ready.iter().all(|(_, answer)| answer.is_ok()));
            });
        });
    }
    group.finish();
}

fn gather(c: &mut Criterion) {
    let first = ("gather/axis 0", flat(), WIDTH * 4);
    let second =
        ("gather/axis 1", signature(&[Dim::Fixed(2), Dim::Dynamic, Dim::Fixed(128)], 1), 2 * 128 * 4);
    for (name, signature, bytes) in [first, second] {
        let mut group = c.benchmark_group(name);
        let payloads = [Payload::Rows(Bytes::from(vec![0; bytes]))];
        let mut device = Cpu::new(&signature, &[], &[]);
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_with_input(BenchmarkId::from_parameter(batch), &batch, |bencher, &batch| {
                bencher.iter(|| rows::gather(&mut device, &payloads, batch));
            });
        }
        group.finish();
    }
}

/// Each request's rows of a batch's output, copied as a connection copies them.
fn scatter(c: &mut Criterion) {
    for (name, shape, axis) in
        [("scatter/axis 0", smallvec![64, WIDTH], 0), ("scatter/axis 1", smallvec![2, 64, 128], 1)]
    {
        let output = rows::output(shape, axis);
        let mut group = c.benchmark_group(name);
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_with_input(BenchmarkId::from_parameter(batch), &batch, |bencher, &batch| {
                let each = |start| Rows { output: Arc::clone(&output), start, count: 1 };
                let copy = |(rows, mut out): (Vec<Rows>, Vec<u8>)| {
                    rows.iter().for_each(|rows| rows::copy(rows, &mut out));
                    out
                };
                let rows = || (0..batch).map(each).collect::<Vec<_>>();
                bencher.iter_batched(|| (rows(), Vec::with_capacity(4096)), copy, BatchSize::SmallInput);
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hand_over, gather, scatter);
criterion_main!(benches);
