//! What a model file says of its inputs and outputs, before any configuration.

use std::fmt;

use crate::tensor::DataType;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
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
