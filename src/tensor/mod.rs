//! Tensors as every layer names them: datatypes, shapes, what a model takes and gives, and the rows of a
//! finished batch that belong to one request.

mod conversion;
mod datatype;
mod output;
mod payload;
pub mod reduce;
mod reduction;
mod signature;
mod told;

pub use conversion::{Conversion, Narrow};
pub use datatype::DataType;
pub use output::{BatchOutput, Column, Rows, Slice, Stages, Storage};
pub use payload::{ByteWindow, Payload};
pub use reduction::Reduction;
pub use signature::{Dim, Fit, GroupKey, Offered, Signature, StateSpec, TensorSpec};
pub use told::Told;

/// The dimensions of a tensor on the wire.
pub type Shape = smallvec::SmallVec<[usize; 4]>;

/// The product of the dimensions, or `None` beyond what an address can name.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim))
}
