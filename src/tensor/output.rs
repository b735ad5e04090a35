//! The output of one run, shared by all the requests of its batch.

use std::ops::Range;
use std::sync::Arc;

use super::{DataType, Shape, element_count};
use crate::clock::Time;

/// Where an output tensor's bytes lie.
pub enum Storage {
    /// Elements of one size.
    Fixed(Box<dyn AsRef<[u8]> + Send + Sync>),
    /// `BYTES` as the wire writes them, and where each element starts (one more offset than elements).
    Strings { bytes: Vec<u8>, offsets: Vec<usize> },
}

/// One output tensor of a whole batch.
pub struct Column {
    pub datatype: DataType,
    shape: Shape,
    batch_axis: Option<usize>,
    storage: Storage,
}

/// All output tensors of one run, in the order of the model's signature.
#[derive(Debug)]
pub struct BatchOutput {
    pub columns: Vec<Column>,
    /// How the batch came to it; set by its lane.
    pub stages: Option<Stages>,
}

/// When a batch was where, and how large it was: what its requests tell of their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    pub taken: Time,
    pub gathered: Time,
    pub begun: Time,
    pub landed: Time,
    pub rows: usize,
}

impl BatchOutput {
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, stages: None }
    }
}

/// The rows of a batch that answer one request; cheap to hand on, the bytes stay where they are.
#[derive(Debug, Clone)]
pub struct Rows {
    pub output: Arc<BatchOutput>,
    pub start: usize,
    pub count: usize,
}

impl Column {
    /// `None` if the storage does not hold what the shape says.
    pub fn new(
        datatype: DataType,
        shape: Shape,
        batch_axis: Option<usize>,
        storage: Storage,
    ) -> Option<Self> {
        let count = element_count(&shape)?;
        let whole = match &storage {
            Storage::Fixed(bytes) => {
                datatype.size().and_then(|size| count.checked_mul(size)) == Some((**bytes).as_ref().len())
            }
            Storage::Strings { bytes, offsets } => {
                datatype == DataType::Bytes
                    && offsets.len() == count + 1
                    && offsets.is_sorted()
                    && offsets.last() == Some(&bytes.len())
            }
        };
        let axis_exists = batch_axis.is_none_or(|axis| axis < shape.len());
        (whole && axis_exists).then_some(Self { datatype, shape, batch_axis, storage })
    }

    pub fn batch_axis(&self) -> Option<usize> {
        self.batch_axis
    }

    /// Rows along the batch axis, or `None` where the tensor belongs to the batch as a whole.
    pub fn rows(&self) -> Option<usize> {
        self.batch_axis.map(|axis| self.shape[axis])
    }

    /// Some of its rows.
    pub fn slice(&self, start: usize, count: usize) -> Slice<'_> {
        Slice { column: self, start, count }
    }

    fn elements(&self, range: Range<usize>) -> &[u8] {
        let (bytes, range) = match &self.storage {
            Storage::Fixed(bytes) => {
                let size = self.datatype.size().unwrap_or(0);
                ((**bytes).as_ref(), range.start * size..range.end * size)
            }
            Storage::Strings { bytes, offsets } => {
                let at = |element: usize| offsets.get(element).copied().unwrap_or(bytes.len());
                (&bytes[..], at(range.start)..at(range.end))
            }
        };
        bytes.get(range).unwrap_or_default()
    }
}

impl Rows {
    /// No rows of no batch: the answer to a request that needed no run.
    pub fn none() -> Self {
        Self { output: Arc::new(BatchOutput::new(Vec::new())), start: 0, count: 0 }
    }

    pub fn column(&self, output: usize) -> Option<Slice<'_>> {
        Some(self.output.columns.get(output)?.slice(self.start, self.count))
    }
}

/// One request's part of one output tensor.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    column: &'a Column,
    start: usize,
    count: usize,
}

impl<'a> Slice<'a> {
    pub fn datatype(&self) -> DataType {
        self.column.datatype
    }

    pub fn shape(&self) -> Shape {
        let mut shape = self.column.shape.clone();
        if let Some(axis) = self.column.batch_axis {
            shape[axis] = self.count;
        }
        shape
    }

