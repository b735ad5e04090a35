//! Requests of one form: a client that asks again and again writes the same header each time, but for the `id`.
//!
//! What the header came to is kept, and a binary message with the same one is not decoded anew. Most of what a small
//! request costs outside the kernel is its JSON.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::infer::Wanted;
use crate::clock::Time;
use crate::protocol::MAX_ID;
use crate::queue::Draft;
use crate::tensor::{GroupKey, Payload};

/// A header longer than this is decoded each time; a connection keeps no more.
const LONGEST: usize = 4 << 10;

/// The form of a request that was taken.
pub struct Form {
    /// The header without the `id` that it began with.
    header: Box<[u8]>,
    /// Bytes behind it.
    tail: usize,
    /// Where each of the model's inputs lies in them.
    inputs: SmallVec<[Range<usize>; 2]>,
    rows: usize,
    key: GroupKey,
    priority: usize,
    timeout: Option<Duration>,
    outputs: SmallVec<[Wanted; 2]>,
    /// The `id`, if the header did not begin with it.
    id: Option<Box<str>>,
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
        message: &Bytes,
        draft: &Draft,
        outputs: &SmallVec<[Wanted; 2]>,
        id: Option<&str>,
    ) -> Option<Self> {
        let (header, tail) = split(message)?;
        let (begins_with_id, header) = cut_id(header);
        if header.len() > LONGEST {
            return None;
        }
        let place = |payload: &Payload| match payload {
            Payload::Rows(bytes) => place(tail, bytes),
            Payload::Message(_) | Payload::Signal(..) => None,
        };
        Some(Self {
            header: header.into(),
            tail: tail.len(),
            inputs: draft.payloads.iter().map(place).collect::<Option<_>>()?,
            rows: draft.rows,
            key: draft.key.clone(),
            priority: draft.priority,
            timeout: draft.deadline.map(|deadline| deadline - draft.enqueued),
            outputs: outputs.clone(),
            id: id.filter(|_| begins_with_id.is_none()).map(Box::from),
        })
    }

    /// What a message comes to, if it is of this form.
    pub fn repeat(&self, message: &Bytes, arrived: Time) -> Option<Repeated> {
        let (header, tail) = split(message)?;
        if tail.len() != self.tail {
            return None;
        }
        let (id, header) = cut_id(header);
        if *header != *self.header {
            return None;
        }
        let tail = message.slice_ref(tail);
        let input = |range: &Range<usize>| Payload::Rows(tail.slice(range.clone()));
        let draft = Draft {
            payloads: self.inputs.iter().map(input).collect(),
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

/// The header of a binary message, and what follows it.
fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = message.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
}

/// The `id` that a header begins with, and the header without it; the whole header if it does not, or not plainly.
fn cut_id(header: &[u8]) -> (Option<&str>, &[u8]) {
    let cut = || {
        let after = header.strip_prefix(br#"{"id":"#)?;
        let after = after.strip_prefix(b" ").unwrap_or(after).strip_prefix(b"\"")?;
        let end = after.iter().position(|&byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
        let (id, rest) = after.split_at_checked(end)?;
        let plain = rest.first() == Some(&b'"') && id.len() <= MAX_ID;
        plain.then_some((std::str::from_utf8(id).ok()?, rest))
    };
    cut().map_or((None, header), |(id, rest)| (Some(id), rest))
}

/// Where a part lies in the whole; `None` if it lies elsewhere.
fn place(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let range = start..start.checked_add(part.len())?;
    whole.get(range.clone()).map(|_| range)
}
