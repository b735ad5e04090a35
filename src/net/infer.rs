//! Inference requests: from a decoded message to the queue, and from an answer back to bytes.
//!
//! The same on HTTP and on `/infer` sockets.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::connection::Endpoint;
use super::form::{Form, Repeated};
use super::sequence;
use super::socket::append_frame;
use crate::clock::{Clock, Time};
use crate::error::{Code, Error, Result, excerpt};
use crate::metrics::Outcome;
use crate::protocol::{
    self, InferRequest, Layouts, OutputView, Parameters, Refusal, RequestedOutput, ResponseHead, Sequence,
    TraceContext,
};
use crate::queue::Draft;
use crate::registry::Served;
use crate::reply::{Answer, Mailbox};
use crate::tensor::{Fit, Offered, Payload, Rows};
use crate::trace::{Parent, Span, Talk};

/// What is kept of a request to encode its answer.
pub struct Pending {
    served: Arc<Served>,
    id: Option<Box<str>>,
    outputs: SmallVec<[Wanted; 2]>,
    arrived: Time,
    /// Whether its answer on a socket is a text message.
    text: bool,
    /// If it is traced.
    pub span: Option<Box<Span>>,
}

/// One output that a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    index: usize,
    binary: bool,
    classification: usize,
}

impl Pending {
    pub fn new(served: &Arc<Served>, arrived: Time, text: bool) -> Self {
        Self { served: Arc::clone(served), id: None, outputs: SmallVec::new(), arrived, text, span: None }
    }

    pub fn served(&self) -> &Arc<Served> {
        &self.served
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    #[cfg(test)]
    pub fn wanted(&self) -> &[Wanted] {
        &self.outputs
    }

    /// Whether any output is to be sent as binary data.
    pub fn any_binary(&self) -> bool {
        self.outputs.iter().any(|wanted| wanted.binary)
    }

    /// Encodes the rows as `encode` says, and counts how the request ended.
    pub fn encode<T>(
        &mut self,
        answer: Answer,
        now: Time,
        encode: impl FnOnce(&ResponseHead<'_>, &[OutputView<'_>]) -> Result<T>,
    ) -> Result<T> {
        if let (Some(span), Ok(rows)) = (&mut self.span, &answer) {
            span.set("thalweg.rows", i64::try_from(rows.count).unwrap_or(i64::MAX));
            rows.output.stages.iter().for_each(|stages| span.ran(stages, now));
        }
        let result = answer.and_then(|rows| {
            let head = ResponseHead {
                model: &self.served.name,
                version: &self.served.version_text,
                id: self.id.as_deref(),
            };
            encode(&head, &self.views(&rows))
        });
        let outcome = result.as_ref().map_or_else(|error| Outcome::Error(error.code), |_| Outcome::Success);
        self.served.metrics.answered(outcome, now - self.arrived);
        result
    }

    /// Its client left before the answer.
    pub fn abandon(self, now: Time) {
        self.served.metrics.answered(Outcome::Cancelled, std::time::Duration::ZERO);
        if let Some(span) = self.span {
            span.left(now);
        }
    }

    fn views<'a>(&'a self, rows: &'a Rows) -> SmallVec<[OutputView<'a>; 2]> {
        let view = |wanted: &Wanted| {
            let name = &self.served.signature.outputs.get(wanted.index)?.name;
            let slice = rows.column(wanted.index)?;
            let &Wanted { binary, classification, .. } = wanted;
            Some(OutputView { name, slice, binary, classification })
        };
        self.outputs.iter().filter_map(view).collect()
    }

    fn want(&mut self, requested: Option<Vec<RequestedOutput>>, binary: bool) -> Result<()> {
        let signature = &self.served.signature;
        let Some(requested) = requested else {
            let all = 0..signature.outputs.len();
            self.outputs = all.map(|index| Wanted { index, binary, classification: 0 }).collect();
            return Ok(());
        };
        let wanted = |output: RequestedOutput| {
            let index = signature.output_index(&output.name).ok_or_else(|| {
                let name = excerpt(&output.name);
                Error::new(Code::UnknownOutput, format!("the model has no output '{name}'"))
            })?;
            let RequestedOutput { classification, .. } = output;
            Ok(Wanted { index, binary: output.binary.unwrap_or(binary), classification })
        };
        self.outputs = requested.into_iter().map(wanted).collect::<Result<_>>()?;
        let mut seen = vec![false; signature.outputs.len()];
        // An answer would hold it as often as it is asked for.
        match self.outputs.iter().find(|wanted| std::mem::replace(&mut seen[wanted.index], true)) {
            Some(twice) => {
                let name = &signature.outputs[twice.index].name;
                Err(Error::new(Code::UnknownOutput, format!("output '{name}' is asked for twice")))
            }
            None => Ok(()),
        }
    }
}

