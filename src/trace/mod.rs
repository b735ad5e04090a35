//! Spans of what clients ask, sampled and sent to an OpenTelemetry collector over OTLP.
//!
//! A request that is sampled keeps its times in a [`Span`] and hands it to a bounded queue when it ends; a thread of
//! its own sends what is in there. A span that finds no room is dropped and counted: nobody waits for a collector.

mod client;
mod export;
mod parent;
mod span;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample};

use crate::clock::{Clock, Time};
use crate::metrics::Metrics;
use export::Queue;

pub use opentelemetry::Value;
pub use parent::Parent;
pub use span::Span;

/// Where spans go, and how many.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// The collector's base address, as `OTEL_EXPORTER_OTLP_ENDPOINT` gives it.
    pub endpoint: String,
    pub service: String,
    /// The share of those who bring no decision of their own.
    pub ratio: f64,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "traces: spans cannot be sent to '{endpoint}': {why}; an address such as http://collector:4318 is needed"
)]
pub struct TraceError {
    endpoint: String,
    why: String,
}

/// Gives out spans to those who are sampled.
pub struct Traces {
    sampler: Sampler,
    queue: Arc<Queue>,
}

impl Traces {
    pub fn start(otlp: &Otlp, clock: Clock, metrics: &Metrics) -> Result<Arc<Self>, TraceError> {
        let failed = |why: String| TraceError { endpoint: otlp.endpoint.clone(), why };
        let exporter = export::exporter(otlp).map_err(failed)?;
        let queue = Queue::new(metrics.traces());
        export::start(exporter, Arc::clone(&queue), clock).map_err(|error| failed(error.to_string()))?;
        Ok(Arc::new(Self { sampler: Sampler::TraceIdRatioBased(otlp.ratio), queue }))
    }

    /// A span for a request that came so, if it is sampled: as its parent is, or else by the ratio.
    pub fn begin(
        &self,
        name: impl FnOnce() -> String,
        parent: Option<&Parent>,
        at: Time,
    ) -> Option<Box<Span>> {
        let context = match parent {
            Some(Parent(parent)) => {
                parent.is_sampled().then(|| sampled(parent.trace_id(), parent.trace_state().clone()))?
            }
            None => self.root()?,
        };
        let parent = parent.map_or(SpanId::INVALID, |Parent(parent)| parent.span_id());
        Some(Box::new(Span::new(context, parent, name(), at, Arc::clone(&self.queue))))
    }

    /// The messages of a WebSocket that came with this parent; `span` is the connection's, if that is sampled.
    pub fn talk(self: &Arc<Self>, name: String, parent: Option<&Parent>, span: Option<&Span>) -> Talk {
        let roots = parent.is_none_or(|Parent(parent)| parent.is_sampled());
        let link = span.map(|span| span.context.clone());
        Talk { traces: Arc::clone(self), name, roots, link, attributes: Vec::new() }
    }

    /// Sends what has ended, for so long at the most.
    pub fn flush(&self, limit: Duration) {
        self.queue.flush(limit);
    }

    fn root(&self) -> Option<SpanContext> {
        let trace = RandomIdGenerator::default().new_trace_id();
        let result = self.sampler.should_sample(None, trace, "", &SpanKind::Server, &[], &[]);
        (result.decision == SamplingDecision::RecordAndSample).then(|| sampled(trace, TraceState::default()))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn sampled(trace: TraceId, state: TraceState) -> SpanContext {
    let id = RandomIdGenerator::default().new_span_id();
    SpanContext::new(trace, id, TraceFlags::SAMPLED, false, state)
}

/// The traces of a WebSocket's messages. A connection may last for days: each message is a trace of its own, which
/// is linked to the connection's, unless it names a parent.
pub struct Talk {
    traces: Arc<Traces>,
    name: String,
    /// Whether messages without a parent are sampled at all: whoever opened the connection may have said no.
    roots: bool,
    link: Option<SpanContext>,
    attributes: Vec<KeyValue>,
}

impl Talk {
    /// What is told of each message.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    pub fn begin(&self, parent: Option<&Parent>, at: Time) -> Option<Box<Span>> {
        if parent.is_none() && !self.roots {
            return None;
        }
        let mut span = self.traces.begin(|| self.name.clone(), parent, at)?;
        span.link.clone_from(&self.link);
        span.attributes.extend_from_slice(&self.attributes);
        Some(span)
    }
}
