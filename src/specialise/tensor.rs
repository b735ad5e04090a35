//! Constants of an ONNX file.

use super::model::number::*;
use super::wire::{Damaged, Value, fields, put_bytes, put_number};
use crate::tensor::DataType;

/// ONNX's number of a datatype.
fn element_type(datatype: DataType) -> u64 {
    match datatype {
        DataType::Fp32 => 1,
        DataType::Uint8 => 2,
        DataType::Int8 => 3,
        DataType::Uint16 => 4,
        DataType::Int16 => 5,
        DataType::Int32 => 6,
        DataType::Int64 => 7,
        DataType::Bytes => 8,
        DataType::Bool => 9,
        DataType::Fp16 => 10,
        DataType::Fp64 => 11,
        DataType::Uint32 => 12,
        DataType::Uint64 => 13,
        DataType::Bf16 => 16,
    }
}

/// A tensor with little-endian elements; each of `BYTES` stands behind its length in four bytes.
pub fn write(name: &str, datatype: DataType, shape: &[usize], data: &[u8]) -> Result<Vec<u8>, Damaged> {
    let mut out = Vec::with_capacity(data.len() + name.len() + 64);
    for &size in shape {
        put_number(&mut out, TENSOR_DIMS, size as u64);
    }
    put_number(&mut out, TENSOR_DATATYPE, element_type(datatype));
    put_bytes(&mut out, TENSOR_NAME, name.as_bytes());
    if datatype != DataType::Bytes {
        put_bytes(&mut out, TENSOR_RAW, data);
        return Ok(out);
    }
    let mut rest = data;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or(Damaged)?;
        let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(Damaged)?;
        put_bytes(&mut out, TENSOR_STRING, text);
        rest = after;
    }
    Ok(out)
}

/// More axes than any shape has; a number takes ten bytes at the most.
const FEW: usize = 64;

/// A tensor of a few integers.
#[derive(Debug, PartialEq, Eq)]
pub struct Integers {
    pub shape: Vec<usize>,
    pub values: Vec<i64>,
}

/// Reads a tensor of a few integers; `None` if it is another one.
pub fn integers(tensor: &[u8]) -> Result<Option<Integers>, Damaged> {
    let (mut shape, mut values, mut datatype) = (Vec::new(), Vec::new(), 0);
    let mut raw: Option<&[u8]> = None;
    for field in fields(tensor) {
        let field = field?;
        if field.raw.len() > 10 * FEW || shape.len() + values.len() > FEW {
            return Ok(None);
        }
        match field.number {
            TENSOR_DIMS => {
                let dims = field.numbers()?;
                let sizes = dims.into_iter().map(|size| usize::try_from(size).map_err(|_| Damaged));
                shape.extend(sizes.collect::<Result<Vec<_>, _>>()?);
            }
            TENSOR_DATATYPE => datatype = field.number()?,
            // A negative number is sign-extended to 64 bits.
            TENSOR_INT32 | TENSOR_INT64 => {
                values.extend(field.numbers()?.into_iter().map(u64::cast_signed));
            }
            TENSOR_RAW => raw = Some(field.bytes()?),
            _ => {}
        }
    }
    let four = |bytes: &[u8; 4]| i64::from(i32::from_le_bytes(*bytes));
    match (datatype, raw) {
        (6, Some(raw)) => values = raw.as_chunks().0.iter().map(four).collect(),
        (7, Some(raw)) => values = raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
        (6 | 7, None) => {}
        _ => return Ok(None),
    }
    let count = crate::tensor::element_count(&shape);
    Ok((count == Some(values.len())).then_some(Integers { shape, values }))
}

/// A tensor of FP32 elements.
#[derive(Debug, PartialEq)]
pub struct Floats {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Reads a tensor of FP32 elements; `None` if it is another one.
pub fn floats(tensor: &[u8]) -> Result<Option<Floats>, Damaged> {
    let (mut shape, mut data, mut datatype) = (Vec::new(), Vec::new(), 0);
    for field in fields(tensor) {
        let field = field?;
        match field.number {
            TENSOR_DIMS => shape.extend(field.numbers()?),
            TENSOR_DATATYPE => datatype = field.number()?,
            TENSOR_RAW | TENSOR_FLOAT => {
                let (Value::Bytes(bytes) | Value::Fixed(bytes)) = field.value else { return Err(Damaged) };
                data.extend_from_slice(bytes);
            }
            _ => {}
        }
    }
    if datatype != element_type(DataType::Fp32) {
        return Ok(None);
    }
    let shape: Vec<_> =
        shape.into_iter().map(usize::try_from).collect::<Result<_, _>>().map_err(|_| Damaged)?;
    let values: Vec<_> = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let whole = crate::tensor::element_count(&shape) == Some(values.len());
    Ok(whole.then_some(Floats { shape, values }))
}
