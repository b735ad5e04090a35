//! The path of a request without sockets and without a model: hand-over to a lane and back, gather, scatter.

#![allow(clippy::expect_used, reason = "a bench ends where something is not as it should be")]

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use smallvec::smallvec;
use thalweg::batcher::Policy;
use thalweg::clock::Clock;
use thalweg::device::{Cpu, TensorView};
use thalweg::engine::Running;
use thalweg::error::Result;
use thalweg::lane::{Feed, Host, Supervisor};
use thalweg::metrics::Metrics;
use thalweg::queue::{self, Draft, Memory, Places, Producer};
use thalweg::reply::Mailbox;
use thalweg::tensor::{
    BatchOutput, Column, DataType, Dim, GroupKey, Payload, Rows, Signature, Storage, TensorSpec,
};

const WIDTH: usize = 64;
const BATCHES: [usize; 3] = [1, 16, 64];

/// Gives its input back.
struct Echo;

impl Running for Echo {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
        let input = &inputs[0];
        let storage = Storage::Fixed(Box::new(input.data.to_vec()));
        let column = Column::new(input.datatype, input.shape.clone(), Some(0), storage).expect("whole");
        Ok(BatchOutput { columns: vec![column] })
    }
}

fn signature(dims: &[Dim], batch_axis: usize) -> Signature {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        dims: dims.to_vec(),
        batch_axis: Some(batch_axis),
    };
    Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], states: vec![], max_batch_size: 64 }
}

fn start_lane(signature: &Signature) -> (Producer, Clock) {
    let clock = Clock::start();
    let metrics = Metrics::new().expect("metrics").model("echo", "1");
    let (producer, requests) = queue::channel(Places::new(1024), Memory::new(1 << 30));
    let policy = Policy {
        max_batch_size: 64,
        preferred_batch_size: vec![],
        max_queue_delay: Duration::ZERO,
        priority_levels: 1,
    };
    let feed = Feed::new(requests, policy, clock, Arc::clone(&metrics));
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
    let signature = signature(&[Dim::Dynamic, Dim::Fixed(WIDTH)], 0);
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
                    let draft = Draft {
                        payloads: smallvec![Payload::Rows(payload.clone())],
                        rows: 1,
                        key: GroupKey::default(),
                        slot: None,
                        priority: 0,
                        enqueued: clock.now(),
                        deadline: None,
                    };
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
    let first = ("gather/axis 0", signature(&[Dim::Dynamic, Dim::Fixed(WIDTH)], 0), WIDTH * 4);
    let second =
        ("gather/axis 1", signature(&[Dim::Fixed(2), Dim::Dynamic, Dim::Fixed(128)], 1), 2 * 128 * 4);
    for (name, signature, bytes) in [first, second] {
        let mut group = c.benchmark_group(name);
        let payloads = [Payload::Rows(Bytes::from(vec![0; bytes]))];
        let mut device = Cpu::new(&signature, &[], &[]);
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_with_input(BenchmarkId::from_parameter(batch), &batch, |bencher, &batch| {
                bencher.iter(|| {
                    device.begin(batch, &GroupKey::default()).expect("begun");
                    for _ in 0..batch {
                        device.put(1, &payloads, None).expect("put");
                    }
                    device.inputs().len()
                });
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
        let bytes = vec![0u8; shape.iter().product::<usize>() * 4];
        let storage = Storage::Fixed(Box::new(bytes));
        let column = Column::new(DataType::Fp32, shape, Some(axis), storage).expect("whole");
        let output = Arc::new(BatchOutput { columns: vec![column] });
        let mut group = c.benchmark_group(name);
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_with_input(BenchmarkId::from_parameter(batch), &batch, |bencher, &batch| {
                let each = |start| Rows { output: Arc::clone(&output), start, count: 1 };
                let copy = |(rows, mut out): (Vec<Rows>, Vec<u8>)| {
                    for rows in rows {
                        out.clear();
                        let slice = rows.column(0).expect("the column");
                        slice.chunks().for_each(|chunk| out.extend_from_slice(chunk));
                    }
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
