//! Binary messages with the same header.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{LONGEST, Payloads, cut_id};
use crate::tensor::Payload;

pub struct Form {
    /// The header without the `id` that it began with.
    header: Box<[u8]>,
    /// Bytes behind it.
    tail: usize,
    /// Where each of the model's inputs lies in them.
    inputs: SmallVec<[Range<usize>; 2]>,
}

impl Form {
    /// The form, and the `id` that the header begins with.
    pub fn of<'m>(message: &'m Bytes, payloads: &Payloads) -> Option<(Option<&'m str>, Self)> {
        let (header, tail) = split(message)?;
        let (id, header) = cut_id(header);
        if header.len() > LONGEST {
            return None;
        }
        let place = |payload: &Payload| match payload {
            Payload::Rows(bytes) => place(tail, bytes),
            Payload::Message(_) | Payload::Signal(..) => None,
        };
        let inputs = payloads.iter().map(place).collect::<Option<_>>()?;
        Some((id, Self { header: header.into(), tail: tail.len(), inputs }))
    }

    /// The `id` and the tensors of a message, if it is of this form.
    pub fn repeat<'m>(&self, message: &'m Bytes) -> Option<(Option<&'m str>, Payloads)> {
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
        Some((id, self.inputs.iter().map(input).collect()))
    }
}

/// The header of a binary message, and what follows it.
fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = message.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
}

/// Where a part lies in the whole; `None` if it lies elsewhere.
fn place(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let range = start..start.checked_add(part.len())?;
    whole.get(range.clone()).map(|_| range)
}
