//! Models made simpler once, for the inputs and sizes that `model.toml` fixes.
//!
//! What is fixed is written into the ONNX file ([`fix`]); ONNX Runtime then computes all that has become constant,
//! which often decides every `If`, and what it cannot see we tell it ([`shapes`]). A model without control flow is what
//! a CUDA graph needs. The result lies beside the original with a note of what it was made from ([`kept`]), and
//! computes the same bits, unless it was asked to round otherwise for the sake of speed ([`gemm`]).

mod fix;
mod gemm;
mod kept;
mod model;
mod shapes;
mod tensor;
#[cfg(test)]
mod tests;
mod wire;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use self::kept::{Found, Kept, Place};
use self::wire::Damaged;
use crate::engine::onnx::{OnnxRuntime, Refused};
use crate::engine::{Constant, Graph};

/// What fits a file of Protocol Buffers.
const LARGEST_MODEL: u64 = (2 << 30) - 1;
/// Each round decides a condition inside of another one; exporters do not go deep.
const ROUNDS: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum SpecialiseError {
    #[error("model.toml fixes nothing: give an input a `constant`, or `dims`")]
    Nothing,
    #[error("{} has {size} bytes; models of 2 GiB and more cannot be specialised", path.display())]
    TooLarge { path: PathBuf, size: u64 },
    #[error("{} keeps tensor '{tensor}' in a file beside it; such models cannot be specialised", path.display())]
    External { path: PathBuf, tensor: String },
    #[error("{}: {source}", path.display())]
    Damaged { path: PathBuf, source: Damaged },
    #[error("{} cannot be specialised: {source}", path.display())]
    Refused { path: PathBuf, source: Refused },
    #[error("{}: {source}", path.display())]
    Disk { path: PathBuf, source: io::Error },
}

/// A model as it was brought here.
pub struct Original {
    path: PathBuf,
    bytes: Vec<u8>,
    pub graph: Graph,
}

impl Original {
    fn read(path: PathBuf, runtime: &OnnxRuntime) -> Result<Self, SpecialiseError> {
        let size = fs::metadata(&path).map_err(disk(&path))?.len();
        if size > LARGEST_MODEL {
            return Err(SpecialiseError::TooLarge { path, size });
        }
        let bytes = fs::read(&path).map_err(disk(&path))?;
        match model::external(&bytes) {
            Ok(None) => {}
            Ok(Some(tensor)) => return Err(SpecialiseError::External { path, tensor }),
            Err(source) => return Err(SpecialiseError::Damaged { path, source }),
        }
        match runtime.graph_of(&bytes) {
            Ok(graph) => Ok(Self { path, bytes, graph }),
            Err(source) => Err(SpecialiseError::Refused { path, source }),
        }
    }
}

/// A model that is being made simpler.
struct Work<'a> {
    runtime: &'a OnnxRuntime,
    original: &'a Original,
    /// Where ONNX Runtime may write.
    scratch: &'a Path,
    convolutions_as_gemm: bool,
}

impl Work<'_> {
    /// The specialised model, and the control flow that is left in it.
    fn run(&self, graph: &Graph, constants: &[Constant]) -> Result<(Vec<u8>, Vec<String>), SpecialiseError> {
        let mut model = self.fold(&self.sound(fix::fix(&self.original.bytes, graph, constants))?)?;
        for _ in 0..ROUNDS {
            if self.sound(model::control_flow(&model))?.is_empty() {
                break;
            }
            let asked = self.sound(shapes::asked(&model))?;
            let asking = self.sound(shapes::with_outputs(&model, &asked))?;
            // A value whose type is not told cannot be an output. Then the model stays as it is.
            let Ok(known) = self.runtime.graph_of(&asking) else { break };
            let Some(answered) = self.sound(shapes::answered(&model, &known))? else { break };
            model = self.fold(&answered)?;
        }
        if self.convolutions_as_gemm {
            let asked = self.sound(gemm::asked(&model))?;
            let asking = self.sound(shapes::with_outputs(&model, &asked))?;
            if let Ok(known) = self.runtime.graph_of(&asking)
                && let Some(lowered) = self.sound(gemm::lowered(&model, &known))?
            {
                model = self.fold(&lowered)?;
            }
        }
        let left = self.sound(model::control_flow(&model))?;
        Ok((model, left))
    }

    fn fold(&self, model: &[u8]) -> Result<Vec<u8>, SpecialiseError> {
        let refused = |source| SpecialiseError::Refused { path: self.original.path.clone(), source };
        self.runtime.fold(model, self.scratch).map_err(refused)?;
        fs::read(self.scratch).map_err(disk(self.scratch))
    }

    fn sound<T>(&self, result: Result<T, Damaged>) -> Result<T, SpecialiseError> {
        result.map_err(|source| SpecialiseError::Damaged { path: self.original.path.clone(), source })
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> SpecialiseError {
    let path = path.to_owned();
    move |source| SpecialiseError::Disk { path, source }
}
