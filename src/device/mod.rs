//! The work on either side of the model.
//!
//! A lane owns one device. For each batch it begins, puts the rows of each request, and hands the joined
//! tensors to the engine. `cpu` copies each row once, from the received message into the reused batch tensor.

mod cpu;
mod slab;

pub use cpu::Cpu;
use smallvec::SmallVec;

use crate::error::Result;
use crate::streams::Slot;
use crate::tensor::{BatchOutput, DataType, GroupKey, Payload, Shape};

/// A tensor that an engine reads.
#[derive(Debug)]
pub struct TensorView<'a> {
    pub datatype: DataType,
    pub shape: Shape,
    /// Aligned for the datatype.
    pub data: &'a [u8],
}

pub trait Device: Send {
    /// Starts a batch of `rows` rows whose dynamic dimensions are those of `key`.
    fn begin(&mut self, rows: usize, key: &GroupKey) -> Result<()>;

    /// Puts the next `rows` rows, one payload for each input. A model with state takes one row at a time,
    /// and the slot whose state goes with it.
    fn put(&mut self, rows: usize, payloads: &[Payload], slot: Option<Slot>) -> Result<()>;

    /// The batch: one tensor for each input of the model's signature, then one for each of its states.
    fn inputs(&mut self) -> SmallVec<[TensorView<'_>; 4]>;

    /// Keeps the states that a run gave, behind its outputs, for the slots of its batch.
    fn keep(&mut self, output: &BatchOutput) -> Result<()>;
}
