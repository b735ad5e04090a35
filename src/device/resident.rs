//! What a model and its streams have on a device, whether or not this build knows such devices.

use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::{Block, Buckets};
use crate::tensor::{Conversion, DataType, Dim, Reduction, Shape, Signature, TensorSpec};

/// A GPU as its driver tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub ordinal: usize,
    pub name: String,
    /// Major and minor.
    pub compute_capability: (i32, i32),
    /// The CUDA version that the driver offers: 1000 times the major, and 10 times the minor.
    pub driver: i32,
    pub memory: usize,
}

/// A tensor at a place in the device's memory that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub datatype: DataType,
    pub shape: Shape,
    pub address: u64,
}

/// How long a batch took on the device, as its own events tell, and the bytes that crossed the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// When its upload began, from when the lane's part of the device was made: for a while exact to microseconds.
    pub begun: Duration,
    pub upload: Duration,
    /// Behind the batch before it, once it was there.
    pub waited: Duration,
    /// Gathering, the model, keeping states.
    pub compute: Duration,
    pub download: Duration,
    pub bytes_up: usize,
    pub bytes_down: usize,
    /// Rows that filled its bucket.
    pub padded_rows: usize,
}

/// How long one copy of so many bytes takes, at best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyTimes {
    pub bytes: usize,
    pub to_device: Duration,
    pub to_host: Duration,
    pub on_device: Duration,
}

/// A model whose tensors can stay at fixed places: all sizes but the batch's are known, and there are no strings.
#[derive(Debug, Clone)]
pub struct Resident {
    pub inputs: Vec<(Block, Option<Conversion>)>,
    pub states: Vec<ResidentState>,
    pub outputs: Vec<ResidentOutput>,
    pub buckets: Buckets,
    /// Batches that may be under way at once.
    pub depth: usize,
    /// Rows of state: streams that may be open.
    pub capacity: usize,
}

#[derive(Debug, Clone)]
pub struct ResidentOutput {
    pub block: Block,
    /// Elements along its last axis.
    pub width: usize,
    pub reduction: Option<Reduction>,
    /// What clients get of it, and all that leaves the device.
    pub answers: SmallVec<[Block; 2]>,
}

#[derive(Debug, Clone)]
pub struct ResidentState {
    pub input: Block,
    pub output: Block,
    /// One stream's row at its beginning.
    pub initial: Vec<u8>,
}

impl ResidentOutput {
    /// Bytes of a row along its last axis, at least 1.
    pub fn row_bytes(&self) -> usize {
        (self.width * self.block.datatype.size().unwrap_or(1)).max(1)
    }
}

impl Resident {
    /// For a model that takes and gives what the signature says; the rest as for a [`Cpu`](super::Cpu). Why not is a
    /// sentence.
    pub fn new(
        model: &Signature,
        conversions: &[Option<Conversion>],
        reductions: &[Option<Reduction>],
        buckets: Buckets,
        depth: usize,
        capacity: usize,
    ) -> Result<Self, String> {
        let limit = model.batch_limit();
        let block = |spec: &TensorSpec| {
            let block = Block::new(spec).ok_or_else(|| {
                format!("'{}' has strings, or sizes beside the batch that are not fixed", spec.name)
            })?;
            if block.batch_axis.is_none() && limit > 1 {
                return Err(format!("'{}' has no batch axis", spec.name));
            }
            Ok(block)
        };
        let conversions = conversions.iter().cloned().chain(std::iter::repeat(None));
        let inputs =
            model.inputs.iter().zip(conversions).map(|(spec, conversion)| Ok((block(spec)?, conversion)));
        let output = |(spec, reduction): (&TensorSpec, Option<Reduction>)| {
            let answers = reduction.map_or_else(|| smallvec![spec.clone()], |reduction| reduction.seen(spec));
            let width = spec.dims.last().map_or(1, |dim| if let Dim::Fixed(size) = dim { *size } else { 1 });
            let answers = answers.iter().map(block).collect::<Result<_, String>>()?;
            Ok(ResidentOutput { block: block(spec)?, width, reduction, answers })
        };
        let reductions = reductions.iter().copied().chain(std::iter::repeat(None));
        let state = |state: &crate::tensor::StateSpec| {
            let (input, output) = (block(&state.input)?, block(&state.output)?);
            if (input.outer, input.inner, input.datatype) != (output.outer, output.inner, output.datatype) {
                return Err(format!("'{}' and '{}' differ in shape", input.name, output.name));
            }
            Ok(ResidentState { input, output, initial: state.initial.clone() })
        };
        Ok(Self {
            inputs: inputs.collect::<Result<_, String>>()?,
            states: model.states.iter().map(state).collect::<Result<_, String>>()?,
            outputs: model.outputs.iter().zip(reductions).map(output).collect::<Result<_, String>>()?,
            buckets,
            depth: depth.max(1),
            capacity,
        })
    }
}
