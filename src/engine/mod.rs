//! A loaded model, and one running half of it for each lane.
//!
//! The only module that names `ort`. An [`Engine`] is shared (`&self`); each lane starts its own [`Running`]
//! half and is its sole owner (`&mut self`).

mod graph;
pub mod onnx;

use std::sync::Arc;

use crate::device::TensorView;
use crate::error::Result;
use crate::tensor::{BatchOutput, DataType, Shape, Signature};

pub use graph::{Graph, Port, PortDim};

/// An input that the model needs and no client gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub name: String,
    pub datatype: DataType,
    pub shape: Shape,
    /// Little-endian elements.
    pub data: Vec<u8>,
}

/// Asks a model to end the run that it is in, from another thread and without waiting for it. What was asked to end may
/// never run again.
pub type Halt = Arc<dyn Fn() + Send + Sync>;

/// A model that is loaded.
pub trait Engine: Send + Sync {
    /// Makes the running half for one lane.
    fn start(&self, signature: &Signature, constants: &[Constant]) -> Result<Box<dyn Running>>;
}

/// Where a bound model runs, and where its tensors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// On the CPU; places are in the memory of the process. For a device that is only emulated.
    Host,
    Cuda {
        ordinal: usize,
        /// The device's stream: what is launched stands in its order.
        stream: *mut (),
        /// Whether each bucket's run is to be captured as a CUDA graph.
        graphs: bool,
    },
}

/// A model whose tensors have their places, owned by one lane.
pub trait Bound: Send {
    /// Launches a run of a bucket; it may still be under way when this returns. If this fails, it is not.
    fn launch(&mut self, bucket: usize) -> Result<()>;

    /// Whether its runs are replays of captured graphs.
    fn replays_graphs(&self) -> bool;

    /// What ends its launches, if anything does.
    fn halt(&self) -> Option<Halt> {
        None
    }
}

/// A model that runs, owned by one lane.
pub trait Running: Send {
    /// Runs one batch. Inputs and outputs stand in the signature's order, its states behind them.
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput>;

    /// What ends its runs, if anything does.
    fn halt(&self) -> Option<Halt> {
        None
    }
}
