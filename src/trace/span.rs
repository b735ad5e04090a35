//! One request under way, as its span will tell of it.

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanLinks};
use smallvec::SmallVec;

use super::export::Queue;
use crate::clock::Time;
use crate::error::Error;
use crate::tensor::Stages;

/// Is sent when it has ended; one that is dropped before is not.
pub struct Span {
    pub(super) context: SpanContext,
    parent: SpanId,
    pub(super) link: Option<SpanContext>,
    name: String,
    start: Time,
    end: Time,
    /// Each is sent as a span of its own, within this one.
    stages: SmallVec<[(&'static str, Time, Time); 6]>,
    pub(super) attributes: Vec<KeyValue>,
    status: Status,
    queue: Arc<Queue>,
}

impl Span {
    pub(super) fn new(
        context: SpanContext,
        parent: SpanId,
        name: String,
        start: Time,
        queue: Arc<Queue>,
    ) -> Self {
        let (stages, attributes) = (SmallVec::new(), Vec::with_capacity(16));
        let (link, status, end) = (None, Status::Unset, start);
        Self { context, parent, link, name, start, end, stages, attributes, status, queue }
    }

    pub fn trace_id(&self) -> String {
        self.context.trace_id().to_string()
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value));
    }

    /// A part of the request's time: from the end of the part before to here.
    pub fn stage(&mut self, name: &'static str, until: Time) {
        let from = self.stages.last().map_or(self.start, |&(_, _, until)| until);
        self.stages.push((name, from, until.max(from)));
    }

    /// An answer has come back from a lane, and is about to be encoded.
    pub fn ran(&mut self, stages: &Stages, now: Time) {
        let Stages { taken, gathered, begun, landed, rows } = *stages;
        self.stage("queue", taken);
        self.stage("gather", gathered);
        // Where the device was still busy with another batch.
        if begun > gathered {
            self.stage("wait", begun);
        }
        self.stage("run", landed);
        self.stage("scatter", now);
        self.set("thalweg.batch.size", i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// The request was answered with an error; only those of the server make the span one that failed.
    pub fn failed(&mut self, error: &Error) {
        self.set("thalweg.error.code", error.code.as_str());
        if error.code.http_status() >= 500 {
            self.set("error.type", error.code.as_str());
            self.status = Status::error(error.message.clone());
        }
    }

    /// Its answer has been encoded, or the error that it has instead.
    pub fn encoded(mut self: Box<Self>, error: Option<&Error>, at: Time) {
        self.stage("encode", at);
        error.into_iter().for_each(|error| self.failed(error));
        self.finish(at);
    }

    /// Its client did not wait for the answer.
    pub fn left(mut self: Box<Self>, at: Time) {
        self.set("thalweg.error.code", "client_left");
        self.finish(at);
    }

    /// The request has ended.
    pub fn finish(mut self: Box<Self>, at: Time) {
        self.end = at.max(self.start);
        let queue = Arc::clone(&self.queue);
        queue.push(self);
    }

    /// How many spans it is sent as.
    pub(super) fn count(&self) -> usize {
        1 + self.stages.len()
    }

    /// As OpenTelemetry has it; `world` tells moments of the clock as dates.
    pub(super) fn data(
        self,
        scope: &InstrumentationScope,
        world: impl Fn(Time) -> std::time::SystemTime,
        out: &mut Vec<SpanData>,
    ) {
        let ids = RandomIdGenerator::default();
        let span = |context, parent, kind, name, from, until, attributes, status| SpanData {
            span_context: context,
            parent_span_id: parent,
            parent_span_is_remote: kind == SpanKind::Server,
            span_kind: kind,
            name,
            start_time: world(from),
            end_time: world(until),
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope.clone(),
        };
        let (own, state) = (self.context.span_id(), self.context.trace_state());
        out.extend(self.stages.iter().map(|&(name, from, until)| {
            let id = ids.new_span_id();
            let trace = self.context.trace_id();
            let context = SpanContext::new(trace, id, TraceFlags::SAMPLED, false, state.clone());
            span(
                context,
                own,
                SpanKind::Internal,
                Cow::Borrowed(name),
                from,
                until,
                Vec::new(),
                Status::Unset,
            )
        }));
        let kind = SpanKind::Server;
        let Self { context, parent, name, start, end, attributes, status, .. } = self;
        let mut own = span(context, parent, kind, name.into(), start, end, attributes, status);
        own.links.links.extend(self.link.map(Link::with_context));
        out.push(own);
    }
}
