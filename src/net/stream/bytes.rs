//! Streams of separate messages: each is one request, and comes back as one result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use serde_json::json;
use smallvec::smallvec;

use super::{Choices, greet, scores, text, views, warn};
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::metrics::Outcome;
use crate::net::connection::{Endpoint, Limits};
use crate::net::infer::append_error;
use crate::net::socket::append_frame;
use crate::protocol::{self, ResponseHead};
use crate::queue::Draft;
use crate::registry::{ByteStream, Labels, Served, Telling};
use crate::reply::{Answer, Mailbox, Wakes};
use crate::tensor::{GroupKey, Payload, Rows};
use crate::trace::{Span, Talk};

pub struct ByteEndpoint {
    served: Arc<Served>,
    stream: ByteStream,
    choices: Choices,
    limits: Limits,
    clock: Clock,
    /// Messages received; only the reading half counts.
    received: AtomicU64,
    talk: Option<Box<Talk>>,
}

/// A message whose result is owed.
pub struct Step {
    seq: u64,
    arrived: Time,
    /// The message itself, where it is too short for the model.
    short: Option<Bytes>,
    span: Option<Box<Span>>,
}

impl ByteEndpoint {
    pub fn new(
        served: Arc<Served>,
        stream: ByteStream,
        choices: Choices,
        limits: Limits,
        clock: Clock,
    ) -> Self {
        Self { served, stream, choices, limits, clock, received: AtomicU64::new(0), talk: None }
    }

    /// Traces the messages that are sampled, if there are traces.
    #[must_use]
    pub fn traced(self, talk: Option<Box<Talk>>) -> Self {
        Self { talk, ..self }
    }

    fn labels(&self) -> Option<&Labels> {
        match &self.served.output {
            Some(Telling::Classes(labels)) => Some(labels),
            _ => None,
        }
    }

    fn step(&self) -> Step {
        let seq = self.received.fetch_add(1, Ordering::Relaxed);
        let arrived = self.clock.now();
        let span = self.talk.as_ref().and_then(|talk| super::begin(talk, seq, arrived));
        Step { seq, arrived, short: None, span }
    }

    fn write(&self, step: &Step, rows: &Rows, out: &mut BytesMut) -> Result<()> {
        if let (Some(labels), Some(message)) = (self.labels(), &step.short) {
            return text(out, |out| protocol::encode_told(out, step.seq, None, &labels.tell_short(message)));
        }
        if self.choices.binary {
            let Served { name, version_text, .. } = &*self.served;
            let head = ResponseHead { model: name, version: version_text, id: None };
            return append_frame(out, OpCode::Binary, |out| {
                protocol::encode_binary(out, &head, &views(&self.served, rows))
            });
        }
        match self.labels() {
            Some(labels) => {
                let scores = scores(rows, labels.output)?;
                text(out, |out| protocol::encode_told(out, step.seq, None, &labels.tell(&scores)))
            }
            None => append_frame(out, OpCode::Text, |out| {
                protocol::encode_result(out, step.seq, None, &views(&self.served, rows))
            }),
        }
    }
}

impl Endpoint for ByteEndpoint {
    type Context = Step;

    fn greet(&self, out: &mut BytesMut) {
        let input = json!({
            "encoding": "bytes",
            "messages": "each text or binary message is one request, and has one result, in order",
        });
        greet(&self.served, self.choices, self.limits, input, &[], out);
    }

    fn receive(&self, _text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Step>>) {
        let mut step = self.step();
        let head = self.stream.window.head_of(&payload);
        if self.labels().is_some() && head.len() < self.stream.min_length {
            step.short = Some(payload);
            mailbox.issue(step).answer(Ok(Rows::none()), &mut Wakes::default());
            return;
        }
        let draft = Draft {
            payloads: smallvec![Payload::Message(payload)],
            rows: 1,
            key: GroupKey::default(),
            slot: None,
            priority: self.served.level(0).unwrap_or(0),
            enqueued: step.arrived,
            deadline: self.served.default_timeout().map(|timeout| step.arrived + timeout),
        };
        self.served.submit(0, draft, mailbox.issue(step));
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn is_sequential(&self) -> bool {
        false
    }

    fn unasked(&self) -> Step {
        self.step()
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn encoded(&self, begun: Time) {
        self.served.metrics.encoded(self.clock.now() - begun);
    }

    fn encode(&self, mut step: Step, answer: Answer, now: Time, out: &mut BytesMut) {
        let mut span = step.span.take();
        span.iter_mut().for_each(|span| super::ran(span, &answer, now));
        let result = answer.and_then(|rows| self.write(&step, &rows, out));
        let outcome = match &result {
            Ok(()) => Outcome::Success,
            Err(error) => Outcome::Error(error.code),
        };
        self.served.metrics.answered(outcome, now - step.arrived);
        if let Err(error) = &result {
            append_error(out, error, None, true);
        }
        if let Some(span) = span {
            span.encoded(result.as_ref().err(), self.clock.now());
        }
    }

    fn warn(&self, left: Duration, out: &mut BytesMut) {
        warn(left, out);
    }

    fn abandon(&self, step: Step) {
        self.served.metrics.answered(Outcome::Cancelled, Duration::ZERO);
        if let Some(span) = step.span {
            span.left(self.clock.now());
        }
    }
}
