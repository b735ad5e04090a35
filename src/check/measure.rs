//! A real model on a device: how long its batches take, and whether it answers as another device does.

use std::time::Duration;

use super::batch::Batch;
use super::random::Random;
use super::timing::{self, Effort, Samples};
use crate::clock::Clock;
use crate::lane::Pipeline;
use crate::tensor::{BatchOutput, DataType, Signature};

/// Steps of which each begins with the state of the one before.
const STEPS: usize = 4;
/// Of whole numbers that are given: an index is in range wherever there are ten.
const END: u8 = 10;

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
        let batch = Batch::random(signature, rows, END, &mut random);
        let samples = timing::sample(&Effort::runs(20), &clock, || batch.run(pipeline).map(drop))?;
        timed.push((rows, Samples::times(&[samples]).median));
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
            let batch = Batch::random(signature, rows, END, &mut random);
            let (one, other) = (batch.run(one)?, batch.run(other)?);
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
