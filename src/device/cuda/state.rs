//! One state's tensors on the device, and the rows of all streams that take turns in them.

use std::sync::Arc;

use cudarc::driver::{CudaStream, DriverError};

use super::kernels::{self, Arg, Geometry, Kernels, narrow};
use super::memory::{Buffer, Memory};
use crate::device::ResidentState;

pub(super) struct State {
    pub(super) input: Arc<Buffer>,
    pub(super) output: Arc<Buffer>,
    slab: Buffer,
    initial: Buffer,
    /// Blocks of a row, and bytes of a block; going in and coming out alike.
    outer: usize,
    inner: usize,
}

/// Whose rows a batch has: `live` of the bucket's, told of by the seats at this address.
#[derive(Clone, Copy)]
pub(super) struct Seated {
    pub(super) seats: u64,
    pub(super) live: usize,
    pub(super) bucket: usize,
}

impl State {
    /// With rows of `slab` bytes in all, for batches whose tensors are made already.
    pub(super) fn new(
        memory: &Arc<Memory>,
        state: &ResidentState,
        slab: usize,
        (input, output): (Arc<Buffer>, Arc<Buffer>),
    ) -> Result<Self, DriverError> {
        let (slab, initial) = (Buffer::new(memory, slab)?, Buffer::of(memory, &state.initial)?);
        let (outer, inner) = (state.input.outer, state.input.inner);
        Ok(Self { input, output, slab, initial, outer, inner })
    }

    /// Puts the streams' rows before the model, in the stream's order.
    ///
    /// # Safety
    ///
    /// The seats are those of the batch, with slots for which the slab has rows, and the tensors have room for the
    /// bucket; all stay until the stream has done it.
    pub(super) unsafe fn gather(
        &self,
        stream: &CudaStream,
        kernels: &Kernels,
        of: Seated,
    ) -> Result<(), DriverError> {
        let args = [
            Arg::Address(self.slab.address()),
            Arg::Address(self.initial.address()),
            Arg::Address(of.seats),
            Arg::U32(narrow(of.live)),
            Arg::Address(self.input.address()),
            Arg::U32(narrow(self.outer)),
            Arg::U32(narrow(of.bucket)),
            Arg::U64(self.inner as u64),
        ];
        // SAFETY: the arguments are those in the kernel's header, and the caller vouches for what they point at.
        unsafe { kernels::launch(stream, kernels.get("state_gather")?, self.geometry(of), &args) }
    }

    /// Puts what the model gave back into the streams' rows, in the stream's order.
    ///
    /// # Safety
    ///
    /// As for `gather`, and no two rows of the batch are kept in one slot.
    pub(super) unsafe fn scatter(
        &self,
        stream: &CudaStream,
        kernels: &Kernels,
        of: Seated,
    ) -> Result<(), DriverError> {
        let args = [
            Arg::Address(self.output.address()),
            Arg::Address(of.seats),
            Arg::U32(narrow(of.live)),
            Arg::Address(self.slab.address()),
            Arg::U32(narrow(self.outer)),
            Arg::U32(narrow(of.bucket)),
            Arg::U64(self.inner as u64),
        ];
        // SAFETY: as above.
        unsafe { kernels::launch(stream, kernels.get("state_scatter")?, self.geometry(of), &args) }
    }

    fn geometry(&self, of: Seated) -> Geometry {
        Geometry::new(self.inner.div_ceil(16), of.bucket, self.outer)
    }
}
