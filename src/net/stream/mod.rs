//! `/stream` on a socket: plain messages are data for the model, and come back as results.

mod bytes;
mod command;
mod signal;
mod source;
mod steps;

use std::time::Duration;

use ::bytes::BytesMut;
use fastwebsockets::OpCode;
use serde_json::{Value, json};
use smallvec::SmallVec;

pub use bytes::ByteEndpoint;
pub use signal::SignalEndpoint;
pub use source::Source;

use super::connection::Limits;
use super::socket::append_frame;
use crate::clock::Time;
use crate::error::{Code, Error, Result};
use crate::protocol::{self, OutputView};
use crate::registry::Served;
use crate::reply::Answer;
use crate::tensor::Rows;
use crate::trace::{Span, Talk};

/// What a client chose in the query, whatever the model.
#[derive(Debug, Clone, Copy)]
pub struct Choices {
    pub greeting: bool,
    /// Raw output tensors in place of JSON.
    pub binary: bool,
    /// Only results in which something happened.
    pub events_only: bool,
}

/// Says what the connection is: the model, what it takes, and the limits.
fn greet(
    served: &Served,
    choices: Choices,
    limits: Limits,
    input: Value,
    controls: &[&str],
    out: &mut BytesMut,
) {
    if !choices.greeting {
        return;
    }
    let mut greeting = json!({
        "type": "session.created",
        "model": served.name,
        "version": served.version_text,
        "input": input,
    });
    if !controls.is_empty() {
        greeting["controls"] = json!(controls);
    }
    greeting["limits"] = json!({
        "max_message_size": limits.max_message_size,
        "max_requests_per_connection": limits.window,
    });
    let Ok(()) = text(out, |out| out.extend_from_slice(greeting.to_string().as_bytes())) else { return };
}

/// Says that the connection will end unless the client sends something.
fn warn(left: Duration, out: &mut BytesMut) {
    let Ok(()) = text(out, |out| protocol::encode_going_away(out, left.as_millis())) else { return };
}

/// The span of a step, if it is traced.
fn begin(talk: &Talk, seq: u64, at: Time) -> Option<Box<Span>> {
    let mut span = talk.begin(None, at)?;
    span.set("thalweg.step.seq", i64::try_from(seq).unwrap_or(i64::MAX));
    Some(span)
}

/// A step's answer has come, and is about to be encoded.
fn ran(span: &mut Span, answer: &Answer, now: Time) {
    if let Ok(Rows { output, .. }) = answer {
        output.stages.iter().for_each(|stages| span.ran(stages, now));
    }
}

/// Appends a text message that cannot fail.
fn text(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) -> Result<()> {
    append_frame(out, OpCode::Text, |out| {
        write(out);
        Ok(())
    })
}

/// All outputs of the model that clients see.
fn views<'a>(served: &'a Served, rows: &'a Rows) -> SmallVec<[OutputView<'a>; 2]> {
    let outputs = served.signature.outputs.iter().enumerate();
    outputs
        .filter_map(|(index, spec)| {
            let slice = rows.column(index)?;
            Some(OutputView { name: &spec.name, slice, binary: true, classification: 0 })
        })
        .collect()
}

/// An output's row of numbers.
fn scores(rows: &Rows, output: usize) -> Result<Vec<f32>> {
    let missing = || Error::new(Code::Internal, "the output to tell of is missing");
    let slice = rows.column(output).ok_or_else(missing)?;
    Ok(slice.chunks().flat_map(bytemuck::pod_collect_to_vec::<u8, f32>).collect())
}
