//! What clients send in place of a tensor that a model takes.

use serde::Deserialize;

use super::{ByteWindow, DataType, TensorSpec};

/// How the rows of an input are made of what clients send.
#[derive(Debug, Clone, PartialEq)]
pub enum Conversion {
    /// Of a message of any length its beginning and its end. Rows of requests are as the model takes them.
    Window(ByteWindow),
    /// Of each number `value * scale + offset`, rounded once to FP32.
    Scale { from: Narrow, scale: f32, offset: f32 },
    /// Of pixels `[H, W, C]` of UINT8 the planes `[C, H, W]`: `(value / 255 - mean) / deviation`, channel by channel.
    Planes { mean: Vec<f32>, deviation: Vec<f32> },
}

/// Datatypes all of whose numbers FP32 has too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Narrow {
    Uint8,
    Int16,
    Fp16,
    Bf16,
}

impl Narrow {
    pub const fn datatype(self) -> DataType {
        match self {
            Self::Uint8 => DataType::Uint8,
            Self::Int16 => DataType::Int16,
            Self::Fp16 => DataType::Fp16,
            Self::Bf16 => DataType::Bf16,
        }
    }

    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::Uint8 => 1,
            Self::Int16 | Self::Fp16 | Self::Bf16 => 2,
        }
    }
}

impl Conversion {
    /// What an element is that clients send; `None` where it is as the model takes it.
    pub fn from(&self) -> Option<Narrow> {
        match self {
            Self::Window(_) => None,
            Self::Scale { from, .. } => Some(*from),
            Self::Planes { .. } => Some(Narrow::Uint8),
        }
    }

    /// What clients see of an input that the model sees as `spec`.
    pub fn seen(&self, spec: &TensorSpec) -> TensorSpec {
        let mut seen = spec.clone();
        if let Some(from) = self.from() {
            seen.datatype = from.datatype();
        }
        if let (Self::Planes { .. }, [_, planes @ ..]) = (self, &mut seen.dims[..]) {
            // The channels, which stand first, come to stand last.
            planes.rotate_left(usize::from(!planes.is_empty()));
        }
        seen
    }
}
