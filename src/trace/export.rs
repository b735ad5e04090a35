//! The queue of spans that have ended, and the thread that sends them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter;
use parking_lot::{Condvar, Mutex};

use super::client::Client;
use super::{Otlp, Span};
use crate::clock::{Clock, Time};
use crate::metrics::TraceMetrics;

/// Requests whose spans wait to be sent; some 5 MB of them.
const MOST: usize = 2048;

/// Requests whose spans are sent at once.
const BATCH: usize = 256;

/// Spans are sent when so much time has gone by, if there are not enough of them before.
const PAUSE: Duration = Duration::from_secs(1);

/// Attempts for one batch have so much time in all.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Queue {
    state: Mutex<State>,
    /// For the thread: there is enough to send, or somebody waits for it.
    wake: Condvar,
    /// For those who wait until all has been sent.
    done: Condvar,
    metrics: TraceMetrics,
}

/// As they come from the requests, which carry no more than a pointer.
#[allow(clippy::vec_box, reason = "they are boxed already")]
type Spans = Vec<Box<Span>>;

#[derive(Default)]
struct State {
    spans: Spans,
    /// Somebody waits: what there is leaves at once.
    flushing: bool,
    sending: bool,
    closed: bool,
}

impl Queue {
    pub fn new(metrics: TraceMetrics) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self { state, wake: Condvar::new(), done: Condvar::new(), metrics })
    }

    pub fn push(&self, span: Box<Span>) {
        let mut state = self.state.lock();
        if state.spans.len() >= MOST {
            drop(state);
            self.metrics.full.increment(span.count() as u64);
            return;
        }
        state.spans.push(span);
        if state.spans.len() == BATCH {
            self.wake.notify_one();
        }
    }

    /// Waits until all that is here has been sent, or for so long.
    pub fn flush(&self, limit: Duration) {
        let mut state = self.state.lock();
        state.flushing = true;
        self.wake.notify_one();
        self.done.wait_while_for(&mut state, |state| state.sending || !state.spans.is_empty(), limit);
        state.flushing = false;
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// The next spans to send; none once the queue is closed.
    fn next(&self) -> Option<Spans> {
        let mut state = self.state.lock();
        state.sending = false;
        loop {
            if state.spans.is_empty() {
                self.done.notify_all();
            }
            if state.closed {
                return None;
            }
            let enough = if state.flushing { 1 } else { BATCH };
            if state.spans.len() < enough {
                self.wake.wait_for(&mut state, PAUSE);
            }
            if !state.spans.is_empty() {
                state.sending = true;
                let count = state.spans.len().min(BATCH);
                return Some(state.spans.drain(..count).collect());
            }
        }
    }
}

pub(super) fn exporter(otlp: &Otlp) -> Result<opentelemetry_otlp::SpanExporter, String> {
    let base = otlp.endpoint.trim_end_matches('/');
    if !(base.starts_with("http://") || base.starts_with("https://")) {
        return Err("it is no http:// or https:// address".into());
    }
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", base.trim_end_matches("/v1/traces")))
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    let resource = Resource::builder()
        .with_service_name(otlp.service.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// Sends what comes into the queue until it is closed.
pub(super) fn start(
    exporter: opentelemetry_otlp::SpanExporter,
    queue: Arc<Queue>,
    clock: Clock,
) -> std::io::Result<()> {
    let scope = InstrumentationScope::builder("thalweg").with_version(env!("CARGO_PKG_VERSION")).build();
    let work = move || {
        let mut told = false;
        while let Some(spans) = queue.next() {
            let origin = clock.world(Time::default());
            let world = |time: Time| origin + Duration::from_nanos(time.as_nanos());
            let mut data = Vec::with_capacity(spans.iter().map(|span| span.count()).sum());
            spans.into_iter().for_each(|span| span.data(&scope, world, &mut data));
            let count = data.len() as u64;
            match block_on(exporter.export(data)) {
                Ok(()) => {
                    queue.metrics.exported.increment(count);
                    told = false;
                }
                Err(error) => {
                    queue.metrics.failed.increment(count);
                    // Once, until it works again: the metric counts.
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "spans could not be sent to the collector, and are dropped");
                    }
                }
            }
        }
    };
    thread::Builder::new().name("thalweg-trace".into()).spawn(work).map(drop)
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
