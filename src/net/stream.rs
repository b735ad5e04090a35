//! `/stream` on a socket: each message is data for the model, and comes back as a result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastwebsockets::OpCode;
use serde_json::json;
use smallvec::{SmallVec, smallvec};

use super::connection::{Endpoint, Limits};
use super::infer::append_error;
use super::socket::append_frame;
use crate::clock::{Clock, Time};
use crate::error::{Code, Error, Result};
use crate::metrics::Outcome;
use crate::protocol::{self, OutputView, ResponseHead};
use crate::queue::Draft;
use crate::registry::{Labels, Served, Stream};
use crate::reply::{Answer, Mailbox, Wakes};
use crate::tensor::{GroupKey, Payload, Rows};

/// What a client chose in the query.
#[derive(Debug, Clone, Copy)]
pub struct Choices {
    pub greeting: bool,
    /// Raw output tensors in place of JSON.
    pub binary: bool,
}

pub struct StreamEndpoint {
    served: Arc<Served>,
    /// The model's `[stream]`, which the endpoint cannot do without.
    stream: Stream,
    choices: Choices,
    limits: Limits,
    clock: Clock,
    /// Messages received; only the reading half counts.
    received: AtomicU64,
}

/// A message whose result is owed.
pub struct Step {
    seq: u64,
    arrived: Time,
    /// The message itself, where it is too short for the model.
    short: Option<Bytes>,
}

impl StreamEndpoint {
    pub fn new(served: Arc<Served>, choices: Choices, limits: Limits, clock: Clock) -> Result<Self> {
        let stream = served.stream.clone().ok_or_else(|| {
            let message = format!("model '{}' has no [stream] in its model.toml; use /infer", served.name);
            Error::new(Code::StreamUnsupported, message)
        })?;
        Ok(Self { served, stream, choices, limits, clock, received: AtomicU64::new(0) })
    }

    fn step(&self) -> Step {
        let seq = self.received.fetch_add(1, Ordering::Relaxed);
        Step { seq, arrived: self.clock.now(), short: None }
    }

    fn write(&self, step: &Step, rows: &Rows, out: &mut BytesMut) -> Result<()> {
        if let (Some(labels), Some(message)) = (&self.served.labels, &step.short) {
            return text(out, |out| protocol::encode_told(out, step.seq, &labels.tell_short(message)));
        }
        let views = || -> SmallVec<[OutputView<'_>; 2]> {
            let outputs = self.served.signature.outputs.iter().enumerate();
            outputs
                .filter_map(|(index, spec)| {
                    let slice = rows.column(index)?;
                    Some(OutputView { name: &spec.name, slice, binary: true, classification: 0 })
                })
                .collect()
        };
        if self.choices.binary {
            let Served { name, version_text, .. } = &*self.served;
            let head = ResponseHead { model: name, version: version_text, id: None };
            return append_frame(out, OpCode::Binary, |out| protocol::encode_binary(out, &head, &views()));
        }
        match &self.served.labels {
            Some(labels) => {
                let scores = scores(rows, labels)?;
                text(out, |out| protocol::encode_told(out, step.seq, &labels.tell(&scores)))
            }
            None => append_frame(out, OpCode::Text, |out| protocol::encode_result(out, step.seq, &views())),
        }
    }
}

impl Endpoint for StreamEndpoint {
    type Context = Step;

    fn greet(&self, out: &mut BytesMut) {
        if !self.choices.greeting {
            return;
        }
        let greeting = json!({
            "type": "session.created",
            "model": self.served.name,
            "version": self.served.version_text,
            "input": {
                "encoding": "bytes",
                "messages": "each text or binary message is one request, and has one result, in order",
            },
            "limits": {
                "max_message_size": self.limits.max_message_size,
                "max_requests_per_connection": self.limits.window,
            },
        });
        let Ok(()) = text(out, |out| out.extend_from_slice(greeting.to_string().as_bytes())) else { return };
    }

    fn receive(&self, _text: bool, payload: Bytes, mailbox: &Arc<Mailbox<Step>>) {
        let mut step = self.step();
        let head = self.stream.window.head_of(&payload);
        if self.served.labels.is_some() && head.len() < self.stream.min_length {
            step.short = Some(payload);
            mailbox.issue(step).answer(Ok(Rows::none()), &mut Wakes::default());
            return;
        }
        let draft = Draft {
            payloads: smallvec![Payload::Message(payload)],
            rows: 1,
            key: GroupKey::default(),
            priority: self.served.level(0).unwrap_or(0),
            enqueued: step.arrived,
            deadline: self.served.default_timeout().map(|timeout| step.arrived + timeout),
        };
        self.served.producer.submit(draft, mailbox.issue(step));
    }

    fn unasked(&self) -> Step {
        self.step()
    }

    fn encode(&self, step: Step, answer: Answer, out: &mut BytesMut) {
        let result = answer.and_then(|rows| self.write(&step, &rows, out));
        let outcome = match &result {
            Ok(()) => Outcome::Success,
            Err(error) => Outcome::Error(error.code),
        };
        self.served.metrics.answered(outcome, self.clock.now() - step.arrived);
        if let Err(error) = result {
            append_error(out, &error, None, true);
        }
    }

    fn abandon(&self, _: Step) {
        self.served.metrics.answered(Outcome::Cancelled, Duration::ZERO);
    }
}

fn text(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) -> Result<()> {
    append_frame(out, OpCode::Text, |out| {
        write(out);
        Ok(())
    })
}

/// The labelled output's row.
fn scores(rows: &Rows, labels: &Labels) -> Result<Vec<f32>> {
    let missing = || Error::new(Code::Internal, "the labelled output is missing");
    let slice = rows.column(labels.output).ok_or_else(missing)?;
    Ok(slice.chunks().flat_map(bytemuck::pod_collect_to_vec::<u8, f32>).collect())
}
