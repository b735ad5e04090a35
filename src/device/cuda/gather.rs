//! How an input's packed rows become its batch tensor.

use std::sync::Arc;

use cudarc::driver::{CudaStream, DriverError};

use super::kernels::{self, Arg, Geometry, Kernels, narrow};
use super::memory::{Buffer, Memory};
use crate::device::Block;
use crate::tensor::{Conversion, DataType, Narrow};

/// What 1.0 is on the scale of 16-bit samples, by which the kernels divide them. Both ways are exact.
const FULL_SCALE: f32 = 32_768.0;

/// One input's kernel, and all of its arguments that are the same in every batch.
pub(super) struct Gather {
    kernel: &'static str,
    /// Threads for a row.
    items: usize,
    outer: usize,
    /// Whether the kernel takes that as an argument.
    tells_outer: bool,
    batched: bool,
    /// The arguments behind the bucket.
    rest: Vec<Arg>,
    /// Of images the means of all channels, then their deviations; arguments point there.
    _channels: Option<Buffer>,
}

impl Gather {
    pub(super) fn new(
        memory: &Arc<Memory>,
        block: &Block,
        conversion: Option<&Conversion>,
    ) -> Result<Self, DriverError> {
        let elements = block.inner / size_of::<f32>();
        let by_piece = block.inner.div_ceil(16);
        let scaled = |scale: f32, offset: f32| {
            let rest = vec![Arg::U64(elements as u64), Arg::F32(scale), Arg::F32(offset)];
            ("gather_f32", by_piece, true, rest, None)
        };
        let (kernel, items, tells_outer, rest, channels) = match (conversion, block.datatype) {
            (Some(Conversion::Window(window)), datatype) => {
                let kernel = match datatype {
                    DataType::Int32 => "gather_windows_i32",
                    DataType::Int64 => "gather_windows_i64",
                    _ => "gather_windows_f32",
                };
                let (head, tail) = (narrow(window.head), narrow(window.tail));
                let rest = vec![Arg::U32(head), Arg::U32(tail), Arg::I64(window.pad)];
                (kernel, window.width().div_ceil(4), false, rest, None)
            }
            (Some(Conversion::Planes { mean, deviation }), _) => {
                let buffer = Buffer::of(memory, bytemuck::cast_slice(&[&mean[..], deviation].concat()))?;
                let means = buffer.address();
                let deviations = means + size_of_val(&mean[..]) as u64;
                let pixels = elements / mean.len().max(1);
                let (count, size) = (Arg::U32(narrow(mean.len())), Arg::U32(narrow(pixels)));
                let rest = vec![count, size, Arg::Address(means), Arg::Address(deviations)];
                ("gather_image", pixels.div_ceil(4), false, rest, Some(buffer))
            }
            (Some(Conversion::Scale { from: Narrow::Int16, scale, offset }), _) => {
                scaled(scale * FULL_SCALE, *offset)
            }
            (Some(Conversion::Scale { scale, offset, .. }), _) => scaled(*scale, *offset),
            (None, DataType::Fp32) => scaled(1.0, 0.0),
            (None, _) => ("gather_rows", by_piece, true, vec![Arg::U64(block.inner as u64)], None),
        };
        let (outer, batched) = (block.outer, block.batch_axis.is_some());
        Ok(Self { kernel, items, outer, tells_outer, batched, rest, _channels: channels })
    }

    /// Puts it into the stream: `live` of the bucket's rows are in the packed batch, told of by the table.
    ///
    /// # Safety
    ///
    /// The packed batch is what `Packing` has made for this input, its table is at `table`, and `to` has room for the
    /// bucket; all stay until the stream has done it.
    pub(super) unsafe fn launch(
        &self,
        stream: &CudaStream,
        kernels: &Kernels,
        (packed, table): (u64, u64),
        live: usize,
        bucket: usize,
        to: &Buffer,
    ) -> Result<(), DriverError> {
        let bucket = if self.batched { bucket } else { 1 };
        let mut args: smallvec::SmallVec<[Arg; 12]> = smallvec::smallvec![
            Arg::Address(packed),
            Arg::Address(table),
            Arg::U32(narrow(live)),
            Arg::Address(to.address()),
        ];
        if self.tells_outer {
            args.push(Arg::U32(narrow(self.outer)));
        }
        args.push(Arg::U32(narrow(bucket)));
        args.extend_from_slice(&self.rest);
        let geometry = Geometry::new(self.items, bucket, self.outer);
        // SAFETY: the arguments are those in the kernel's header, and the caller vouches for what they point at.
        unsafe { kernels::launch(stream, kernels.get(self.kernel)?, geometry, &args) }
    }
}
