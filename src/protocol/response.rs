//! Answers to inference requests, written to the end of a buffer that the caller keeps.

use bytes::{BufMut, BytesMut};
use half::{bf16, f16};
use smallvec::SmallVec;

use super::stream::Span;
use super::text::{escaped, float, integer, raw, string};
use super::{binary, classification, stream};
use crate::error::{Code, Error, Result};
use crate::tensor::{DataType, Shape, Slice};

/// Which model answers which request.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub id: Option<&'a str>,
}

/// One output as the request wants it.
#[derive(Clone, Copy)]
pub struct OutputView<'a> {
    pub name: &'a str,
    pub slice: Slice<'a>,
    /// Binary data, in answers that can carry it.
    pub binary: bool,
    /// How many of the largest values to send in place of the tensor; 0 sends the tensor.
    pub classification: usize,
}

/// Appends an answer whose outputs are all JSON.
pub fn encode_json(out: &mut BytesMut, head: &ResponseHead<'_>, outputs: &[OutputView<'_>]) -> Result<()> {
    let outputs = outputs.iter().map(|output| Part::new(&OutputView { binary: false, ..*output }));
    let outputs = outputs.collect::<Result<Parts<'_>>>()?;
    whole(out, |out| header(out, head, &outputs))
}

/// Appends the outputs as the `seq`th result of a stream, all in JSON.
pub fn encode_result(
    out: &mut BytesMut,
    seq: u64,
    span: Option<Span>,
    outputs: &[OutputView<'_>],
) -> Result<()> {
    let outputs = outputs.iter().map(|output| Part::new(&OutputView { binary: false, ..*output }));
    let outputs = outputs.collect::<Result<Parts<'_>>>()?;
    whole(out, |out| {
        stream::head(out, seq, span);
        raw(out, r#","outputs":"#);
        array(out, &outputs)?;
        out.put_u8(b'}');
        Ok(())
    })
}

/// Appends a JSON header, whose length it returns, and the binary tensors behind it.
pub fn encode_framed(
    out: &mut BytesMut,
    head: &ResponseHead<'_>,
    outputs: &[OutputView<'_>],
) -> Result<usize> {
    let outputs = outputs.iter().map(Part::new).collect::<Result<Parts<'_>>>()?;
    whole(out, |out| {
        let start = out.len();
        header(out, head, &outputs)?;
        let header_len = out.len() - start;
        let binary = || outputs.iter().filter(|output| output.binary);
        out.reserve(binary().map(|output| output.len).sum());
        binary().flat_map(Part::chunks).for_each(|chunk| out.extend_from_slice(chunk));
        Ok(header_len)
    })
}

/// Appends the header's length, a little-endian `u32`, before what [`encode_framed`] does.
pub fn encode_binary(out: &mut BytesMut, head: &ResponseHead<'_>, outputs: &[OutputView<'_>]) -> Result<()> {
    whole(out, |out| {
        let start = out.len();
        out.put_u32_le(0);
        let header_len = encode_framed(out, head, outputs)?;
        let header_len = u32::try_from(header_len)
            .map_err(|_| Error::new(Code::NotRepresentable, "the answer's header exceeds 4 GiB"))?;
        if let Some(field) = out[start..].first_chunk_mut() {
            *field = header_len.to_le_bytes();
        }
        Ok(())
    })
}

/// Leaves `out` as it was unless `write` succeeds.
fn whole<T>(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> Result<T>) -> Result<T> {
    let before = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn header(out: &mut BytesMut, head: &ResponseHead<'_>, outputs: &[Part<'_>]) -> Result<()> {
    model(out, head);
    id(out, head);
    rest(out, outputs)
}

/// The beginning of a header.
pub(super) fn model(out: &mut BytesMut, head: &ResponseHead<'_>) {
    raw(out, r#"{"model_name":""#);
    escaped(out, head.model);
    raw(out, r#"","model_version":""#);
    escaped(out, head.version);
    raw(out, r#"""#);
}

/// What follows it if the request had an `id`.
pub(super) fn id(out: &mut BytesMut, head: &ResponseHead<'_>) {
    if let Some(id) = head.id {
        raw(out, r#","id":""#);
        escaped(out, id);
        raw(out, r#"""#);
    }
}

/// The end of a header.
pub(super) fn outputs(out: &mut BytesMut, outputs: &[OutputView<'_>]) -> Result<()> {
    let outputs = outputs.iter().map(Part::new).collect::<Result<Parts<'_>>>()?;
    rest(out, &outputs)
}

fn rest(out: &mut BytesMut, outputs: &[Part<'_>]) -> Result<()> {
    raw(out, r#","outputs":"#);
    array(out, outputs)?;
    out.put_u8(b'}');
    Ok(())
}

/// The outputs, without what stands around them.
fn array(out: &mut BytesMut, outputs: &[Part<'_>]) -> Result<()> {
    out.put_u8(b'[');
    for (index, output) in outputs.iter().enumerate() {
        raw(out, if index == 0 { r#"{"name":""# } else { r#",{"name":""# });
        escaped(out, output.name);
        raw(out, r#"","datatype":""#);
        raw(out, output.datatype.as_str());
        raw(out, r#"","shape":["#);
        for (axis, &size) in output.shape.iter().enumerate() {
            if axis > 0 {
                out.put_u8(b',');
            }
            integer(out, size);
        }
        if output.binary {
            raw(out, r#"],"parameters":{"binary_data_size":"#);
            integer(out, output.len);
            raw(out, "}}");
        } else {
            raw(out, r#"],"data":["#);
            output.data(out)?;
            raw(out, "]}");
        }
    }
    out.put_u8(b']');
    Ok(())
}

type Parts<'a> = SmallVec<[Part<'a>; 2]>;

/// One output as it is sent.
struct Part<'a> {
    name: &'a str,
    datatype: DataType,
    shape: Shape,
    slice: Slice<'a>,
    /// Sent in place of the slice.
    classes: Option<Vec<u8>>,
    binary: bool,
    /// In bytes, if it is binary.
    len: usize,
}

impl<'a> Part<'a> {
    fn new(&OutputView { name, slice, binary, classification }: &OutputView<'a>) -> Result<Self> {
        let (datatype, shape, classes) = if classification == 0 {
            (slice.datatype(), slice.shape(), None)
        } else {
            let (shape, classes) = classification::classify(name, &slice, classification)?;
            (DataType::Bytes, shape, Some(classes))
        };
        let part = Self { name, datatype, shape, slice, classes, binary, len: 0 };
        let len = if binary { part.chunks().map(<[u8]>::len).sum() } else { 0 };
        Ok(Self { len, ..part })
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let slice = self.classes.is_none().then(|| self.slice.chunks());
        self.classes.as_deref().into_iter().chain(slice.into_iter().flatten())
    }

    /// Writes the elements as JSON, flat.
    fn data(&self, out: &mut BytesMut) -> Result<()> {
        let written = match self.datatype {
            DataType::Bool => self.each(out, |out, b: [u8; 1]| {
                raw(out, if b == [0] { "false" } else { "true" });
                true
            }),
            DataType::Uint8 => self.integers(out, u8::from_le_bytes),
            DataType::Uint16 => self.integers(out, u16::from_le_bytes),
            DataType::Uint32 => self.integers(out, u32::from_le_bytes),
            DataType::Uint64 => self.integers(out, u64::from_le_bytes),
            DataType::Int8 => self.integers(out, i8::from_le_bytes),
            DataType::Int16 => self.integers(out, i16::from_le_bytes),
            DataType::Int32 => self.integers(out, i32::from_le_bytes),
            DataType::Int64 => self.integers(out, i64::from_le_bytes),
            DataType::Fp16 => self.floats(out, |b| f16::from_le_bytes(b).to_f32()),
            DataType::Bf16 => self.floats(out, |b| bf16::from_le_bytes(b).to_f32()),
            DataType::Fp32 => self.floats(out, f32::from_le_bytes),
            DataType::Fp64 => self.each(out, |out, b| {
                let value = f64::from_le_bytes(b);
                float(out, value, value.is_finite())
            }),
            DataType::Bytes => self.strings(out),
        };
        if written {
            return Ok(());
        }
        let what =
            if self.datatype == DataType::Bytes { "bytes that are not UTF-8" } else { "NaN or infinity" };
        let message =
            format!("output '{}' has {what}, which JSON cannot carry; ask for binary data", self.name);
        Err(Error::new(Code::NotRepresentable, message))
    }

    fn integers<const N: usize, I: itoa::Integer>(
        &self,
        out: &mut BytesMut,
        value: fn([u8; N]) -> I,
    ) -> bool {
        self.each(out, |out, bytes| {
            integer(out, value(bytes));
            true
        })
    }

    fn floats<const N: usize>(&self, out: &mut BytesMut, value: fn([u8; N]) -> f32) -> bool {
        self.each(out, |out, bytes| {
            let value = value(bytes);
            float(out, value, value.is_finite())
        })
    }

    /// Writes elements of one size with commas between them, up to the first that cannot be written.
    fn each<const N: usize>(
        &self,
        out: &mut BytesMut,
        mut write: impl FnMut(&mut BytesMut, [u8; N]) -> bool,
    ) -> bool {
        let mut elements = self.chunks().flat_map(|chunk| chunk.as_chunks::<N>().0).enumerate();
        elements.all(|(index, &element)| {
            if index > 0 {
                out.put_u8(b',');
            }
            write(out, element)
        })
    }

    fn strings(&self, out: &mut BytesMut) -> bool {
        let mut separate = false;
        for mut rest in self.chunks() {
            while let Some((element, after)) = binary::string(rest) {
                let Ok(text) = std::str::from_utf8(element) else { return false };
                if separate {
                    out.put_u8(b',');
                }
                string(out, text);
                (separate, rest) = (true, after);
            }
        }
        true
    }
}
