//! The work on either side of the model.
//!
//! A lane owns one device. For each batch it begins, puts the rows of each request, and has the joined tensors ready
//! for the engine; behind the model it makes of the outputs what clients get. `cpu` copies or converts each row once,
//! from the received message into the reused batch tensor. `cuda` packs the rows for one copy to the GPU, where kernels
//! do the rest and streams' states stay.

mod block;
mod buckets;
mod convert;
mod cpu;
#[cfg_attr(not(feature = "cuda"), path = "cuda/absent.rs")]
pub mod cuda;
mod input;
mod reduce;
mod resident;
mod slab;
mod unfit;

pub use block::Block;
pub use buckets::Buckets;
pub use cpu::Cpu;
pub use resident::{About, CopyTimes, Placed, Resident, ResidentOutput, ResidentState, StageTimes};
pub use unfit::Unfit;

use crate::error::{Code, Error};
use crate::tensor::{DataType, Shape};

/// Whoever puts a step has seen that its state is here.
fn lost() -> Error {
    Error::new(Code::StateLost, "the state of a step is not here")
}

/// A tensor that an engine reads.
#[derive(Debug)]
pub struct TensorView<'a> {
    pub datatype: DataType,
    pub shape: Shape,
    /// Aligned for the datatype.
    pub data: &'a [u8],
}
