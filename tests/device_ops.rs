//! What surrounds a model on either device: conversions before it and reductions behind it, held against loops that are
//! written out here. The model itself only copies.
//!
//! The GPU is the one that the driver shows, which is an emulated one in `make device-tests`. `THALWEG_SEED` tries one
//! again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use half::{bf16, f16};
use thalweg::device::{Cpu, TensorView};
use thalweg::engine::Running;
use thalweg::lane::{Host, Landed, Pipeline};
use thalweg::streams::Slot;
use thalweg::tensor::{
    BatchOutput, Column, Conversion, DataType, Dim, GroupKey, Narrow, Payload, Reduction, Signature,
    StateSpec, Storage, TensorSpec,
};

const SEEDS: u64 = 20;
const LIMIT: usize = 9;

/// One input, and the output that is a copy of it.
struct Tensor {
    datatype: DataType,
    /// Sizes before the batch, and behind it.
    before: &'static [usize],
    behind: &'static [usize],
    conversion: Option<Conversion>,
    reduction: Option<Reduction>,
}

struct Model {
    tensors: Vec<Tensor>,
    signature: Signature,
}

impl Model {
    fn new(tensors: Vec<Tensor>, states: Vec<StateSpec>) -> Self {
        let specs = |way: &str| -> Vec<_> {
            tensors.iter().enumerate().map(|(index, tensor)| tensor.spec(&format!("{way}{index}"))).collect()
        };
        let signature =
            Signature { inputs: specs("in"), outputs: specs("out"), states, max_batch_size: LIMIT };
        Self { tensors, signature }
    }

    fn conversions(&self) -> Vec<Option<Conversion>> {
        self.tensors.iter().map(|tensor| tensor.conversion.clone()).collect()
    }

    fn reductions(&self) -> Vec<Option<Reduction>> {
        self.tensors.iter().map(|tensor| tensor.reduction).collect()
    }
}

impl Tensor {
    fn spec(&self, name: &str) -> TensorSpec {
        let fixed = |dims: &[usize]| dims.iter().map(|&dim| Dim::Fixed(dim)).collect::<Vec<_>>();
        let dims = [fixed(self.before), vec![Dim::Dynamic], fixed(self.behind)].concat();
        TensorSpec { name: name.into(), datatype: self.datatype, dims, batch_axis: Some(self.before.len()) }
    }

    /// What a client sends an element as.
    fn sent(&self) -> DataType {
        match &self.conversion {
            Some(Conversion::Scale { from, .. }) => from.datatype(),
            Some(Conversion::Planes { .. }) => DataType::Uint8,
            _ => self.datatype,
        }
    }

    /// A request's rows, and each of them as the model takes it.
    fn request(&self, random: &mut Rng, rows: usize) -> (Vec<u8>, Vec<Vec<f32>>) {
        let (outer, inner): (usize, usize) = (self.before.iter().product(), self.behind.iter().product());
        let mut bytes = Vec::new();
        let mut model = vec![Vec::new(); rows];
        for _ in 0..outer {
            for row in &mut model {
                let sent: Vec<f32> = (0..inner).map(|_| element(random, self.sent(), &mut bytes)).collect();
                row.extend(self.converted(&sent));
            }
        }
        (bytes, model)
    }

    fn converted(&self, sent: &[f32]) -> Vec<f32> {
        match &self.conversion {
            Some(Conversion::Scale { scale, offset, .. }) => {
                sent.iter().map(|value| value.mul_add(*scale, *offset)).collect()
            }
            Some(Conversion::Planes { mean, deviation }) => {
                let channels = mean.len();
                let pixel = |c: usize, p: usize| (sent[p * channels + c] / 255.0 - mean[c]) / deviation[c];
                let plane = |c: usize| (0..sent.len() / channels).map(move |p| pixel(c, p));
                (0..channels).flat_map(plane).collect()
            }
            _ => sent.to_vec(),
        }
    }

