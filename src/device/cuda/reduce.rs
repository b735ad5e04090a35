//! How an output is reduced to what clients get, before it leaves the device.

use std::sync::Arc;

use cudarc::driver::{CudaStream, DriverError};

use super::kernels::{self, Arg, Geometry, Kernels, narrow};
use super::memory::{Buffer, Memory};
use crate::device::ResidentOutput;
use crate::tensor::{DataType, Reduction};

/// A warp reduces a row.
const WARP: usize = 32;

/// One output's kernel.
pub(super) struct Reduce {
    kernel: String,
    /// Where the largest are wanted of probabilities: the kernel that comes first, and what it gives.
    softmax: Option<(String, Buffer)>,
    width: usize,
    /// Threads for a row.
    items: usize,
    /// Behind the width, where the kernel takes more.
    last: Option<Arg>,
}

impl Reduce {
    /// For batches of up to so many bytes of the output; `None` if it goes back as it is.
    pub(super) fn new(
        memory: &Arc<Memory>,
        output: &ResidentOutput,
        bytes: usize,
    ) -> Result<Option<Self>, DriverError> {
        let Some(reduction) = output.reduction else { return Ok(None) };
        let (suffix, size) = match output.block.datatype {
            DataType::Fp16 => ("f16", 2),
            DataType::Bf16 => ("bf16", 2),
            _ => ("f32", 4),
        };
        let width = output.width.max(1);
        let of_model = |kernel: &str| format!("{kernel}_{suffix}");
        let mut reduce = Self { kernel: String::new(), softmax: None, width, items: WARP, last: None };
        reduce.kernel = match reduction {
            Reduction::Softmax => of_model("softmax"),
            Reduction::L2Norm => of_model("l2_normalize"),
            Reduction::Argmax => of_model("argmax"),
            Reduction::TopK { k, softmax } => {
                reduce.last = Some(Arg::U32(narrow(k)));
                if softmax {
                    let probabilities = Buffer::new(memory, bytes / size * size_of::<f32>())?;
                    reduce.softmax = Some((of_model("softmax"), probabilities));
                    "top_k_f32".to_owned()
                } else {
                    of_model("top_k")
                }
            }
            Reduction::Threshold(at) => {
                reduce.items = (width * size).div_ceil(16);
                reduce.last = Some(Arg::F32(at));
                of_model("threshold")
            }
        };
        Ok(Some(reduce))
    }

    /// Puts it into the stream.
    ///
    /// # Safety
    ///
    /// `from` holds so many rows of the output, and each of `to` has room for what one of its answers has of them; all
    /// stay until the stream has done it.
    pub(super) unsafe fn launch(
        &self,
        stream: &CudaStream,
        kernels: &Kernels,
        from: &Buffer,
        rows: usize,
        to: &[u64],
    ) -> Result<(), DriverError> {
        let sizes = [Arg::U32(narrow(rows)), Arg::U32(narrow(self.width))];
        let mut from = Arg::Address(from.address());
        if let Some((kernel, probabilities)) = &self.softmax {
            let to = Arg::Address(probabilities.address());
            let geometry = Geometry::new(rows * WARP, 1, 1);
            // SAFETY: the arguments are those in the kernel's header, and the buffer has room for the largest batch.
            unsafe {
                kernels::launch(stream, kernels.get(kernel)?, geometry, &[from, to, sizes[0], sizes[1]])
            }?;
            from = to;
        }
        let mut args: smallvec::SmallVec<[Arg; 6]> = smallvec::smallvec![from];
        args.extend(to.iter().copied().map(Arg::Address));
        args.extend(sizes.into_iter().chain(self.last));
        let geometry = Geometry::new(rows * self.items, 1, 1);
        // SAFETY: as above, and the caller vouches for what they point at.
        unsafe { kernels::launch(stream, kernels.get(&self.kernel)?, geometry, &args) }
    }
}
