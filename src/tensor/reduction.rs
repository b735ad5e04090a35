//! What clients get in place of a tensor that a model gives.

use smallvec::{SmallVec, smallvec};

use super::{DataType, Dim, TensorSpec};

/// What is made of each row along an output's last axis; `reduce` has the references.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// Probabilities.
    Softmax,
    /// The largest values, or probabilities, and behind them their indices.
    TopK { k: usize, softmax: bool },
    /// The index of the largest value, in place of the axis.
    Argmax,
    /// The row, made as long as 1.
    L2Norm,
    /// Whether each value reaches this one.
    Threshold(f32),
}

impl Reduction {
    /// The tensors that clients see of an output that the model sees as `spec`.
    pub fn seen(&self, spec: &TensorSpec) -> SmallVec<[TensorSpec; 2]> {
        let seen = |datatype| TensorSpec { datatype, ..spec.clone() };
        match self {
            Self::Softmax | Self::L2Norm => smallvec![seen(DataType::Fp32)],
            Self::Threshold(_) => smallvec![seen(DataType::Bool)],
            Self::Argmax => {
                let mut index = seen(DataType::Int32);
                index.dims.pop();
                smallvec![index]
            }
            Self::TopK { k, .. } => {
                let mut values = seen(DataType::Fp32);
                // Of an axis of any size there may be fewer.
                if let Some(Dim::Fixed(width)) = values.dims.last_mut() {
                    *width = *k;
                }
                let name = Self::index_name(&spec.name);
                let indices = TensorSpec { name, datatype: DataType::Int32, ..values.clone() };
                smallvec![values, indices]
            }
        }
    }

    /// What the tensor with the indices of the largest values is called.
    pub fn index_name(output: &str) -> String {
        format!("{output}_index")
    }
}
