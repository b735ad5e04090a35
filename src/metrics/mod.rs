//! Every metric that Thalweg exports, declared once: names, units, labels and buckets.
//!
//! Names and units follow Prometheus' conventions. Handles are made when a model or the server starts, so
//! that the path of a request only touches atomics.

mod gpu;
mod key;
mod model;
mod net;
mod process;
mod server;
mod trace;

use std::sync::Arc;

use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use parking_lot::Mutex;

pub use gpu::{GpuMetrics, GpuReading, OnDevice};
pub use key::KeyMetrics;
pub use model::{ModelMetrics, Outcome, Statistics};
pub use net::{NetMetrics, Side};
use process::Process;
pub use server::ServerMetrics;
pub use trace::TraceMetrics;

pub(crate) const REQUESTS: &str = "thalweg_requests_total";
pub(crate) const BATCH_SIZE: &str = "thalweg_batch_size";
pub(crate) const QUEUE_SECONDS: &str = "thalweg_queue_duration_seconds";
pub(crate) const COMPUTE_SECONDS: &str = "thalweg_compute_duration_seconds";
pub(crate) const ENCODE_SECONDS: &str = "thalweg_encode_duration_seconds";
pub(crate) const REQUEST_SECONDS: &str = "thalweg_request_duration_seconds";
pub(crate) const QUEUE_DEPTH: &str = "thalweg_queue_depth";
pub(crate) const QUEUE_DEPTH_LIMIT: &str = "thalweg_queue_depth_limit";
pub(crate) const SKIPPED: &str = "thalweg_requests_skipped_total";
pub(crate) const STREAMS_OPEN: &str = "thalweg_streams_open";
pub(crate) const STREAM_SLOTS: &str = "thalweg_stream_slots";
pub(crate) const FAILED_RUNS: &str = "thalweg_failed_runs_total";
pub(crate) const LANES: &str = "thalweg_lanes";
pub(crate) const LANES_CONFIGURED: &str = "thalweg_lanes_configured";
pub(crate) const LANE_FAILURES: &str = "thalweg_lane_failures_total";
pub(crate) const RUNS_GIVEN_UP: &str = "thalweg_runs_given_up_total";
pub(crate) const MODEL_INFO: &str = "thalweg_model_info";
pub(crate) const MODEL_READY: &str = "thalweg_model_ready";
pub(crate) const MODEL_LOAD_SECONDS: &str = "thalweg_model_load_seconds";
pub(crate) const BUILD_INFO: &str = "thalweg_build_info";
pub(crate) const CONNECTIONS: &str = "thalweg_connections";
pub(crate) const READY: &str = "thalweg_ready";
pub(crate) const DRAINING: &str = "thalweg_draining";
pub(crate) const DRAIN_DEADLINE: &str = "thalweg_drain_deadline_timestamp_seconds";
pub(crate) const EVENT_LOOP_LAG: &str = "thalweg_event_loop_lag_seconds";
pub(crate) const CONNECTIONS_LIMIT: &str = "thalweg_connections_limit";
pub(crate) const CONNECTIONS_OPENED: &str = "thalweg_connections_opened_total";
pub(crate) const CONNECTIONS_CLOSED: &str = "thalweg_connections_closed_total";
pub(crate) const CONNECTIONS_GIVEN_UP: &str = "thalweg_connections_given_up_total";
pub(crate) const ACCEPT_FAILURES: &str = "thalweg_accept_failures_total";
pub(crate) const HTTP_REQUESTS: &str = "thalweg_http_requests_total";
pub(crate) const HTTP_ERRORS: &str = "thalweg_http_errors_total";
pub(crate) const ACCESS_REFUSED: &str = "thalweg_access_refused_total";
pub(crate) const KEY_REQUESTS: &str = "thalweg_key_requests_total";
pub(crate) const KEY_CONNECTIONS: &str = "thalweg_key_connections";
pub(crate) const TLS_FAILED: &str = "thalweg_tls_failed_total";
pub(crate) const TLS_CERTIFICATE_EXPIRES: &str = "thalweg_tls_certificate_expires_timestamp_seconds";
pub(crate) const MESSAGES: &str = "thalweg_messages_total";
pub(crate) const MESSAGE_BYTES: &str = "thalweg_message_bytes_total";
pub(crate) const GPU_INFO: &str = "thalweg_gpu_info";
pub(crate) const GPU_FALLBACK: &str = "thalweg_gpu_fallback";
pub(crate) const GPU_MEMORY: &str = "thalweg_gpu_memory_bytes";
pub(crate) const GPU_UTILIZATION: &str = "thalweg_gpu_utilization_ratio";
pub(crate) const GPU_STAGE_SECONDS: &str = "thalweg_gpu_stage_duration_seconds";
pub(crate) const GPU_COPIED_BYTES: &str = "thalweg_gpu_copied_bytes_total";
pub(crate) const GPU_PADDED_ROWS: &str = "thalweg_gpu_padded_rows_total";
pub(crate) const GPU_GRAPH_REPLAYS: &str = "thalweg_gpu_graph_replays_total";
pub(crate) const SPANS_EXPORTED: &str = "thalweg_spans_exported_total";
pub(crate) const SPANS_DROPPED: &str = "thalweg_spans_dropped_total";
pub(crate) const REQUEST_MEMORY: &str = "thalweg_request_memory_bytes";
pub(crate) const REQUEST_MEMORY_LIMIT: &str = "thalweg_request_memory_limit_bytes";

