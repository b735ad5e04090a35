//! Requests of one form: a client that asks again and again writes the same JSON each time, but for the `id` and the
//! numbers.
//!
//! What a request came to is kept, and a message of the same form is not decoded anew. Most of what a small request
//! costs outside the kernel is its JSON.

mod binary;
mod text;

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::infer::Wanted;
use crate::clock::Time;
use crate::protocol::MAX_ID;
use crate::queue::Draft;
use crate::tensor::{DataType, GroupKey, Payload, Signature};

/// JSON longer than this, without its numbers, is decoded each time; a connection keeps no more.
const LONGEST: usize = 4 << 10;

type Payloads = SmallVec<[Payload; 2]>;

/// The form of a request that was taken.
pub struct Form {
    message: Message,
    rows: usize,
    key: GroupKey,
    priority: usize,
    timeout: Option<Duration>,
    outputs: SmallVec<[Wanted; 2]>,
    /// The `id`, if the JSON did not begin with it.
    id: Option<Box<str>>,
}

enum Message {
    Binary(binary::Form),
    Text(text::Form),
}

/// A request of a form that is known.
pub struct Repeated {
    pub draft: Draft,
    pub outputs: SmallVec<[Wanted; 2]>,
    pub id: Option<Box<str>>,
}

impl Form {
    /// The form of a message whose decoding came to this. `None` if others of the form could differ in what they
    /// come to: only tensors whose bytes mean the same wherever they stand are taken unseen.
    pub fn of(
        is_text: bool,
        message: &Bytes,
        signature: &Signature,
        draft: &Draft,
        outputs: &SmallVec<[Wanted; 2]>,
        id: Option<&str>,
    ) -> Option<Self> {
        let as_they_are = |datatype: DataType| !matches!(datatype, DataType::Bytes | DataType::Bool);
        if !signature.inputs.iter().all(|spec| as_they_are(spec.datatype)) {
            return None;
        }
        let (begun, message) = if is_text {
            let (begun, form) = text::Form::of(message, signature, &draft.payloads)?;
            (begun, Message::Text(form))
        } else {
            let (begun, form) = binary::Form::of(message, &draft.payloads)?;
            (begun, Message::Binary(form))
        };
        Some(Self {
            message,
            rows: draft.rows,
            key: draft.key.clone(),
            priority: draft.priority,
            timeout: draft.deadline.map(|deadline| deadline - draft.enqueued),
            outputs: outputs.clone(),
            id: id.filter(|_| begun.is_none()).map(Box::from),
        })
    }

    /// What a message comes to, if it is of this form.
    pub fn repeat(&self, is_text: bool, message: &Bytes, arrived: Time) -> Option<Repeated> {
        let (id, payloads) = match &self.message {
            Message::Binary(form) if !is_text => form.repeat(message)?,
            Message::Text(form) if is_text => form.repeat(message)?,
            _ => return None,
        };
        let draft = Draft {
            payloads,
            rows: self.rows,
            key: self.key.clone(),
            slot: None,
            priority: self.priority,
            enqueued: arrived,
            deadline: self.timeout.map(|timeout| arrived + timeout),
        };
        let id = id.map(Box::from).or_else(|| self.id.clone());
        Some(Repeated { draft, outputs: self.outputs.clone(), id })
    }
}

/// The `id` that JSON begins with, and the JSON without it; all of it if it does not, or not plainly.
fn cut_id(json: &[u8]) -> (Option<&str>, &[u8]) {
    let cut = || {
        let after = json.strip_prefix(br#"{"id":"#)?;
        let after = after.strip_prefix(b" ").unwrap_or(after).strip_prefix(b"\"")?;
        let end = after.iter().position(|&byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
        let (id, rest) = after.split_at_checked(end)?;
        let plain = rest.first() == Some(&b'"') && id.len() <= MAX_ID;
        plain.then_some((std::str::from_utf8(id).ok()?, rest))
    };
    cut().map_or((None, json), |(id, rest)| (Some(id), rest))
}
