//! One input's batch tensor, in host memory.

use ndarray::{ArrayView3, ArrayViewMut3, s};

use super::TensorView;
use super::convert::Converter;
use crate::error::{Code, Error, Result};
use crate::signal::Encoding;
use crate::tensor::{ByteWindow, Conversion, DataType, Shape, TensorSpec, element_count};

/// Reused from batch to batch.
pub(super) struct Input {
    spec: TensorSpec,
    window: Option<ByteWindow>,
    converter: Option<Converter>,
    shape: Shape,
    // Words, so that every datatype is aligned.
    words: Vec<u64>,
    // `BYTES` have no fixed size; they are joined in wire form.
    strings: Vec<u8>,
}

fn misfit(spec: &TensorSpec) -> Error {
    Error::new(Code::Internal, format!("a request's bytes for '{}' are not its rows", spec.name))
}

impl Input {
    pub(super) fn new(spec: &TensorSpec, conversion: Option<&Conversion>) -> Self {
        let window = match conversion {
            Some(Conversion::Window(window)) => Some(window.clone()),
            _ => None,
        };
        let converter = conversion.and_then(Converter::new);
        let (shape, words, strings) = (Shape::new(), Vec::new(), Vec::new());
        Self { spec: spec.clone(), window, converter, shape, words, strings }
    }

    pub(super) fn begin(&mut self, rows: usize, dynamic: &mut impl Iterator<Item = usize>) -> Result<()> {
        self.shape = self.spec.batch_shape(rows, dynamic);
        self.strings.clear();
        if let Some(size) = self.spec.datatype.size() {
            let bytes = element_count(&self.shape).and_then(|count| count.checked_mul(size));
            let bytes = bytes.ok_or_else(|| Error::new(Code::ShapeOverflow, "the batch is too large"))?;
            self.words.resize(bytes.div_ceil(size_of::<u64>()), 0);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.spec.datatype.size().unwrap_or(0)
    }

    pub(super) fn put_rows(&mut self, start: usize, rows: usize, payload: &[u8]) -> Result<()> {
        let Some(size) = self.spec.datatype.size() else {
            self.strings.extend_from_slice(payload);
            return Ok(());
        };
        if self.converter.is_some() {
            return self.put_converted(start, rows, payload);
        }
        let total = self.bytes();
        let batch = &mut bytemuck::cast_slice_mut(&mut self.words)[..total];
        let Some(axis) = self.spec.batch_axis else {
            // Without a batch axis a batch is one request.
            return if payload.len() == total {
                batch.copy_from_slice(payload);
                Ok(())
            } else {
                Err(misfit(&self.spec))
            };
        };
        let outer: usize = self.shape[..axis].iter().product();
        let inner: usize = self.shape[axis + 1..].iter().product::<usize>() * size;
        if outer == 1 {
            let place = batch.get_mut(start * inner..(start + rows) * inner);
            let place =
                place.filter(|place| place.len() == payload.len()).ok_or_else(|| misfit(&self.spec))?;
            place.copy_from_slice(payload);
            return Ok(());
        }
        let payload =
            ArrayView3::from_shape((outer, rows, inner), payload).map_err(|_| misfit(&self.spec))?;
        let mut batch = ArrayViewMut3::from_shape((outer, self.shape[axis], inner), batch)
            .map_err(|_| misfit(&self.spec))?;
        let mut place = batch.slice_mut(s![.., start..start + rows, ..]);
        for (mut to, from) in place.outer_iter_mut().zip(payload.outer_iter()) {
            match (to.as_slice_mut(), from.as_slice()) {
                // One copy a block: an element-wise assignment of bytes costs four times as much.
                (Some(to), Some(from)) => to.copy_from_slice(from),
                _ => to.assign(&from),
            }
        }
        Ok(())
    }

    /// Block by block, as in `put_rows`, each element becoming FP32 on its way.
    fn put_converted(&mut self, start: usize, rows: usize, payload: &[u8]) -> Result<()> {
        let Some(converter) = &self.converter else { return Err(misfit(&self.spec)) };
        let (before, total, behind) = match self.spec.batch_axis {
            Some(axis) => (&self.shape[..axis], self.shape[axis], &self.shape[axis + 1..]),
            None => (&self.shape[..0], rows, &self.shape[..]),
        };
        let (outer, row) = (before.iter().product::<usize>(), behind.iter().product::<usize>());
        let bytes = rows * row * converter.size();
        if payload.len() != outer * bytes {
            return Err(misfit(&self.spec));
        }
        let batch: &mut [f32] = bytemuck::cast_slice_mut(&mut self.words);
        for (block, from) in payload.chunks_exact(bytes.max(1)).enumerate() {
            let first = (block * total + start) * row;
            let to = batch.get_mut(first..first + rows * row).ok_or_else(|| misfit(&self.spec))?;
            converter.convert(row, from, to);
        }
        Ok(())
    }

    pub(super) fn put_message(&mut self, start: usize, message: &[u8]) -> Result<()> {
        let Some(window) = &self.window else { return Err(misfit(&self.spec)) };
        let width = window.width();
        let elements = start * width..(start + 1) * width;
        let row = window.row(message);
        let words = &mut self.words;
        macro_rules! fill {
            ($type:ty, $convert:expr) => {{
                let batch: &mut [$type] = bytemuck::cast_slice_mut(words);
                let place = batch.get_mut(elements).ok_or_else(|| misfit(&self.spec))?;
                for (element, value) in place.iter_mut().zip(row) {
                    *element = $convert(value);
                }
            }};
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "checked when configured"
        )]
        match self.spec.datatype {
            DataType::Int32 => fill!(i32, |value| value as i32),
            DataType::Int64 => fill!(i64, |value| value),
            DataType::Fp32 => fill!(f32, |value| value as f32),
            _ => return Err(misfit(&self.spec)),
        }
        Ok(())
    }

    pub(super) fn put_signal(&mut self, start: usize, encoding: Encoding, signal: &[u8]) -> Result<()> {
        let width = self.shape.iter().skip(1).product::<usize>();
        if self.spec.datatype != DataType::Fp32 || signal.len() != width * encoding.width() {
            return Err(misfit(&self.spec));
        }
        let batch: &mut [f32] = bytemuck::cast_slice_mut(&mut self.words);
        let row = batch.get_mut(start * width..(start + 1) * width).ok_or_else(|| misfit(&self.spec))?;
        encoding.decode(signal, row);
        Ok(())
    }

    pub(super) fn view(&self) -> TensorView<'_> {
        let data = match self.spec.datatype.size() {
            Some(_) => &bytemuck::cast_slice(&self.words)[..self.bytes()],
            None => &self.strings[..],
        };
        TensorView { datatype: self.spec.datatype, shape: self.shape.clone(), data }
    }
}
