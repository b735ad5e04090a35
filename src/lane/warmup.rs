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

    pub fn run(&self, pipeline: &mut dyn Pipeline) -> Result<()> {
        self.0.iter().try_for_each(|zeros| zeros.run(pipeline))
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

    fn run(&self, pipeline: &mut dyn Pipeline) -> Result<()> {
        pipeline.begin(self.rows, &self.key)?;
        for _ in 0..self.rows / self.each {
            pipeline.put(self.each, &self.payloads, Some(Slot::NOBODYS))?;
        }
        pipeline.launch()?;
        let _ = pipeline.landings().recv();
        pipeline.land().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::super::Host;
    use super::*;
    use crate::device::{Cpu, TensorView};
    use crate::engine::Running;
    use crate::tensor::{BatchOutput, Column, DataType, StateSpec, Storage};

    /// Gives 1 + its state, as output and as the next state.
    struct Counts;

    impl Running for Counts {
        fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
            let state: &[i32] = bytemuck::cast_slice(inputs[1].data);
            let next: Vec<i32> = state.iter().map(|count| count + 1).collect();
            let column = || {
                let storage = Storage::Fixed(Box::new(bytemuck::cast_slice::<i32, u8>(&next).to_vec()));
                Column::new(DataType::Int32, smallvec![next.len(), 1], Some(0), storage).unwrap()
            };
            Ok(BatchOutput::new(vec![column(), column()]))
        }
    }

    #[test]
    fn nothing_of_it_is_left_for_a_stream() {
        let spec = |name: &str| TensorSpec {
            name: name.into(),
            datatype: DataType::Int32,
            dims: vec![Dim::Dynamic, Dim::Fixed(1)],
            batch_axis: Some(0),
        };
        let state = StateSpec { input: spec("s"), output: spec("t"), initial: vec![0; 4] };
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            states: vec![state],
            max_batch_size: 4,
        };
        let mut pipeline = Host::new(Cpu::new(&signature, &[], &[]), Box::new(Counts));
        WarmUp::new(&signature, [1, 4, 4]).run(&mut pipeline).unwrap();
        for step in 1..4 {
            let slot = Slot { index: 0, generation: 1, begun: step > 1 };
            pipeline.begin(1, &GroupKey::default()).unwrap();
            pipeline.put(1, &[Payload::Rows(Bytes::from_static(&[0; 4]))], Some(slot)).unwrap();
            pipeline.launch().unwrap();
            let output = pipeline.land().unwrap().output;
            let answer: Vec<u8> = output.columns[0].slice(0, 1).chunks().flatten().copied().collect();
            assert_eq!(answer, i32::to_le_bytes(step));
        }
    }
}
