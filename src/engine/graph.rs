//! What a model file says of its inputs and outputs, before any configuration.

use std::fmt;

use crate::tensor::DataType;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

impl Graph {
    /// The dimensions of an input or output. What is no tensor, or may have any rank, has none; neither has a scalar.
    pub fn dims(&self, name: &str) -> Option<&[PortDim]> {
        let mut ports = self.inputs.iter().chain(&self.outputs);
        ports.find(|port| port.name == name && !port.dims.is_empty()).map(|port| &*port.dims)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// `None` where the protocol has no such type (sequences, maps, complex numbers, …).
    pub datatype: Option<DataType>,
    pub dims: Vec<PortDim>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortDim {
    Fixed(usize),
    Symbol(String),
    Unknown,
}

impl fmt::Display for PortDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}
