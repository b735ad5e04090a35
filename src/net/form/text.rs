//! Text messages with the same JSON around the numbers of their one input.

use std::ops::Range;

use smallvec::smallvec;

use super::{LONGEST, Payloads, cut_id};
use crate::protocol;
use crate::tensor::{DataType, Payload, Signature};

pub struct Form {
    /// The JSON up to the numbers' array, without the `id` that it began with.
    before: Box<[u8]>,
    /// The JSON behind that array.
    behind: Box<[u8]>,
    datatype: DataType,
    count: usize,
}

impl Form {
    /// The form, and the `id` that the message begins with.
    pub fn of<'m>(
        message: &'m [u8],
        signature: &Signature,
        payloads: &Payloads,
    ) -> Option<(Option<&'m str>, Self)> {
        let ([input], [Payload::Rows(data)]) = (&*signature.inputs, &**payloads) else { return None };
        let (id, json) = cut_id(message);
        let array = innermost(json)?;
        let count = data.len() / input.datatype.size()?;
        let commas = json.get(array.clone())?.iter().filter(|&&byte| byte == b',').count();
        let (before, behind) = (json.get(..array.start)?, json.get(array.end..)?);
        // Otherwise it is one of several arrays.
        let is_all = commas + 1 == count;
        if !is_all || before.len() + behind.len() > LONGEST || !is_sure(before, behind) {
            return None;
        }
        let form = Self { before: before.into(), behind: behind.into(), datatype: input.datatype, count };
        Some((id, form))
    }

    /// The `id` and the tensor of a message, if it is of this form.
    pub fn repeat<'m>(&self, message: &'m [u8]) -> Option<(Option<&'m str>, Payloads)> {
        let (id, json) = cut_id(message);
        let array = json.strip_prefix(&*self.before)?.strip_suffix(&*self.behind)?;
        let data = protocol::numbers(array, self.datatype, self.count)?;
        Some((id, smallvec![Payload::Rows(data)]))
    }
}

/// Where the first innermost array lies of the first member called `data`.
fn innermost(json: &[u8]) -> Option<Range<usize>> {
    let value = data(json)?;
    let brackets = value.iter().position(|byte| !matches!(byte, b'[' | b' ' | b'\n' | b'\r' | b'\t'))?;
    let open = value.get(..brackets)?.iter().rposition(|&byte| byte == b'[')?;
    let start = json.len() - value.len() + open;
    let len = json.get(start..)?.iter().position(|&byte| byte == b']')?;
    Some(start..start + len + 1)
}

/// Whether the array between is the data of a valid request's only input. A member that the server does not know may be
/// called `data`, too, and with escapes any name could be that.
fn is_sure(before: &[u8], behind: &[u8]) -> bool {
    let escapes = before.contains(&b'\\') || behind.contains(&b'\\');
    !escapes && data(behind).is_none()
}

/// What follows the first member's name that is `data`, and its colon.
fn data(json: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = br#""data""#;
    (0..json.len()).find_map(|at| {
        let behind = json.get(at..)?.strip_prefix(NAME)?;
        behind.trim_ascii_start().strip_prefix(b":")
    })
}
