//! ONNX Runtime on the CPU, in the memory of the emulated GPU: a lane's whole way through a device, with real models.
//!
//! Emulated addresses are the host's own. Only the order is not: the model does not run in the compute stream, which
//! is waited for before each run.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use thalweg::clock::Clock;
use thalweg::device::cuda::Compute;
use thalweg::device::{Buckets, Cpu, Resident, StageTimes};
use thalweg::engine::onnx::OnnxRuntime;
use thalweg::engine::{Bound, Engine, Site};
use thalweg::error::Result;
use thalweg::lane::{Cuda, Host, Landed, Pipeline, Trace, Traced};
use thalweg::registry::{Derived, Opened, derive, open, read_model};
use thalweg::streams::Slot;
use thalweg::tensor::{DataType, Dim, GroupKey, Payload, Signature, TensorSpec};

use crate::project;

/// A model that runs where the device's work is known to be done.
struct InTurn {
    compute: Compute,
    model: Box<dyn Bound>,
}

impl Bound for InTurn {
    fn launch(&mut self, bucket: usize) -> Result<()> {
        self.compute.wait()?;
        self.model.launch(bucket)
    }

    fn replays_graphs(&self) -> bool {
        false
    }
}

/// The same model on the plain CPU and on the device, whose dynamic sizes beside the batch become `sizes`; of `kept`,
/// an input and an output, the streams keep the state.
fn pipelines(
    runtime: &OnnxRuntime,
    name: &str,
    kept: Option<(&str, &str)>,
    sizes: &[usize],
    depth: usize,
) -> (Signature, [Box<dyn Pipeline>; 2]) {
    let folders = [project("tests/models/repository").join(name), project("models").join(name)];
    let folder = folders.iter().find(|folder| folder.join("1/model.onnx").is_file());
    let folder = folder.unwrap_or_else(|| panic!("there is no model {name}: run `make test-models models`"));
    let mut file = read_model(folder).unwrap().0;
    if let Some((input, output)) = kept {
        let state = format!("state = [{{ input_name = '{input}', output_name = '{output}' }}]");
        file.sequence_batching = Some(toml::from_str(&state).unwrap());
    }
    let Opened { model, file, .. } = open(runtime, folder, 1, &file).unwrap();
    let Derived { model: mut signature, constants, .. } = derive(model.graph(), &file).unwrap();
    let cpu = Host::new(Cpu::new(&signature, &[], &[]), model.start(&signature, &constants).unwrap());

    signature.max_batch_size = signature.max_batch_size.min(LIMIT);
    fix(&mut signature, sizes);
    let buckets = Buckets::new(signature.batch_limit(), &[]);
    let resident = Resident::new(&signature, &[], &[], buckets.clone(), depth, STREAMS).unwrap();
    let device = crate::gpu::gpu().device(resident).unwrap();
    let places: Vec<_> = buckets.sizes().iter().map(|&rows| device.places(rows)).collect();
    let compute = device.compute();
    let model = model.bind(Site::Host, &signature, &constants, &places).unwrap();
    let gpu = Cuda::new(device, Box::new(InTurn { compute, model }));
    (signature, [Box::new(cpu), Box::new(gpu)])
}

const LIMIT: usize = 8;
const STREAMS: usize = 12;
const BATCHES: usize = 200;

/// Dimensions of the inputs that the model leaves open get these sizes; a state comes out as it goes in.
fn fix(signature: &mut Signature, sizes: &[usize]) {
    let mut sizes = sizes.iter();
    for spec in &mut signature.inputs {
        for (axis, dim) in spec.dims.iter_mut().enumerate() {
            if *dim == Dim::Dynamic && spec.batch_axis != Some(axis) {
                *dim = Dim::Fixed(*sizes.next().expect("a size for each dimension"));
            }
        }
    }
    for state in &mut signature.states {
        state.output.dims.clone_from(&state.input.dims);
    }
}

struct Step {
    slot: Option<Slot>,
    payloads: Vec<Payload>,
}

fn steps(random: &mut Rng, signature: &Signature) -> Vec<Step> {
    let mut indices: Vec<_> = (0..STREAMS).collect();
    random.shuffle(&mut indices);
    let rows = random.usize(1..=signature.batch_limit());
    let step = |&index: &usize| {
        // Now and then a stream ends, and another has its slot.
        let generation = 1 + u64::from(random.u8(..) < 20) + u64::from(random.u8(..) < 5);
        let slot = (!signature.states.is_empty()).then_some(Slot { index, generation, begun: false });
        let payloads = signature.inputs.iter().map(|spec| Payload::Rows(row(random, spec))).collect();
        Step { slot, payloads }
    };
    indices[..rows].iter().map(step).collect()
}

fn row(random: &mut Rng, spec: &TensorSpec) -> Bytes {
    let count: usize =
        spec.dims.iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 }).product();
    let number = |_| match spec.datatype {
        DataType::Fp32 => (random.f32() * 2.0 - 1.0).to_le_bytes().to_vec(),
        DataType::Int64 => random.i64(-9..=9).to_le_bytes().to_vec(),
        other => panic!("no numbers of {other} here"),
    };
    (0..count).flat_map(number).collect()
}

