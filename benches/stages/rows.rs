//! Rows on their way into a batch and out of its output.

#![allow(clippy::expect_used, reason = "a bench ends where something is not as it should be")]

use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;
use thalweg::clock::Time;
use thalweg::device::Cpu;
use thalweg::queue::Draft;
use thalweg::tensor::{
    BatchOutput, Column, DataType, Dim, GroupKey, Payload, Rows, Shape, Signature, Storage, TensorSpec,
};

pub const WIDTH: usize = 64;

/// Of a model with one input and one output of these dimensions.
pub fn signature(dims: &[Dim], batch_axis: usize) -> Signature {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        dims: dims.to_vec(),
        batch_axis: Some(batch_axis),
    };
    Signature {
        inputs: vec![spec("input")],
        outputs: vec![spec("output")],
        states: vec![],
        max_batch_size: 64,
    }
}

/// Rows of 64 numbers.
pub fn flat() -> Signature {
    signature(&[Dim::Dynamic, Dim::Fixed(WIDTH)], 0)
}

pub fn draft(payload: Bytes, key: GroupKey, enqueued: Time) -> Draft {
    let payloads = smallvec![Payload::Rows(payload)];
    Draft { payloads, rows: 1, key, slot: None, priority: 0, enqueued, deadline: None }
}

/// A batch of `count` times the same row; how many tensors it has.
pub fn gather(device: &mut Cpu, payloads: &[Payload], count: usize) -> usize {
    device.begin(count, &GroupKey::default()).expect("begun");
    for _ in 0..count {
        device.put(1, payloads, None).expect("put");
    }
    device.inputs().len()
}

pub fn output(shape: Shape, axis: usize) -> Arc<BatchOutput> {
    let bytes = vec![0u8; shape.iter().product::<usize>() * 4];
    let storage = Storage::Fixed(Box::new(bytes));
    let column = Column::new(DataType::Fp32, shape, Some(axis), storage).expect("whole");
    Arc::new(BatchOutput::new(vec![column]))
}

/// Copies a request's rows as a connection copies them.
pub fn copy(rows: &Rows, out: &mut Vec<u8>) {
    out.clear();
    let slice = rows.column(0).expect("the column");
    slice.chunks().for_each(|chunk| out.extend_from_slice(chunk));
}