    pub fn has_shape(&self, shape: &[usize]) -> bool {
        let Column { shape: of_all, batch_axis, .. } = self.column;
        let is_same =
            |(axis, &size)| if *batch_axis == Some(axis) { self.count == size } else { of_all[axis] == size };
        shape.len() == of_all.len() && shape.iter().enumerate().all(is_same)
    }

    /// The bytes in order, as few contiguous pieces as the batch axis allows.
    pub fn chunks(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Slice { column, start, count } = *self;
        let shape = &column.shape;
        let (outer, stride, inner) = match column.batch_axis {
            Some(axis) => (&shape[..axis], shape[axis], &shape[axis + 1..]),
            None => (&shape[..0], 1, &shape[..]),
        };
        let (start, count) = if column.batch_axis.is_some() { (start, count) } else { (0, 1) };
        // The column's constructor checked the product of all dimensions, so these cannot overflow.
        let (outer, inner): (usize, usize) = (outer.iter().product(), inner.iter().product());
        (0..outer).map(move |block| {
            let first = (block * stride + start) * inner;
            column.elements(first..first + count * inner)
        })
    }

    pub fn byte_len(&self) -> usize {
        self.chunks().map(<[u8]>::len).sum()
    }
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} (batch axis {:?})", self.datatype, self.shape, self.batch_axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    fn rows(shape: Shape, axis: Option<usize>, start: usize, count: usize) -> (Shape, Vec<u8>) {
        let bytes: Vec<u8> = (0..u8::try_from(element_count(&shape).unwrap()).unwrap()).collect();
        let column =
            Column::new(DataType::Uint8, shape, axis, Storage::Fixed(Box::new(bytes))).expect("fits");
        let rows = Rows { output: Arc::new(BatchOutput::new(vec![column])), start, count };
        let slice = rows.column(0).unwrap();
        (slice.shape(), slice.chunks().flatten().copied().collect())
    }

    #[test]
    fn rows_are_cut_along_any_axis() {
        assert_eq!(rows(smallvec![3, 2], Some(0), 1, 2), (smallvec![2, 2], vec![2, 3, 4, 5]));
        assert_eq!(rows(smallvec![2, 3], Some(1), 1, 2), (smallvec![2, 2], vec![1, 2, 4, 5]));
        assert_eq!(rows(smallvec![2, 2, 2], Some(1), 1, 1), (smallvec![2, 1, 2], vec![2, 3, 6, 7]));
        assert_eq!(rows(smallvec![2, 2], None, 7, 3), (smallvec![2, 2], vec![0, 1, 2, 3]));
        assert_eq!(rows(smallvec![0, 2], Some(0), 0, 0), (smallvec![0, 2], vec![]));
    }

    #[test]
    fn strings_are_cut_at_their_offsets() {
        let bytes = b"\x01\0\0\0a\0\0\0\0\x02\0\0\0bc".to_vec();
        let storage = Storage::Strings { bytes, offsets: vec![0, 5, 9, 15] };
        let column = Column::new(DataType::Bytes, smallvec![3, 1], Some(0), storage).expect("fits");
        let rows = Rows { output: Arc::new(BatchOutput::new(vec![column])), start: 1, count: 2 };
        let slice = rows.column(0).unwrap();
        assert_eq!(slice.chunks().collect::<Vec<_>>(), [&b"\0\0\0\0\x02\0\0\0bc"[..]]);
        assert_eq!(slice.byte_len(), 10);
    }

    #[test]
    fn storage_that_does_not_fit_its_shape_is_no_column() {
        let fixed = |n: usize| Storage::Fixed(Box::new(vec![0u8; n]));
        assert!(Column::new(DataType::Fp32, smallvec![2, 2], Some(0), fixed(15)).is_none());
        assert!(Column::new(DataType::Fp32, smallvec![2, 2], Some(2), fixed(16)).is_none());
        assert!(Column::new(DataType::Fp32, smallvec![usize::MAX, 2], None, fixed(0)).is_none());
        let offsets = vec![0, 2];
        let strings = Storage::Strings { bytes: vec![0; 3], offsets };
        assert!(Column::new(DataType::Bytes, smallvec![1], Some(0), strings).is_none());
    }
}