/// A request as its model takes it, and the sequence that it is a step of.
type Prepared = (Draft, Option<Sequence>);

/// Sends a decoded request to its model.
pub fn submit(
    decoded: Result<InferRequest, Refusal>,
    mut pending: Pending,
    clock: Clock,
    mailbox: &Arc<Mailbox<Pending>>,
) {
    let prepared = prepare(decoded, &mut pending, false);
    hand_over(prepared, pending, clock, mailbox);
}

/// Fits a request to its model. `binary`: whether outputs that say nothing are binary data.
fn prepare(
    decoded: Result<InferRequest, Refusal>,
    pending: &mut Pending,
    binary: bool,
) -> Result<Prepared, Refusal> {
    let mut request = decoded?;
    pending.id = request.id.take();
    pending
        .want(request.outputs.take(), binary || request.parameters.binary_data_output)
        .and_then(|()| draft(&pending.served, request, pending.arrived))
        .map_err(|error| Refusal { error, id: pending.id.take() })
}

fn hand_over(
    prepared: Result<Prepared, Refusal>,
    mut pending: Pending,
    clock: Clock,
    mailbox: &Arc<Mailbox<Pending>>,
) {
    let served = Arc::clone(&pending.served);
    match prepared {
        Ok((draft, None)) if !served.signature.states.is_empty() => {
            drop(draft);
            let message = "the model keeps state: a request needs a sequence_id";
            mailbox.issue(pending).refuse(Error::new(Code::InvalidRequest, message));
        }
        Ok((draft, None)) => served.submit(0, draft, mailbox.issue(pending)),
        Ok((draft, Some(sequence))) => sequence::submit(sequence, draft, pending, clock, mailbox),
        Err(Refusal { error, id }) => {
            pending.id = id;
            mailbox.issue(pending).refuse(error);
        }
    }
}

fn draft(served: &Served, request: InferRequest, arrived: Time) -> Result<Prepared> {
    let InferRequest { parameters, inputs, .. } = request;
    let offered = inputs.iter().map(|input| Offered {
        name: &input.name,
        datatype: input.datatype,
        shape: &input.shape,
    });
    let Fit { order, rows, key } = served.signature.fit(offered)?;
    let payloads = order
        .iter()
        .filter_map(|&position| inputs.get(position))
        .map(|input| Payload::Rows(input.data.clone()))
        .collect();
    let Parameters { timeout, priority, sequence, .. } = parameters;
    if sequence.is_some() && rows != 1 {
        let message = format!("a step of a sequence has one row, the request has {rows}");
        return Err(Error::new(Code::BatchTooLarge, message));
    }
    let level = served.level(priority).ok_or_else(|| {
        let levels = served.file.dynamic_batching.priority_levels;
        let message = format!("priority {priority} was given, the model has {levels} levels");
        Error::new(Code::UnsupportedParameter, message)
    })?;
    let deadline = timeout.or(served.default_timeout()).map(|timeout| arrived + timeout);
    let draft = Draft { payloads, rows, key, slot: None, priority: level, enqueued: arrived, deadline };
    Ok((draft, sequence))
}

/// `/infer` on a socket: each message is a request, text for text and binary for binary.
pub struct InferEndpoint {
    served: Arc<Served>,
    clock: Clock,
    /// Only if there are traces.
    talk: Option<Box<Talk>>,
    /// That of the last request.
    form: Mutex<Option<Form>>,
    layouts: Mutex<Layouts>,
}

impl InferEndpoint {
    pub fn new(served: Arc<Served>, clock: Clock) -> Self {
        Self { served, clock, talk: None, form: Mutex::new(None), layouts: Mutex::default() }
    }