    /// What a client gets of a row.
    fn reduced(&self, row: &[f32]) -> Vec<Vec<f64>> {
        let rows = row.chunks(*self.behind.last().unwrap());
        let wide = |row: &[f32]| row.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let softmax = |row: &[f32]| {
            let powers: Vec<f64> = wide(row).iter().map(|value| value.exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect::<Vec<_>>()
        };
        let order = |row: &[f32]| {
            let mut order: Vec<usize> = (0..row.len()).collect();
            // Stable: equal values keep their order.
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            order
        };
        match self.reduction {
            None => vec![wide(row)],
            Some(Reduction::Softmax) => vec![rows.flat_map(softmax).collect()],
            Some(Reduction::L2Norm) => {
                let length = |row: &[f32]| wide(row).iter().map(|value| value * value).sum::<f64>().sqrt();
                let unit = |row: &[f32]| {
                    let length = length(row);
                    wide(row).into_iter().map(move |value| if length == 0.0 { 0.0 } else { value / length })
                };
                vec![rows.flat_map(unit).collect()]
            }
            Some(Reduction::Argmax) => vec![rows.map(|row| order(row)[0] as f64).collect()],
            Some(Reduction::Threshold(at)) => {
                vec![row.iter().map(|&value| f64::from(u8::from(value >= at))).collect()]
            }
            Some(Reduction::TopK { k, softmax: of_probabilities }) => {
                let (mut values, mut indices) = (Vec::new(), Vec::new());
                for row in rows {
                    let all = if of_probabilities { softmax(row) } else { wide(row) };
                    for place in order(row).into_iter().take(k) {
                        values.push(all[place]);
                        indices.push(place as f64);
                    }
                }
                vec![values, indices]
            }
        }
    }
}

/// A number that the datatype has, of which many are equal; its bytes are appended.
fn element(random: &mut Rng, datatype: DataType, bytes: &mut Vec<u8>) -> f32 {
    let value = f32::from(random.i8(-40..40)) / 8.0;
    match datatype {
        DataType::Uint8 => {
            bytes.push(random.u8(..));
            f32::from(*bytes.last().unwrap())
        }
        DataType::Int16 => {
            let value = random.i16(..);
            bytes.extend(value.to_le_bytes());
            f32::from(value)
        }
        DataType::Fp16 => {
            bytes.extend(f16::from_f32(value).to_le_bytes());
            value
        }
        DataType::Bf16 => {
            bytes.extend(bf16::from_f32(value).to_le_bytes());
            value
        }
        DataType::Fp32 => {
            bytes.extend(value.to_le_bytes());
            value
        }
        other => panic!("no tensor here is {other}"),
    }
}

fn numbers(column: &Column, row: usize) -> Vec<f64> {
    let bytes: Vec<u8> = column.slice(row, 1).chunks().flatten().copied().collect();
    match column.datatype {
        DataType::Fp32 => {
            bytemuck::pod_collect_to_vec::<u8, f32>(&bytes).into_iter().map(f64::from).collect()
        }
        DataType::Int32 => {
            bytemuck::pod_collect_to_vec::<u8, i32>(&bytes).into_iter().map(f64::from).collect()
        }
        DataType::Bool => bytes.into_iter().map(f64::from).collect(),
        other => panic!("no answer here is {other}"),
    }
}

/// Equal, but for the rounding of a sum where there is one.
fn assert_close(found: &[f64], expected: &[f64], exact: bool, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let bound = if exact { 0.0 } else { 1e-5 * expected.abs() + 1e-30 };
        assert!((found - expected).abs() <= bound, "{what}: {place} is {found}, not {expected}");
    }
}

/// Every conversion and every reduction, in one model.
fn everything() -> Model {
    let scale = |from, scale, offset| Some(Conversion::Scale { from, scale, offset });
    let planes = |channels: usize| {
        let mean = (0..channels).map(|channel| 0.4 + channel as f32 / 10.0).collect();
        let deviation = (0..channels).map(|channel| 0.2 + channel as f32 / 50.0).collect();
        Some(Conversion::Planes { mean, deviation })
    };
    let fp32 = |behind, conversion, reduction| Tensor {
        datatype: DataType::Fp32,
        before: &[],
        behind,
        conversion,
        reduction,
    };
    let like = |datatype, reduction| Tensor { datatype, ..fp32(&[2, 37], None, Some(reduction)) };
    let bytes = || scale(Narrow::Uint8, 1.0 / 32.0, -4.0);
    Model::new(
        vec![
            fp32(&[7], scale(Narrow::Uint8, 1.0, 0.0), None),
            fp32(&[33], scale(Narrow::Uint8, 1.0 / 255.0, -0.3), None),
            fp32(&[5], scale(Narrow::Int16, 1.0, 0.0), None),
            fp32(&[8], scale(Narrow::Int16, 1.0 / 32_768.0, 0.0), None),
            fp32(&[3], scale(Narrow::Int16, 0.1, 7.0), None),
            fp32(&[6], scale(Narrow::Fp16, 1.0, 0.0), None),
            fp32(&[1], scale(Narrow::Bf16, -0.7, 0.1), None),
            fp32(&[3, 5, 7], planes(3), None),
            fp32(&[1, 4, 4], planes(1), None),
            Tensor { before: &[2, 3], ..fp32(&[5], scale(Narrow::Fp16, 3.0, 1.0), None) },
            fp32(&[100], bytes(), Some(Reduction::Softmax)),
            fp32(&[100], bytes(), Some(Reduction::TopK { k: 5, softmax: true })),
            fp32(&[3, 40], bytes(), Some(Reduction::TopK { k: 40, softmax: false })),
            fp32(&[100], bytes(), Some(Reduction::Argmax)),
            fp32(&[64], None, Some(Reduction::L2Norm)),
            fp32(&[2, 9], None, Some(Reduction::Threshold(0.5))),
            fp32(&[3, 5, 7], planes(3), Some(Reduction::Argmax)),
            Tensor { before: &[2], ..fp32(&[3, 6], None, Some(Reduction::Argmax)) },
            Tensor { before: &[2], ..fp32(&[6], None, Some(Reduction::TopK { k: 2, softmax: true })) },
            like(DataType::Fp16, Reduction::Softmax),
            like(DataType::Bf16, Reduction::L2Norm),
            like(DataType::Fp16, Reduction::TopK { k: 3, softmax: true }),
            like(DataType::Bf16, Reduction::TopK { k: 3, softmax: false }),
            like(DataType::Fp16, Reduction::Threshold(-1.0)),
            like(DataType::Bf16, Reduction::Argmax),
            fp32(&[4], None, None),
        ],
        Vec::new(),
    )
}

