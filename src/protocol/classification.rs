//! The classification extension: the largest values of each row in place of the tensor.

use std::fmt::Write;

use half::{bf16, f16};

use crate::error::{Code, Error, Result};
use crate::tensor::{DataType, Shape, Slice, reduce};

/// `BYTES` elements `value:index`, the `k` largest along the last axis, and their shape.
pub(super) fn classify(name: &str, slice: &Slice<'_>, k: usize) -> Result<(Shape, Vec<u8>)> {
    match slice.datatype() {
        DataType::Uint8 => Ok(largest(slice, k, |b: [u8; 1]| f32::from(b[0]))),
        DataType::Uint16 => Ok(largest(slice, k, |b| f32::from(u16::from_le_bytes(b)))),
        DataType::Uint32 => Ok(largest(slice, k, |b| u32::from_le_bytes(b) as f32)),
        DataType::Uint64 => Ok(largest(slice, k, |b| u64::from_le_bytes(b) as f32)),
        DataType::Int8 => Ok(largest(slice, k, |b| f32::from(i8::from_le_bytes(b)))),
        DataType::Int16 => Ok(largest(slice, k, |b| f32::from(i16::from_le_bytes(b)))),
        DataType::Int32 => Ok(largest(slice, k, |b| i32::from_le_bytes(b) as f32)),
        DataType::Int64 => Ok(largest(slice, k, |b| i64::from_le_bytes(b) as f32)),
        DataType::Fp16 => Ok(largest(slice, k, |b| f16::from_le_bytes(b).to_f32())),
        DataType::Bf16 => Ok(largest(slice, k, |b| bf16::from_le_bytes(b).to_f32())),
        DataType::Fp32 => Ok(largest(slice, k, f32::from_le_bytes)),
        DataType::Fp64 => Ok(largest(slice, k, |b| f64::from_le_bytes(b) as f32)),
        datatype @ (DataType::Bool | DataType::Bytes) => {
            let message = format!("output '{name}' is {datatype}, which has no largest values");
            Err(Error::new(Code::UnsupportedParameter, message))
        }
    }
}

fn largest<const N: usize>(slice: &Slice<'_>, k: usize, value: fn([u8; N]) -> f32) -> (Shape, Vec<u8>) {
    let mut shape = slice.shape();
    let classes = shape.last().copied().unwrap_or(1);
    let k = k.min(classes);
    match shape.last_mut() {
        Some(last) => *last = k,
        None => shape.push(k),
    }
    let mut out = Vec::new();
    let mut text = String::new();
    let mut row = Vec::with_capacity(classes);
    // Whatever the batch axis, a piece holds whole rows of the last one.
    for &element in slice.chunks().flat_map(|chunk| chunk.as_chunks::<N>().0) {
        row.push(value(element));
        if row.len() < classes {
            continue;
        }
        for (index, value) in reduce::top_k(&row, k) {
            text.clear();
            // Writing to a string cannot fail, nor can so short a text outgrow its length.
            let _ = write!(text, "{value}:{index}");
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        row.clear();
    }
    (shape, out)
}
