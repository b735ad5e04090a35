//! Tensors whose shape is known but for the rows of the batch.

use crate::tensor::{DataType, Dim, Shape, TensorSpec};

/// A tensor seen as `[outer][rows][inner]`, whose rows lie along the batch axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub name: String,
    pub datatype: DataType,
    pub batch_axis: Option<usize>,
    /// Blocks of a row: the product of the dimensions before the batch axis.
    pub outer: usize,
    /// Bytes of a row's block.
    pub inner: usize,
    shape: Shape,
}

impl Block {
    /// `None` if it has strings, a size that is not fixed, or more bytes than there are.
    pub fn new(spec: &TensorSpec) -> Option<Self> {
        let size = spec.datatype.size()?;
        let axis = spec.batch_axis;
        let fixed = |(index, dim): (usize, &Dim)| match dim {
            _ if axis == Some(index) => Some(1),
            Dim::Fixed(size) => Some(*size),
            Dim::Dynamic => None,
        };
        let shape: Shape = spec.dims.iter().enumerate().map(fixed).collect::<Option<_>>()?;
        let product = |dims: &[usize]| dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim));
        let (before, behind) = match axis {
            Some(axis) => (shape.get(..axis)?, shape.get(axis + 1..)?),
            None => (&[][..], &shape[..]),
        };
        let (outer, inner) = (product(before)?, product(behind)?.checked_mul(size)?);
        outer.checked_mul(inner)?;
        Some(Self { name: spec.name.clone(), datatype: spec.datatype, batch_axis: axis, outer, inner, shape })
    }

    /// The shape with so many rows.
    pub fn shape(&self, rows: usize) -> Shape {
        let mut shape = self.shape.clone();
        if let Some(axis) = self.batch_axis {
            shape[axis] = rows;
        }
        shape
    }

    /// The bytes of so many rows.
    pub fn bytes(&self, rows: usize) -> Option<usize> {
        let rows = if self.batch_axis.is_some() { rows } else { 1 };
        (self.outer * self.inner).checked_mul(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(datatype: DataType, dims: &[Dim], batch_axis: Option<usize>) -> Option<Block> {
        Block::new(&TensorSpec { name: "x".into(), datatype, dims: dims.to_vec(), batch_axis })
    }

    #[test]
    fn rows_lie_along_the_batch_axis() {
        use Dim::{Dynamic, Fixed};
        let state = block(DataType::Fp32, &[Fixed(2), Dynamic, Fixed(128)], Some(1)).unwrap();
        assert_eq!((state.outer, state.inner, state.bytes(3)), (2, 512, Some(3072)));
        assert_eq!(state.shape(3)[..], [2, 3, 128]);
        let whole = block(DataType::Uint8, &[Fixed(4)], None).unwrap();
        assert_eq!((whole.outer, whole.inner, whole.bytes(3)), (1, 4, Some(4)));
        let scalar = block(DataType::Int64, &[], None).unwrap();
        assert_eq!((scalar.outer, scalar.inner, scalar.shape(9).len()), (1, 8, 0));
    }

    #[test]
    fn what_is_not_fixed_is_no_block() {
        use Dim::{Dynamic, Fixed};
        assert_eq!(block(DataType::Fp32, &[Dynamic, Dynamic], Some(0)), None);
        assert_eq!(block(DataType::Bytes, &[Dynamic, Fixed(1)], Some(0)), None);
        assert_eq!(block(DataType::Fp32, &[Fixed(2), Fixed(2)], Some(2)), None);
        assert_eq!(block(DataType::Fp32, &[Fixed(usize::MAX), Fixed(2)], None), None);
    }
}