/// Batches of random requests, several for each seed.
fn check_everything(start: impl Fn(&Model) -> Box<dyn Pipeline>) {
    let model = everything();
    with_seeds(|random| {
        let mut pipeline = start(&model);
        for _ in 0..3 {
            let mut room = random.usize(1..=LIMIT);
            let mut requests = Vec::new();
            while room > 0 {
                let rows = random.usize(1..=room.min(3));
                requests
                    .push((rows, model.tensors.iter().map(|t| t.request(random, rows)).collect::<Vec<_>>()));
                room -= rows;
            }
            let total = requests.iter().map(|request| request.0).sum();
            pipeline.begin(total, &GroupKey::default()).unwrap();
            for (rows, tensors) in &requests {
                let payloads: Vec<_> =
                    tensors.iter().map(|(bytes, _)| Payload::Rows(bytes.clone().into())).collect();
                pipeline.put(*rows, &payloads, None).unwrap();
            }
            let output = run(&mut *pipeline);
            let mut columns = output.columns.iter();
            for (index, tensor) in model.tensors.iter().enumerate() {
                let rows = requests.iter().flat_map(|(_, tensors)| &tensors[index].1);
                let answers: Vec<_> = rows.map(|row| tensor.reduced(row)).collect();
                for part in 0..answers[0].len() {
                    let column = columns.next().unwrap();
                    let exact = !matches!(
                        (tensor.reduction, part),
                        (
                            Some(
                                Reduction::Softmax
                                    | Reduction::L2Norm
                                    | Reduction::TopK { softmax: true, .. }
                            ),
                            0
                        )
                    );
                    for (row, answer) in answers.iter().enumerate() {
                        let what = format!("row {row} of {total} of output {index}.{part}, {column:?}");
                        assert_close(&numbers(column, row), &answer[part], exact, &what);
                    }
                }
            }
            assert!(columns.next().is_none());
        }
    });
}

/// States stand behind outputs, of which a reduction makes more: each step gives the step before it.
fn check_state(start: impl Fn(&Model) -> Box<dyn Pipeline>) {
    let reduction = Some(Reduction::TopK { k: 1, softmax: false });
    let conversion = Some(Conversion::Scale { from: Narrow::Uint8, scale: 1.0, offset: 0.0 });
    let tensor = || Tensor {
        datatype: DataType::Fp32,
        before: &[],
        behind: &[3],
        conversion: conversion.clone(),
        reduction,
    };
    let state = StateSpec {
        input: tensor().spec("state"),
        output: tensor().spec("next"),
        initial: bytemuck::cast_slice(&[0.0f32, 1.0, 500.0]).to_vec(),
    };
    let model = Model::new(vec![tensor()], vec![state]);
    let mut pipeline = start(&model);
    let mut step = |begun, bytes: [u8; 3]| {
        pipeline.begin(1, &GroupKey::default()).unwrap();
        let slot = Slot { index: 2, generation: 1, begun };
        pipeline.put(1, &[Payload::Rows(bytes.to_vec().into())], Some(slot)).unwrap();
        let output = run(&mut *pipeline);
        [0, 1].map(|index| numbers(&output.columns[index], 0))
    };
    assert_eq!(step(false, [7, 9, 8]), [[500.0], [2.0]]);
    assert_eq!(step(true, [1, 2, 200]), [[9.0], [1.0]]);
    assert_eq!(step(true, [0, 0, 0]), [[200.0], [2.0]]);
}

fn run(pipeline: &mut dyn Pipeline) -> BatchOutput {
    pipeline.launch().unwrap();
    pipeline.landings().recv().unwrap();
    let Landed { output, .. } = pipeline.land().unwrap();
    output
}

