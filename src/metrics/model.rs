//! What is counted of one model version.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};
use parking_lot::Mutex;

use super::{
    BATCH_SIZE, COMPUTE_SECONDS, ENCODE_SECONDS, FAILED_RUNS, LANE_FAILURES, LANES, LANES_CONFIGURED,
    MODEL_INFO, MODEL_LOAD_SECONDS, MODEL_READY, Metrics, OnDevice, QUEUE_DEPTH, QUEUE_DEPTH_LIMIT,
    QUEUE_SECONDS, REQUEST_SECONDS, REQUESTS, RUNS_GIVEN_UP, SKIPPED, STREAM_SLOTS, STREAMS_OPEN,
};
use crate::error::Code;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Error(Code),
    /// Its client left before the answer could be sent.
    Cancelled,
}

/// What a lane does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Gather,
    Run,
    Scatter,
}

pub struct ModelMetrics {
    metrics: Arc<Metrics>,
    labels: [(&'static str, String); 2],
    success: Counter,
    cancelled: Counter,
    // Those of the server's own errors are there from the start, since a rate does not see the value that a series
    // begins with. Others appear with the first such error: most models never see most codes.
    errors: [OnceLock<Counter>; Code::ALL.len()],
    batch_size: Histogram,
    queue: Histogram,
    stages: [Histogram; 3],
    encode: Histogram,
    request: Histogram,
    failed_runs: Counter,
    skipped: Counter,
    lane_failures: Counter,
    runs_given_up: Counter,
    pub lanes: Gauge,
    pub queue_depth: Gauge,
    pub queue_depth_limit: Gauge,
    pub ready: Gauge,
    load: Gauge,
    /// Streams open, and slots; only of models with state.
    streams: OnceLock<[Gauge; 2]>,
    /// Only of models on a GPU.
    on_device: OnceLock<OnDevice>,
    totals: Totals,
}

/// Totals since the start, as Triton's statistics extension reports them.
#[derive(Default)]
struct Totals {
    success: Total,
    fail: Total,
    queue: Total,
    stages: [Total; 3],
    rows: AtomicU64,
    batches: Mutex<BTreeMap<usize, (u64, Duration)>>,
}

#[derive(Default)]
struct Total {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Total {
    fn add(&self, count: u64, time: Duration) {
        self.count.fetch_add(count, Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.count.load(Relaxed), self.nanos.load(Relaxed))
    }
}

/// A reading of the totals; pairs are (count, nanoseconds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    pub success: (u64, u64),
    pub fail: (u64, u64),
    pub queue: (u64, u64),
    pub gather: (u64, u64),
    pub run: (u64, u64),
    pub scatter: (u64, u64),
    pub rows: u64,
    /// Batch size to how often it ran, and for how long.
    pub batches: BTreeMap<usize, (u64, Duration)>,
}

impl ModelMetrics {
    pub(super) fn new(metrics: &Arc<Metrics>, name: &str, version: &str) -> Self {
        let labels = [("model", name.to_owned()), ("version", version.to_owned())];
        let outcome = |text: &'static str| {
            let [model, version] = labels.clone();
            let labels = [model, version, ("outcome", text.to_owned()), ("reason", String::new())];
            ::metrics::counter!(REQUESTS, &labels)
        };
        let stage = |text: &'static str| {
            let [model, version] = labels.clone();
            ::metrics::histogram!(COMPUTE_SECONDS, &[model, version, ("stage", text.to_owned())])
        };
        let made = metrics.make(|| Self {
            success: outcome("success"),
            cancelled: outcome("cancelled"),
            errors: [const { OnceLock::new() }; Code::ALL.len()],
            batch_size: ::metrics::histogram!(BATCH_SIZE, &labels),
            queue: ::metrics::histogram!(QUEUE_SECONDS, &labels),
            stages: [stage("gather"), stage("run"), stage("scatter")],
            encode: ::metrics::histogram!(ENCODE_SECONDS, &labels),
            request: ::metrics::histogram!(REQUEST_SECONDS, &labels),
            failed_runs: ::metrics::counter!(FAILED_RUNS, &labels),
            skipped: ::metrics::counter!(SKIPPED, &labels),
            lane_failures: ::metrics::counter!(LANE_FAILURES, &labels),
            runs_given_up: ::metrics::counter!(RUNS_GIVEN_UP, &labels),
            lanes: ::metrics::gauge!(LANES, &labels),
            queue_depth: ::metrics::gauge!(QUEUE_DEPTH, &labels),
            queue_depth_limit: ::metrics::gauge!(QUEUE_DEPTH_LIMIT, &labels),
            ready: ::metrics::gauge!(MODEL_READY, &labels),
            load: ::metrics::gauge!(MODEL_LOAD_SECONDS, &labels),
            streams: OnceLock::new(),
            on_device: OnceLock::new(),
            totals: Totals::default(),
            metrics: Arc::clone(metrics),
            labels: labels.clone(),
        });
        let own = |code: &&Code| code.http_status() >= 500;
        Code::ALL.iter().filter(own).for_each(|code| {
            made.error(*code);
        });
        made
    }

