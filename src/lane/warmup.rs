//! A run of zeros.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::device::Device;
use crate::engine::Running;
use crate::error::Result;
use crate::streams::Slot;
use crate::tensor::{Dim, GroupKey, Payload, Signature, TensorSpec, element_count};

pub(super) fn run(
    device: &mut dyn Device,
    model: &mut dyn Running,
    signature: &Signature,
    rows: usize,
) -> Result<()> {
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
    device.begin(rows, &GroupKey(key.clone()))?;
    for row in 0..rows / each {
        // No stream ever has this generation, so nothing of the warm-up is left for one.
        device.put(each, &payloads, Some(Slot { index: row, generation: u64::MAX }))?;
    }
    model.run(&device.inputs())?;
    Ok(())
}
