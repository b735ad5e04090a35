//! A real model on a device: how long its batches take, and whether it answers as another device does.

use std::time::Duration;

use bytes::Bytes;

use super::Wrong;
use super::model::sizes;
use super::random::Random;
use crate::clock::Clock;
use crate::lane::{Landed, Pipeline};
use crate::streams::Slot;
use crate::tensor::{BatchOutput, DataType, Dim, GroupKey, Payload, Signature, TensorSpec};

/// Runs of each batch size, after some that do not count.
const RUNS: usize = 20;
const WARM_UP: usize = 3;
/// Steps of which each begins with the state of the one before.
const STEPS: usize = 4;

/// How long a batch of each size takes, from its rows to its answer: the median of some runs.
pub fn run_times(
    pipeline: &mut dyn Pipeline,
    signature: &Signature,
    batch_sizes: &[usize],
    seed: u64,
    clock: Clock,
) -> Result<Vec<(usize, Duration)>, String> {
    let mut random = Random::new(seed);
    let mut timed = Vec::new();
    for &rows in batch_sizes {
        let batch = Batch::random(signature, rows, &mut random)?;
        let mut times = Vec::new();
        for run in 0..WARM_UP + RUNS {
            let start = clock.now();
            batch.run(pipeline).map_err(|Wrong(why)| why)?;
            times.extend((run >= WARM_UP).then_some(clock.now() - start));
        }
        times.sort_unstable();
        timed.push((rows, times.get(times.len() / 2).copied().unwrap_or_default()));
    }
    Ok(timed)
}

/// The greatest difference between what two devices answer, relative to the greater of the two numbers or 1. Numbers
/// that are whole have to be equal, else they differ by infinity.
pub fn difference(
    one: &mut dyn Pipeline,
    other: &mut dyn Pipeline,
    signature: &Signature,
    batch_sizes: &[usize],
    seed: u64,
) -> Result<f64, String> {
    let mut random = Random::new(seed);
    let mut greatest = 0.0f64;
    for &rows in batch_sizes {
        for _ in 0..STEPS {
            let batch = Batch::random(signature, rows, &mut random)?;
            let run = |pipeline: &mut dyn Pipeline| batch.run(pipeline).map_err(|Wrong(why)| why);
            let (one, other) = (run(one)?, run(other)?);
            for (index, spec) in signature.outputs.iter().enumerate() {
                let differ = |row| apart(&one, &other, index, row, spec.datatype);
                let differ = (0..rows).map(differ).fold(0.0, f64::max);
                greatest = greatest.max(differ);
            }
        }
    }
    Ok(greatest)
}

fn apart(one: &BatchOutput, other: &BatchOutput, output: usize, row: usize, datatype: DataType) -> f64 {
    let bytes = |from: &BatchOutput| -> Vec<u8> {
        from.columns
            .get(output)
            .map_or(Vec::new(), |column| column.slice(row, 1).chunks().flatten().copied().collect())
    };
    let (one, other) = (bytes(one), bytes(other));
    let (Some(ones), Some(others)) = (numbers(&one, datatype), numbers(&other, datatype)) else {
        return if one == other { 0.0 } else { f64::INFINITY };
    };
    if ones.len() != others.len() {
        return f64::INFINITY;
    }
    let relative = |(a, b): (&f64, &f64)| match (a - b).abs() {
        _ if a == b || a.is_nan() && b.is_nan() => 0.0,
        apart if apart.is_nan() => f64::INFINITY,
        apart => apart / a.abs().max(b.abs()).max(1.0),
    };
    ones.iter().zip(&others).map(relative).fold(0.0, f64::max)
}

/// Floats; `None` where a datatype has none.
fn numbers(bytes: &[u8], datatype: DataType) -> Option<Vec<f64>> {
    Some(match datatype {
        DataType::Fp16 => {
            bytes.as_chunks().0.iter().map(|&bytes| half::f16::from_le_bytes(bytes).into()).collect()
        }
        DataType::Bf16 => {
            bytes.as_chunks().0.iter().map(|&bytes| half::bf16::from_le_bytes(bytes).into()).collect()
        }
        DataType::Fp32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect(),
        DataType::Fp64 => bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        _ => return None,
    })
}

/// Rows of numbers that every model can take, each of a stream of its own.
struct Batch {
    rows: usize,
    key: GroupKey,
    each: usize,
    /// Of each request.
    payloads: Vec<Vec<Payload>>,
    keeps_state: bool,
}

impl Batch {
    fn random(signature: &Signature, rows: usize, random: &mut Random) -> Result<Self, String> {
        let keeps_state = !signature.states.is_empty();
        let each = if keeps_state { 1 } else { rows };
        let input = |spec: &TensorSpec, random: &mut Random| {
            let size = spec.datatype.size().ok_or_else(|| format!("'{}' has strings", spec.name))?;
            let rows = if spec.batch_axis.is_some() { each } else { 1 };
            // Sizes that nothing fixes are 1.
            let (outer, inner) = sizes(spec);
            let elements = outer * rows * inner / size;
            let bytes: Vec<u8> = (0..elements).flat_map(|_| number(spec.datatype, random)).collect();
            Ok(Payload::Rows(Bytes::from(bytes)))
        };
        let request = |random: &mut Random| signature.inputs.iter().map(|spec| input(spec, random)).collect();
        let payloads = (0..rows / each).map(|_| request(random)).collect::<Result<_, String>>()?;
        let dynamic = |spec: &TensorSpec| {
            let dims = spec.dims.iter().enumerate();
            dims.filter(|&(axis, dim)| *dim == Dim::Dynamic && spec.batch_axis != Some(axis)).count()
        };
        let key = GroupKey(std::iter::repeat_n(1, signature.inputs.iter().map(dynamic).sum()).collect());
        Ok(Self { rows, key, each, payloads, keeps_state })
    }

    fn run(&self, pipeline: &mut dyn Pipeline) -> Result<BatchOutput, Wrong> {
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

/// A float between -1 and 1, or a small whole number: an index is in range wherever there are ten.
fn number(datatype: DataType, random: &mut Random) -> Vec<u8> {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "it is small")]
    let float = (random.below(1 << 16) as f32) / 32768.0 - 1.0;
    let whole = u8::try_from(random.below(10)).unwrap_or(0);
    match datatype {
        DataType::Fp16 => half::f16::from_f32(float).to_le_bytes().to_vec(),
        DataType::Bf16 => half::bf16::from_f32(float).to_le_bytes().to_vec(),
        DataType::Fp32 => float.to_le_bytes().to_vec(),
        DataType::Fp64 => f64::from(float).to_le_bytes().to_vec(),
        DataType::Bool => vec![whole & 1],
        other => {
            let mut bytes = vec![0; other.size().unwrap_or(0)];
            bytes.first_mut().into_iter().for_each(|first| *first = whole);
            bytes
        }
    }
}