const BATCH_BUCKETS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0,
    1024.0,
];

/// From 10 µs, where one small run ends, to 10 s, where a client has long gone; 1-2-5 steps.
const SECONDS_BUCKETS: &[f64] = &[
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2,
    0.5, 1.0, 2.0, 5.0, 10.0,
];

/// All metrics of one server; a process may hold several servers, each with its own.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    pub net: NetMetrics,
    pub server: ServerMetrics,
    process: Process,
    /// Read before each scrape: what nobody tells by itself.
    readings: Mutex<Vec<Reading>>,
}

type Reading = Box<dyn Fn() + Send + Sync>;

impl Metrics {
    pub fn new() -> Result<Arc<Self>, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(BATCH_SIZE.into()), BATCH_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS_BUCKETS)?
            .build_recorder();
        let (net, server) = ::metrics::with_local_recorder(&recorder, || {
            describe();
            ::metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            (NetMetrics::new(), ServerMetrics::new())
        });
        let handle = recorder.handle();
        Ok(Arc::new(Self {
            recorder,
            handle,
            net,
            server,
            process: Process::new(),
            readings: Mutex::default(),
        }))
    }

    pub fn model(self: &Arc<Self>, name: &str, version: &str) -> Arc<ModelMetrics> {
        Arc::new(ModelMetrics::new(self, name, version))
    }

    /// A GPU, whose state `read` tells before each scrape.
    pub fn gpu(
        self: &Arc<Self>,
        [gpu, name, capability, driver]: [&str; 4],
        read: impl Fn() -> GpuReading + Send + Sync + 'static,
    ) {
        let gauges = GpuMetrics::new(self, gpu, name, capability, driver);
        self.readings.lock().push(Box::new(move || gauges.set(read())));
    }

    /// Models that could use a GPU run on the CPU; `reason` is one of a few.
    pub fn gpu_fallback(&self, reason: &'static str) {
        self.make(|| ::metrics::gauge!(GPU_FALLBACK, "reason" => reason).set(1.0));
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        self.readings.lock().iter().for_each(|read| read());
        let mut text = self.handle.render();
        self.process.append(&mut text);
        text
    }

    /// Folds recorded histogram samples into their buckets; to be called every few seconds, or samples pile
    /// up between scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn make<T>(&self, make: impl FnOnce() -> T) -> T {
        ::metrics::with_local_recorder(&self.recorder, make)
    }
}

