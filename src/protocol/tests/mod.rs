//! What the module promises as a whole, from the outside.

mod decode;
mod encode;
mod robustness;
mod round_trip;

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::tensor::{BatchOutput, Column, DataType, Rows, Storage};

/// A binary message of a header and what follows it.
fn framed(header: &str, tail: &[u8]) -> Bytes {
    let len = u32::try_from(header.len()).unwrap().to_le_bytes();
    [&len[..], header.as_bytes(), tail].concat().into()
}

/// Strings as the wire writes them.
fn strings(elements: &[&[u8]]) -> Vec<u8> {
    let element = |text: &&[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat();
    elements.iter().flat_map(element).collect()
}

/// A batch of one output, all its rows.
fn batch(datatype: DataType, shape: &[usize], batch_axis: Option<usize>, bytes: Vec<u8>) -> Rows {
    let count = batch_axis.map_or(1, |axis| shape[axis]);
    let storage = if datatype == DataType::Bytes {
        let mut offsets = vec![0];
        let mut rest = &bytes[..];
        while let Some((_, after)) = binary::string(rest) {
            offsets.push(bytes.len() - after.len());
            rest = after;
        }
        Storage::Strings { bytes, offsets }
    } else {
        Storage::Fixed(Box::new(bytes))
    };
    let column = Column::new(datatype, shape.into(), batch_axis, storage).expect("the bytes fit the shape");
    Rows { output: Arc::new(BatchOutput { columns: vec![column] }), start: 0, count }
}
