//! Runs of zeros before the first client comes.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Pipeline;
use crate::error::Result;
use crate::streams::Slot;
use crate::tensor::{Dim, GroupKey, Payload, Signature, TensorSpec, element_count};

/// Batches of zeros to run, so that the first clients do not pay for lazy set-up.
#[derive(Debug, Default)]
pub struct WarmUp(Vec<Zeros>);

#[derive(Debug)]
struct Zeros {
    key: GroupKey,
    rows: usize,
    /// Rows of one request.
    each: usize,
    payloads: Vec<Payload>,
}

impl WarmUp {
    /// Batches of these sizes.
    pub fn new(signature: &Signature, batch_sizes: impl IntoIterator<Item = usize>) -> Self {
        Self(batch_sizes.into_iter().map(|rows| Zeros::new(signature, rows)).collect())
    }

    pub(super) fn run(self, pipeline: &mut dyn Pipeline) -> Result<()> {
        self.0.into_iter().try_for_each(|zeros| zeros.run(pipeline))
    }
}

impl Zeros {
    fn new(signature: &Signature, rows: usize) -> Self {
        let rows = rows.clamp(1, signature.batch_limit());
        let dynamic = |spec: &TensorSpec| {
            let dims = spec.dims.iter().enumerate();
            dims.filter(|&(axis, dim)| *dim == Dim::Dynamic && spec.batch_axis != Some(axis)).count()
        };
        // Dimensions that nothing fixes are as good with size 1.
        let key: SmallVec<[usize; 4]> =
            std::iter::repeat_n(1, signature.inputs.iter().map(dynamic).sum()).collect();
        let mut sizes = key.iter().copied();
        let zeros = |spec: &TensorSpec, rows: usize, sizes: &mut dyn Iterator<Item = usize>| {
            let shape = spec.batch_shape(rows, &mut &mut *sizes);
            // Four zero bytes are also an empty string.
            let bytes = element_count(&shape).unwrap_or(0).saturating_mul(spec.datatype.size().unwrap_or(4));
            Payload::Rows(Bytes::from(vec![0; bytes]))
        };
        let each = if signature.states.is_empty() { rows } else { 1 };
        let mut payloads = Vec::new();
        for spec in &signature.inputs {
            payloads.push(zeros(spec, each, &mut sizes));
        }
        Self { key: GroupKey(key), rows, each, payloads }
    }

    fn run(self, pipeline: &mut dyn Pipeline) -> Result<()> {
        pipeline.begin(self.rows, &self.key)?;
        for row in 0..self.rows / self.each {
            // No stream ever has this generation, so nothing of the warm-up is left for one.
            pipeline.put(self.each, &self.payloads, Some(Slot { index: row, generation: u64::MAX }))?;
        }
        pipeline.launch()?;
        let _ = pipeline.landings().recv();
        pipeline.land().map(drop)
    }
}