    /// Tells how the model runs, as labels of a series that is always 1.
    pub fn info(&self, max_batch_size: usize, instances: usize, device: &'static str, cuda_graphs: bool) {
        let [model, version] = self.labels.clone();
        let labels = [
            model,
            version,
            ("max_batch_size", max_batch_size.to_string()),
            ("instances", instances.to_string()),
            ("device", device.to_owned()),
            ("cuda_graphs", cuda_graphs.to_string()),
        ];
        self.metrics.make(|| {
            ::metrics::gauge!(MODEL_INFO, &labels).set(1.0);
            #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
            ::metrics::gauge!(LANES_CONFIGURED, &self.labels).set(instances as f64);
        });
    }

    /// How many streams a model with state has open, of how many it could have.
    pub fn streams(&self, open: f64, slots: f64) {
        let [open_gauge, slots_gauge] = self.streams.get_or_init(|| {
            let gauges = || {
                [::metrics::gauge!(STREAMS_OPEN, &self.labels), ::metrics::gauge!(STREAM_SLOTS, &self.labels)]
            };
            self.metrics.make(gauges)
        });
        open_gauge.set(open);
        slots_gauge.set(slots);
    }

    /// A request was answered `after` its arrival.
    pub fn answered(&self, outcome: Outcome, after: Duration) {
        match outcome {
            Outcome::Success => {
                self.success.increment(1);
                self.totals.success.add(1, after);
            }
            Outcome::Error(code) => {
                self.error(code).increment(1);
                self.totals.fail.add(1, after);
            }
            Outcome::Cancelled => {
                self.cancelled.increment(1);
                return;
            }
        }
        self.request.record(after.as_secs_f64());
    }

    /// The model was loaded, and is warm.
    pub fn loaded(&self, took: Duration) {
        self.load.set(took.as_secs_f64());
    }

    /// Answers that leave together were encoded.
    pub fn encoded(&self, took: Duration) {
        self.encode.record(took.as_secs_f64());
    }

    /// A request left the queue for a batch.
    pub fn queued(&self, time: Duration) {
        self.queue.record(time.as_secs_f64());
        self.totals.queue.add(1, time);
    }

    /// A batch of `rows` was gathered and run.
    pub fn ran(&self, rows: usize, gather: Duration, run: Duration) {
        #[allow(clippy::cast_precision_loss, reason = "no batch has 2^53 rows")]
        self.batch_size.record(rows as f64);
        self.totals.rows.fetch_add(rows as u64, Relaxed);
        self.stage(Stage::Gather, gather);
        self.stage(Stage::Run, run);
        let mut batches = self.totals.batches.lock();
        let (count, total) = batches.entry(rows).or_default();
        *count += 1;
        *total += run;
    }

    /// What is counted of this model on GPUs.
    pub fn on_device(&self) -> &OnDevice {
        self.on_device.get_or_init(|| OnDevice::new(&self.metrics, &self.labels))
    }

    /// Its answers were handed to their connections.
    pub fn scattered(&self, time: Duration) {
        self.stage(Stage::Scatter, time);
    }

    fn stage(&self, stage: Stage, time: Duration) {
        self.stages[stage as usize].record(time.as_secs_f64());
        self.totals.stages[stage as usize].add(1, time);
    }

    /// A request was not run, as its client had left.
    pub fn skipped(&self) {
        self.skipped.increment(1);
    }

    /// A lane has failed.
    pub fn lane_failed(&self) {
        self.lane_failures.increment(1);
    }

    /// A run has been given up, and its lane with it.
    pub fn run_given_up(&self) {
        self.runs_given_up.increment(1);
        self.lane_failed();
    }

    pub fn run_failed(&self) {
        self.failed_runs.increment(1);
    }

    pub fn statistics(&self) -> Statistics {
        let [gather, run, scatter] = [0, 1, 2].map(|stage| self.totals.stages[stage].get());
        Statistics {
            success: self.totals.success.get(),
            fail: self.totals.fail.get(),
            queue: self.totals.queue.get(),
            gather,
            run,
            scatter,
            rows: self.totals.rows.load(Relaxed),
            batches: self.totals.batches.lock().clone(),
        }
    }

    fn error(&self, code: Code) -> &Counter {
        self.errors[code as usize].get_or_init(|| {
            let [model, version] = self.labels.clone();
            let labels =
                [model, version, ("outcome", "error".to_owned()), ("reason", code.as_str().to_owned())];
            self.metrics.make(|| ::metrics::counter!(REQUESTS, &labels))
        })
    }
}