fn with_seeds(case: impl Fn(&mut Rng)) {
    #[allow(clippy::disallowed_methods, reason = "the seed to try again")]
    let chosen: Option<u64> = std::env::var("THALWEG_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in chosen.map_or(0..SEEDS, |seed| seed..seed + 1) {
        if catch_unwind(AssertUnwindSafe(|| case(&mut Rng::with_seed(seed)))).is_err() {
            panic!("THALWEG_SEED={seed} tries it again");
        }
    }
}

/// For each output, then each state, the input that is copied; states stand behind inputs.
fn wiring(signature: &Signature) -> Vec<usize> {
    let (inputs, states) = (signature.inputs.len(), signature.states.len());
    // With state, the output is the state, and the next state the input.
    if states > 0 { vec![1, 0] } else { (0..inputs).collect() }
}

struct OnHost(Vec<(usize, Option<usize>)>);

impl Running for OnHost {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> thalweg::error::Result<BatchOutput> {
        let copy = |&(input, axis): &(usize, Option<usize>)| {
            let TensorView { datatype, shape, data } = &inputs[input];
            Column::new(*datatype, shape.clone(), axis, Storage::Fixed(Box::new(data.to_vec()))).unwrap()
        };
        Ok(BatchOutput::new(self.0.iter().map(copy).collect()))
    }
}

fn on_host(model: &Model) -> Box<dyn Pipeline> {
    let states = model.signature.states.iter().map(|state| &state.output);
    let outputs = model.signature.outputs.iter().chain(states);
    let wiring = wiring(&model.signature).into_iter().zip(outputs.map(|spec| spec.batch_axis));
    let device = Cpu::new(&model.signature, &model.conversions(), &model.reductions());
    Box::new(Host::new(device, Box::new(OnHost(wiring.collect()))))
}

#[test]
fn the_cpu_converts_and_reduces() {
    check_everything(on_host);
}

#[test]
fn the_cpu_keeps_states_behind_what_is_reduced() {
    check_state(on_host);
}

#[cfg(feature = "cuda")]
mod gpu {
    use std::path::Path;
    use std::sync::OnceLock;

    use thalweg::device::cuda::{Copies, Gpu};
    use thalweg::device::{Buckets, Resident};
    use thalweg::engine::Bound;
    use thalweg::lane::Cuda;

    use super::*;

    fn gpu() -> Gpu {
        static GPU: OnceLock<Gpu> = OnceLock::new();
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kernels");
        GPU.get_or_init(|| Gpu::open(0, Some(&cache)).unwrap_or_else(|unfit| panic!("{unfit}"))).clone()
    }

    struct OnDevice(Copies);

    impl Bound for OnDevice {
        fn launch(&mut self, bucket: usize) -> thalweg::error::Result<()> {
            self.0.launch(bucket)
        }

        fn replays_graphs(&self) -> bool {
            false
        }
    }

    fn on_gpu(model: &Model) -> Box<dyn Pipeline> {
        let (signature, buckets) = (&model.signature, Buckets::new(LIMIT, &[]));
        let (conversions, reductions) = (model.conversions(), model.reductions());
        let resident = Resident::new(signature, &conversions, &reductions, buckets, 2, 4).unwrap();
        let device = gpu().device(resident).unwrap();
        let copies = device.copies(&wiring(signature)).unwrap();
        Box::new(Cuda::new(device, Box::new(OnDevice(copies))))
    }

    #[test]
    fn the_gpu_converts_and_reduces() {
        check_everything(on_gpu);
    }

    #[test]
    fn the_gpu_keeps_states_behind_what_is_reduced() {
        check_state(on_gpu);
    }

    /// Of a thousand values, five and their places leave the device.
    #[test]
    fn only_what_clients_get_crosses_back() {
        let tensor = Tensor {
            datatype: DataType::Fp32,
            before: &[],
            behind: &[1000],
            conversion: Some(Conversion::Scale { from: Narrow::Uint8, scale: 1.0, offset: 0.0 }),
            reduction: Some(Reduction::TopK { k: 5, softmax: true }),
        };
        let mut pipeline = on_gpu(&Model::new(vec![tensor], Vec::new()));
        pipeline.begin(4, &GroupKey::default()).unwrap();
        pipeline.put(4, &[Payload::Rows(vec![0; 4000].into())], None).unwrap();
        pipeline.launch().unwrap();
        pipeline.landings().recv().unwrap();
        let (times, _) = pipeline.land().unwrap().times.unwrap();
        assert_eq!(times.bytes_down, 2 * 4 * 5 * 4);
        assert!((4000..4600).contains(&times.bytes_up), "{} bytes", times.bytes_up);
    }
}
