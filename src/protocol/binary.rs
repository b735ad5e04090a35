//! Binary framing: where the header ends, and whose the bytes behind it are.

use bytes::{Buf, Bytes};

use crate::error::{Code, Error, Result};
use crate::tensor::DataType;

/// Takes the header's length off the front of a message.
pub(super) fn header_len(message: &mut Bytes) -> Result<usize> {
    let len = message.try_get_u32_le().map_err(|error| {
        framing(format!("the header's length takes 4 bytes, the message has {}", error.available))
    })?;
    Ok(len as usize)
}

/// The header and what follows it.
pub(super) fn split(message: &Bytes, header_len: usize) -> Result<(&[u8], Bytes)> {
    let header = message.get(..header_len).ok_or_else(|| {
        framing(format!("the header is said to have {header_len} bytes, {} are left", message.len()))
    })?;
    Ok((header, message.slice(header_len..)))
}

/// Takes a tensor of `size` bytes off the front of what follows the header.
pub(super) fn take(tail: &mut Bytes, size: u64, datatype: DataType, count: usize) -> Result<Bytes> {
    let fits = usize::try_from(size).ok().filter(|&size| size <= tail.len());
    let size =
        fits.ok_or_else(|| framing(format!("beyond the {} bytes that are left: {size}", tail.len())))?;
    let data = tail.split_to(size);
    match datatype.size() {
        Some(element) if count.checked_mul(element) != Some(size) => {
            let message = format!("{count} elements of {datatype} are not {size} bytes");
            return Err(Error::new(Code::WrongElementCount, message));
        }
        Some(_) => {}
        None => check_strings(&data, count)?,
    }
    if datatype == DataType::Bool && data.iter().any(|&byte| byte > 1) {
        return Err(Error::new(Code::ValueOutOfRange, "a BOOL is a byte of 0 or 1"));
    }
    Ok(data)
}

/// Whether the lengths of `BYTES` elements add up to their bytes.
fn check_strings(data: &[u8], count: usize) -> Result<()> {
    let mut rest = data;
    let mut found = 0usize;
    while !rest.is_empty() {
        let after = string(rest).map(|(_, after)| after);
        rest = after.ok_or_else(|| framing(format!("element {found} ends beyond the tensor's bytes")))?;
        found += 1;
    }
    if found != count {
        let message = format!("{found} elements, the shape says {count}");
        return Err(Error::new(Code::WrongElementCount, message));
    }
    Ok(())
}

/// The first element of a `BYTES` tensor and what follows it.
pub(super) fn string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

#[cold]
fn framing(message: String) -> Error {
    Error::new(Code::InvalidFraming, message)
}
