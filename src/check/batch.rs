//! Batches that every model can take, to be run again and again.

use bytes::Bytes;

use super::Wrong;
use super::random::Random;
use crate::lane::{Landed, Pipeline};
use crate::registry::Stream;
use crate::registry::file::ModelFile;
use crate::streams::Slot;
use crate::tensor::{BatchOutput, DataType, Dim, GroupKey, Payload, Signature, TensorSpec, element_count};

/// A window of a signal has one size, whatever the model could take.
pub fn fix(signature: &mut Signature, file: &ModelFile) {
    let stream = file.stream.as_ref().and_then(|stream| Stream::new(stream, signature).ok());
    let (Some(Stream::Signal(signal)), Some(input)) = (stream, signature.inputs.first_mut()) else { return };
    let batch = input.batch_axis;
    let dims = input.dims.iter_mut().enumerate();
    let dynamic = dims.filter(|(axis, dim)| **dim == Dim::Dynamic && Some(*axis) != batch);
    for ((_, dim), &size) in dynamic.zip(&signal.key.0) {
        *dim = Dim::Fixed(size);
    }
}

/// Rows of numbers that every model can take, each of a stream of its own.
pub struct Batch {
    rows: usize,
    key: GroupKey,
    each: usize,
    /// Of each request.
    payloads: Vec<Vec<Payload>>,
    keeps_state: bool,
}

impl Batch {
    /// Floats between -1 and 1, all else zero, which is an index that every table has. The same seed makes the same.
    pub fn seeded(signature: &Signature, rows: usize, seed: u64) -> Self {
        Self::random(signature, rows, 1, &mut Random::new(seed))
    }

    /// Whole numbers are below `end`.
    pub(super) fn random(signature: &Signature, rows: usize, end: u8, random: &mut Random) -> Self {
        let keeps_state = !signature.states.is_empty();
        let each = if keeps_state { 1 } else { rows };
        let input = |spec: &TensorSpec, random: &mut Random| {
            // Sizes that nothing fixes are 1.
            let elements = element_count(&spec.batch_shape(each, &mut std::iter::repeat(1))).unwrap_or(0);
            let bytes: Vec<u8> = (0..elements).flat_map(|_| number(spec.datatype, end, random)).collect();
            Payload::Rows(Bytes::from(bytes))
        };
        let request = |random: &mut Random| signature.inputs.iter().map(|spec| input(spec, random)).collect();
        let payloads = (0..rows / each).map(|_| request(random)).collect();
        let dynamic = |spec: &TensorSpec| {
            let dims = spec.dims.iter().enumerate();
            dims.filter(|&(axis, dim)| *dim == Dim::Dynamic && spec.batch_axis != Some(axis)).count()
        };
        let key = GroupKey(std::iter::repeat_n(1, signature.inputs.iter().map(dynamic).sum()).collect());
        Self { rows, key, each, payloads, keeps_state }
    }

    /// Its first request, and what such requests have in common.
    pub(super) fn request(&self) -> (&GroupKey, &[Payload]) {
        (&self.key, self.payloads.first().map_or(&[], Vec::as_slice))
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// From its rows to its answer.
    pub fn run(&self, pipeline: &mut dyn Pipeline) -> Result<BatchOutput, String> {
        self.go(pipeline).map_err(|Wrong(why)| why)
    }

    fn go(&self, pipeline: &mut dyn Pipeline) -> Result<BatchOutput, Wrong> {
        pipeline.begin(self.rows, &self.key)?;
        for (index, payloads) in self.payloads.iter().enumerate() {
            let later = Slot { index, generation: 1, begun: true };
            let slot = Slot { begun: pipeline.holds(later), ..later };
            let slot = self.keeps_state.then_some(slot);
            pipeline.put(self.each, payloads, slot)?;
        }
        pipeline.launch()?;
        pipeline.landings().recv()?;
        let Landed { output, .. } = pipeline.land()?;
        Ok(output)
    }
}

/// A float between -1 and 1, or a whole number below `end`.
fn number(datatype: DataType, end: u8, random: &mut Random) -> Vec<u8> {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "it is small")]
    let float = (random.below(1 << 16) as f32) / 32768.0 - 1.0;
    let whole = u8::try_from(random.below(end.into())).unwrap_or(0);
    match datatype {
        DataType::Fp16 => half::f16::from_f32(float).to_le_bytes().to_vec(),
        DataType::Bf16 => half::bf16::from_f32(float).to_le_bytes().to_vec(),
        DataType::Fp32 => float.to_le_bytes().to_vec(),
        DataType::Fp64 => f64::from(float).to_le_bytes().to_vec(),
        DataType::Bool => vec![whole & 1],
        other => {
            // Four zero bytes are also an empty string.
            let Some(size) = other.size() else { return vec![0; 4] };
            let mut bytes = vec![0; size];
            bytes.first_mut().into_iter().for_each(|first| *first = whole);
            bytes
        }
    }
}