    /// Traces the messages that are sampled, if there are traces.
    #[must_use]
    pub fn traced(self, talk: Option<Box<Talk>>) -> Self {
        Self { talk, ..self }
    }

    /// Whether a message would be taken without being decoded.
    #[cfg(test)]
    pub fn knows(&self, text: bool, message: &Bytes) -> bool {
        self.repeat(text, message, self.clock.now()).is_some()
    }

    fn repeat(&self, text: bool, message: &Bytes, arrived: Time) -> Option<Repeated> {
        self.form.lock().as_ref()?.repeat(text, message, arrived)
    }

    fn take(&self, text: bool, message: Bytes, pending: &mut Pending) -> Result<Prepared, Refusal> {
        if let Some(repeated) = self.repeat(text, &message, pending.arrived) {
            pending.span = self.begin(None, repeated.id.as_deref(), pending.arrived);
            (pending.id, pending.outputs) = (repeated.id, repeated.outputs);
            return Ok((repeated.draft, None));
        }
        let decoded =
            if text { protocol::decode_json(&message) } else { protocol::decode_binary(message.clone()) };
        let request = decoded.as_ref().ok();
        let context = request.and_then(|request| request.parameters.trace.as_deref());
        pending.span =
            self.begin(context, request.and_then(|request| request.id.as_deref()), pending.arrived);
        let is_traced = context.is_some();
        let prepared = prepare(decoded, pending, !text)?;
        if let (draft, None) = &prepared
            && !is_traced
        {
            let signature = &self.served.signature;
            *self.form.lock() = Form::of(text, &message, signature, draft, &pending.outputs, pending.id());
        }
        Ok(prepared)
    }

    /// The span of a message that has been decoded, if it is traced.
    fn begin(&self, context: Option<&TraceContext>, id: Option<&str>, arrived: Time) -> Option<Box<Span>> {
        let talk = self.talk.as_ref()?;
        let parent = context.and_then(|context| Parent::parse(&context.parent, context.state.as_deref()));
        let mut span = talk.begin(parent.as_ref(), arrived)?;
        if let Some(id) = id {
            span.set("thalweg.message.id", id.to_owned());
        }
        span.stage("decode", self.clock.now());
        Some(span)
    }
}

impl Endpoint for InferEndpoint {
    type Context = Pending;

    fn greet(&self, _: &mut BytesMut) {}

    fn receive(&self, text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Pending>>) {
        let mut pending = Pending::new(&self.served, self.clock.now(), text);
        let prepared = self.take(text, payload, &mut pending);
        hand_over(prepared, pending, self.clock, mailbox);
    }

    fn is_sequential(&self) -> bool {
        false
    }

    fn unasked(&self) -> Pending {
        Pending::new(&self.served, self.clock.now(), true)
    }

    fn id<'c>(&self, pending: &'c Pending) -> Option<&'c str> {
        pending.id()
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn encoded(&self, begun: Time) {
        self.served.metrics.encoded(self.clock.now() - begun);
    }

    fn encode(&self, mut pending: Pending, answer: Answer, now: Time, out: &mut BytesMut) {
        let text = pending.text;
        let opcode = if text { OpCode::Text } else { OpCode::Binary };
        let encoded = append_frame(out, opcode, |out| {
            pending.encode(answer, now, |head, outputs| match text {
                true => protocol::encode_json(out, head, outputs),
                false => self.layouts.lock().encode(out, head, outputs),
            })
        });
        if let Err(error) = &encoded {
            append_error(out, error, pending.id(), false);
        }
        if let Some(span) = pending.span.take() {
            span.encoded(encoded.as_ref().err(), self.clock.now());
        }
    }

    fn abandon(&self, pending: Pending) {
        pending.abandon(self.clock.now());
    }
}

/// Appends an error as a text message: it is JSON, whatever the request was.
pub fn append_error(out: &mut BytesMut, error: &Error, id: Option<&str>, stream: bool) {
    let written: Result<(), Infallible> = append_frame(out, OpCode::Text, |out| {
        protocol::encode_error(out, error, id, stream);
        Ok(())
    });
    let Ok(()) = written;
}