fn launch(pipeline: &mut dyn Pipeline, steps: &[Step], key: &GroupKey) {
    pipeline.begin(steps.len(), key).unwrap();
    for step in steps {
        // A step goes on where its stream has a state.
        let later = step.slot.map(|slot| Slot { begun: true, ..slot });
        let slot = later.filter(|&slot| pipeline.holds(slot)).or(step.slot);
        pipeline.put(1, &step.payloads, slot).unwrap();
    }
    pipeline.launch().unwrap();
}

/// The bytes of every row of every output.
fn land(pipeline: &mut dyn Pipeline, signature: &Signature, rows: usize) -> Vec<Vec<u8>> {
    pipeline.landings().recv().unwrap();
    let Landed { output, .. } = pipeline.land().unwrap();
    let columns = &output.columns[..signature.outputs.len()];
    let row = |row| {
        columns.iter().flat_map(move |column| column.slice(row, 1).chunks()).flatten().copied().collect()
    };
    (0..rows).map(row).collect()
}

/// Equal bit for bit, also where a bucket has rows that the batch does not have.
fn check(runtime: &OnnxRuntime, name: &str, kept: Option<(&str, &str)>, sizes: &[usize]) {
    for depth in [1, 2] {
        let (signature, [mut cpu, mut gpu]) = pipelines(runtime, name, kept, sizes, depth);
        let key = GroupKey(sizes.iter().copied().collect());
        let mut random = Rng::with_seed(7);
        let mut under_way = VecDeque::new();
        for batch in 0..BATCHES {
            let steps = steps(&mut random, &signature);
            launch(&mut *cpu, &steps, &key);
            let expected = land(&mut *cpu, &signature, steps.len());
            launch(&mut *gpu, &steps, &key);
            under_way.push_back((batch, expected));
            if under_way.len() == depth {
                let (batch, expected) = under_way.pop_front().unwrap();
                let found = land(&mut *gpu, &signature, expected.len());
                assert_eq!(found, expected, "{name}, batch {batch} of {} rows", expected.len());
            }
        }
    }
}

/// The one that a process can have.
fn runtime() -> OnnxRuntime {
    static LOADED: OnceLock<OnnxRuntime> = OnceLock::new();
    let library = project("runtime/libonnxruntime.so.1.32.0");
    let load =
        || OnnxRuntime::load(&library).unwrap_or_else(|error| panic!("{error}; `make models` fetches it"));
    LOADED.get_or_init(load).clone()
}

#[test]
fn models_compute_the_same_in_the_devices_memory() {
    if !crate::gpu::emulated() {
        return;
    }
    let runtime = runtime();
    check(&runtime, "accumulator", Some(("state", "state_out")), &[]);
    check(&runtime, "accumulator_axis1", Some(("state", "state_out")), &[]);
    check(&runtime, "mlp64", None, &[]);
    check(&runtime, "silero_vad", None, &[576]);
}

/// What a timeline is drawn from: one batch is uploaded while the one before it computes, and none computes before that
/// is done.
#[test]
fn a_trace_tells_when_each_batch_was_where() {
    if !crate::gpu::emulated() {
        return;
    }
    let runtime = runtime();
    let (signature, [_, gpu]) = pipelines(&runtime, "mlp64", None, &[], 2);
    let trace = Trace::new(Clock::start());
    let mut traced = Traced::new(gpu, Arc::clone(&trace), 3);
    let mut random = Rng::with_seed(7);
    let mut run = |batches: usize| {
        let all: Vec<_> = (0..batches).map(|_| steps(&mut random, &signature)).collect();
        let mut under_way = VecDeque::new();
        for steps in &all {
            launch(&mut traced, steps, &GroupKey::default());
            under_way.push_back(steps.len());
            if under_way.len() == 2 {
                land(&mut traced, &signature, under_way.pop_front().unwrap());
            }
        }
        under_way.into_iter().for_each(|rows| drop(land(&mut traced, &signature, rows)));
        all.iter().map(Vec::len).collect::<Vec<_>>()
    };
    run(3);
    trace.begin(4);
    let rows = run(6);
    let flown = trace.flown();
    assert_eq!(flown.iter().map(|batch| batch.rows).collect::<Vec<_>>(), rows[..4], "as many as were wanted");
    for batch in &flown {
        let times = [batch.begun, batch.packed, batch.launched, batch.landed];
        assert!(times.is_sorted() && batch.lane == 3, "{batch:?}");
    }
    for pair in flown.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|batch| batch.device.unwrap());
        assert!(before.begun < after.begun, "{pair:?}");
        let started = |times: &StageTimes| times.begun + times.upload + times.waited;
        // Each span is rounded.
        let computed = started(&before) + before.compute;
        assert!(started(&after) + Duration::from_micros(10) >= computed, "{pair:?}");
    }
}
