//! String tensors. ONNX Runtime keeps each element as a `std::string`, which may hold any bytes; `ort` offers
//! only UTF-8 without NUL, so these go through its C interface.

use std::ptr;

use ort::AsPointer;
use ort::memory::Allocator;
use ort::ortsys;
use ort::value::{DynTensor, DynValue, TensorElementType};

use super::values::internal;
use crate::error::{Code, Error, Result};
use crate::tensor::{Storage, element_count};

/// A string tensor from elements in wire form: a little-endian `u32` length and that many bytes, each.
pub(super) fn tensor(shape: &[usize], wire: &[u8]) -> Result<DynValue> {
    let malformed = || Error::new(Code::Internal, "a batch of strings is malformed");
    let mut value = DynTensor::new(&Allocator::default(), TensorElementType::String, shape.to_vec())
        .map_err(|error| internal(&error))?;
    let mut rest = wire;
    for index in 0..element_count(shape).ok_or_else(malformed)? {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| malformed())?;
        let (element, behind) = behind.split_at_checked(length).ok_or_else(malformed)?;
        set(&mut value, index, element).map_err(|error| internal(&error))?;
        rest = behind;
    }
    if rest.is_empty() { Ok(value.into_dyn()) } else { Err(malformed()) }
}

fn set(value: &mut DynTensor, index: usize, element: &[u8]) -> ort::Result<()> {
    let mut buffer = ptr::null_mut();
    // SAFETY: `value` is a string tensor that we own and `index` is below its element count. The call sizes
    // that element to `element.len()` bytes and returns where they lie.
    ortsys![unsafe GetResizedStringTensorElementBuffer(value.ptr_mut(), index, element.len(), &mut buffer)?];
    // SAFETY: `buffer` has `element.len()` bytes, and as ONNX Runtime's it does not overlap ours.
    unsafe { ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast::<u8>(), element.len()) };
    Ok(())
}

/// The elements of a string tensor in wire form.
pub(super) fn content(value: &mut DynTensor, count: usize) -> Result<Storage> {
    let (joined, starts) = joined(value, count).map_err(|error| internal(&error))?;
    let mut bytes = Vec::with_capacity(joined.len() + 4 * count);
    let mut offsets = Vec::with_capacity(count + 1);
    offsets.push(0);
    let ends = starts.iter().skip(1).copied().chain([joined.len()]);
    for (&start, end) in starts.iter().zip(ends) {
        let element = joined.get(start..end).unwrap_or_default();
        let length = u32::try_from(element.len())
            .map_err(|_| Error::new(Code::InferenceFailed, "an output string is longer than 4 GiB"))?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(element);
        offsets.push(bytes.len());
    }
    Ok(Storage::Strings { bytes, offsets })
}

/// All elements behind each other, and where each starts.
fn joined(value: &mut DynTensor, count: usize) -> ort::Result<(Vec<u8>, Vec<usize>)> {
    let mut length = 0;
    // SAFETY: `value` is a string tensor; the call only writes `length`.
    ortsys![unsafe GetStringTensorDataLength(value.ptr(), &mut length)?];
    let (mut bytes, mut starts) = (vec![0u8; length], vec![0usize; count]);
    let (data, offsets) = (bytes.as_mut_ptr().cast(), starts.as_mut_ptr());
    // SAFETY: the buffers have the lengths that are passed: the total just read, and one offset an element.
    ortsys![unsafe GetStringTensorContent(value.ptr(), data, length, offsets, count)?];
    Ok((bytes, starts))
}