fn describe() {
    use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    describe_counter!(REQUESTS, "Inference requests answered, by outcome and, for errors, their code");
    describe_histogram!(BATCH_SIZE, Unit::Count, "Rows in each batch that was run");
    describe_histogram!(
        QUEUE_SECONDS,
        Unit::Seconds,
        "Time from a request's arrival to the start of its batch"
    );
    describe_histogram!(COMPUTE_SECONDS, Unit::Seconds, "Time a batch spends in each stage of its lane");
    describe_histogram!(
        ENCODE_SECONDS,
        Unit::Seconds,
        "Time in which a connection encodes the answers that it sends together"
    );
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from a request's arrival to its encoded answer"
    );
    describe_gauge!(QUEUE_DEPTH, Unit::Count, "Requests that wait for a lane");
    describe_gauge!(QUEUE_DEPTH_LIMIT, Unit::Count, "Requests that may wait for a lane; more are refused");
    describe_counter!(SKIPPED, "Requests whose client had left before the device saw them");
    describe_gauge!(STREAMS_OPEN, Unit::Count, "Streams that hold a slot of a model's state");
    describe_gauge!(STREAM_SLOTS, Unit::Count, "Slots for streams that a model has");
    describe_counter!(FAILED_RUNS, "Runs that failed; a failed batch is run again in halves");
    describe_gauge!(LANES, Unit::Count, "Instances of a model that are at work");
    describe_gauge!(LANES_CONFIGURED, Unit::Count, "Instances that a model should have at work");
    describe_counter!(
        LANE_FAILURES,
        "Instances that failed (a panic, or a run that hangs); each is started again, ten times a minute at most"
    );
    describe_counter!(
        RUNS_GIVEN_UP,
        "Runs that took longer than they may; their requests were answered without them"
    );
    describe_gauge!(MODEL_INFO, "A served model and its settings; always 1");
    describe_gauge!(MODEL_READY, "Whether each queue of a model has an instance at work: 1, or 0");
    describe_gauge!(MODEL_LOAD_SECONDS, Unit::Seconds, "Time that loading a model took, warm-up included");
    describe_gauge!(BUILD_INFO, "The server's version; always 1");
    describe_gauge!(READY, "Whether the server takes requests, as /health says: 1, or 0");
    describe_gauge!(DRAINING, "Whether the server is on its way to its end: 1, or 0");
    describe_gauge!(
        DRAIN_DEADLINE,
        Unit::Seconds,
        "When a server that drains cuts off what is still open, in seconds since 1970; 0 while it does not drain"
    );
    describe_histogram!(
        EVENT_LOOP_LAG,
        Unit::Seconds,
        "How late a timer of the threads that serve sockets rings, each second"
    );
    describe_gauge!(CONNECTIONS_LIMIT, Unit::Count, "WebSocket connections that may be open");
    describe_gauge!(CONNECTIONS, Unit::Count, "Open WebSocket connections, by endpoint");
    describe_counter!(CONNECTIONS_OPENED, "WebSocket connections opened, by endpoint");
    describe_counter!(CONNECTIONS_CLOSED, "WebSocket connections closed, by endpoint and close code");
    describe_counter!(
        CONNECTIONS_GIVEN_UP,
        "WebSocket connections that the server ended for their time, by reason"
    );
    describe_counter!(
        ACCEPT_FAILURES,
        "Connections that could not be accepted, most often for want of file descriptors"
    );
    describe_counter!(HTTP_REQUESTS, "HTTP requests answered, by route and status");
    describe_counter!(
        HTTP_ERRORS,
        "HTTP requests and handshakes that were answered with an error, by route and code"
    );
    describe_counter!(ACCESS_REFUSED, "Requests that were refused before any key was known, by reason");
    describe_counter!(KEY_REQUESTS, "Requests and messages that came with a key, by its name and outcome");
    describe_gauge!(KEY_CONNECTIONS, Unit::Count, "Open WebSockets, by the key that they came with");
    describe_counter!(TLS_FAILED, "Connections that came to no TLS, though one side wanted it, by reason");
    describe_gauge!(
        TLS_CERTIFICATE_EXPIRES,
        Unit::Seconds,
        "When the certificate in use expires, in seconds since 1970"
    );
    describe_counter!(MESSAGES, "WebSocket messages, by direction");
    describe_counter!(
        MESSAGE_BYTES,
        Unit::Bytes,
        "Bytes of WebSocket messages (received: payloads, sent: with frame headers), by direction"
    );
    describe_gauge!(GPU_INFO, "A GPU that is used; always 1");
    describe_gauge!(GPU_FALLBACK, "Models that could use a GPU run on the CPU, by reason; always 1");
    describe_gauge!(
        GPU_MEMORY,
        Unit::Bytes,
        "A GPU's memory: total, free, taken by lanes; and host memory pinned for it"
    );
    describe_gauge!(
        GPU_UTILIZATION,
        "Share of the last sampling period in which a kernel ran, as the driver tells"
    );
    describe_histogram!(
        GPU_STAGE_SECONDS,
        Unit::Seconds,
        "Time a batch takes on the GPU in each stage, by the device's own events"
    );
    describe_counter!(GPU_COPIED_BYTES, Unit::Bytes, "Bytes copied between the host and GPUs, by direction");
    describe_counter!(GPU_PADDED_ROWS, "Rows that filled batches up to the size of their bucket");
    describe_counter!(GPU_GRAPH_REPLAYS, "Batches that ran as a replay of a captured CUDA graph");
    describe_counter!(SPANS_EXPORTED, "Spans that the collector has taken");
    describe_counter!(SPANS_DROPPED, "Spans that were dropped, by reason");
    describe_gauge!(REQUEST_MEMORY, Unit::Bytes, "Payload bytes of requests that wait or run");
    describe_gauge!(
        REQUEST_MEMORY_LIMIT,
        Unit::Bytes,
        "Payload bytes that may wait or run; more are refused"
    );
}
