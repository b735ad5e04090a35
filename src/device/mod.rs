//! The work on either side of the model.
//!
//! A lane owns one device. For each batch it begins, puts the rows of each request, and has the joined tensors ready
//! for the engine. `cpu` copies each row once, from the received message into the reused batch tensor.

mod cpu;
mod slab;

pub use cpu::Cpu;

use crate::tensor::{DataType, Shape};

/// A tensor that an engine reads.
#[derive(Debug)]
pub struct TensorView<'a> {
    pub datatype: DataType,
    pub shape: Shape,
    /// Aligned for the datatype.
    pub data: &'a [u8],
}
