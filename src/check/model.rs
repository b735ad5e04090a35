//! A model that only copies, on any device, and batches of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Target, Verdict, Wrong};
use crate::device::cuda::Copies;
use crate::device::{Buckets, Cpu, Resident, TensorView};
use crate::engine::{Bound, Running};
use crate::error::{Code, Error, Result};
use crate::lane::{Cuda, Host, Landed, Pipeline};
use crate::streams::Slot;
use crate::tensor::{
    BatchOutput, Column, Conversion, DataType, Dim, GroupKey, Payload, Signature, StateSpec, Storage,
    TensorSpec,
};

/// What a model takes and gives, and what it copies.
pub(super) struct Model {
    pub(super) signature: Signature,
    pub(super) conversions: Vec<Option<Conversion>>,
    /// Batch sizes that a device prepares for; none: powers of two.
    pub(super) buckets: Vec<usize>,
    /// Batches that may be under way, where the device can have several.
    pub(super) depth: usize,
    /// Streams that may be open.
    pub(super) capacity: usize,
    /// For each output, then each state, the input that it is a copy of; states come behind the inputs.
    pub(super) wiring: Vec<usize>,
    /// While it is set, every run fails.
    pub(super) broken: Arc<AtomicBool>,
}

impl Model {
    /// Gives its inputs back.
    pub(super) fn echo(inputs: Vec<TensorSpec>, limit: usize) -> Self {
        let wiring = (0..inputs.len()).collect();
        let outputs =
            inputs.iter().map(|spec| TensorSpec { name: format!("{}'", spec.name), ..spec.clone() });
        let outputs = outputs.collect();
        Self {
            signature: Signature { inputs, outputs, states: Vec::new(), max_batch_size: limit },
            conversions: Vec::new(),
            buckets: Vec::new(),
            depth: 2,
            capacity: 0,
            wiring,
            broken: Arc::default(),
        }
    }

    /// Gives back what its one input was as many steps ago as there are initial states, the latest first; before
    /// that these.
    pub(super) fn delay(input: &TensorSpec, initial: Vec<Vec<u8>>, limit: usize, capacity: usize) -> Self {
        let mut model = Self::echo(vec![input.clone()], limit);
        let states = initial.into_iter().enumerate().map(|(index, initial)| state(index, input, initial));
        model.signature.states = states.collect();
        // The output is the last state; the first state is the input, and every other the one before.
        let count = model.signature.states.len();
        model.wiring = std::iter::once(count).chain(0..count).collect();
        model.capacity = capacity;
        model
    }

    /// Gives back what each of its inputs was a step ago; before that its initial state.
    pub(super) fn delays(
        inputs: Vec<TensorSpec>,
        initial: Vec<Vec<u8>>,
        limit: usize,
        capacity: usize,
    ) -> Self {
        let count = inputs.len();
        let states = inputs.iter().zip(initial).enumerate();
        let states = states.map(|(index, (input, initial))| state(index, input, initial)).collect();
        let mut model = Self::echo(inputs, limit);
        model.signature.states = states;
        // Each output is a state, and each state an input.
        model.wiring = (count..2 * count).chain(0..count).collect();
        model.capacity = capacity;
        model
    }

    /// A row of an output where no request is.
    fn padding(&self, output: usize) -> Vec<u8> {
        let Signature { inputs, states, .. } = &self.signature;
        let input = self.wiring.get(output).copied().unwrap_or(0);
        let state = input.checked_sub(inputs.len()).and_then(|state| states.get(state));
        let zeros = || inputs.get(input).map_or(0, |spec| sizes(spec).0 * sizes(spec).1);
        state.map_or_else(|| vec![0; zeros()], |state| state.initial.clone())
    }

    pub(super) fn on(&self, target: &Target) -> std::result::Result<Box<dyn Pipeline>, Wrong> {
        Ok(match target {
            Target::Cpu => {
                let specs = self.signature.outputs.iter();
                let specs = specs.chain(self.signature.states.iter().map(|state| &state.output));
                let axes = specs.map(|spec| spec.batch_axis);
                let wiring = self.wiring.iter().copied().zip(axes).collect();
                let copies = OnHost { wiring, broken: Arc::clone(&self.broken) };
                Box::new(Host::new(Cpu::new(&self.signature, &self.conversions, &[]), Box::new(copies)))
            }
            Target::Gpu(gpu) => {
                let buckets = Buckets::new(self.signature.batch_limit(), &self.buckets);
                let (depth, capacity) = (self.depth, self.capacity);
                let resident =
                    Resident::new(&self.signature, &self.conversions, &[], buckets, depth, capacity)?;
                let device = gpu.device(resident)?;
                let copies = device.copies(&self.wiring)?;
                let model = OnDevice { copies, broken: Arc::clone(&self.broken) };
                Box::new(Cuda::new(device, Box::new(model)))
            }
        })
    }
}

/// A tensor with these dimensions, with the batch put between them.
pub(super) fn tensor(name: &str, datatype: DataType, before: &[usize], behind: &[usize]) -> TensorSpec {
    let fixed = |dims: &[usize]| dims.iter().map(|&dim| Dim::Fixed(dim)).collect::<Vec<_>>();
    let dims = [fixed(before), vec![Dim::Dynamic], fixed(behind)].concat();
    TensorSpec { name: name.to_owned(), datatype, dims, batch_axis: Some(before.len()) }
}

/// Blocks of a row, and bytes of a block.
pub(super) fn sizes(spec: &TensorSpec) -> (usize, usize) {
    let axis = spec.batch_axis.unwrap_or(0);
    let (mut outer, mut inner) = (1, spec.datatype.size().unwrap_or(0));
    for (index, dim) in spec.dims.iter().enumerate() {
        match *dim {
            Dim::Fixed(size) if index < axis => outer *= size,
            Dim::Fixed(size) => inner *= size,
            Dim::Dynamic => {}
        }
    }
    (outer, inner)
}

fn state(index: usize, like: &TensorSpec, initial: Vec<u8>) -> StateSpec {
    let named = |name: String| TensorSpec { name, ..like.clone() };
    StateSpec { input: named(format!("s{index}")), output: named(format!("t{index}")), initial }
}

fn broken(flag: &AtomicBool) -> Result<()> {
    let error = || Error::new(Code::InferenceFailed, "the model is broken");
    if flag.load(Relaxed) { Err(error()) } else { Ok(()) }
}

struct OnHost {
    /// The input, and the output's batch axis.
    wiring: Vec<(usize, Option<usize>)>,
    broken: Arc<AtomicBool>,
}

impl Running for OnHost {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
        broken(&self.broken)?;
        let copied = |&(input, axis): &(usize, Option<usize>)| {
            let TensorView { datatype, shape, data } = inputs.get(input)?;
            Column::new(*datatype, shape.clone(), axis, Storage::Fixed(Box::new(data.to_vec())))
        };
        let columns = self.wiring.iter().map(copied).collect::<Option<_>>();
        let columns = columns.ok_or_else(|| Error::new(Code::Internal, "there is no such input"))?;
        Ok(BatchOutput::new(columns))
    }
}

struct OnDevice {
    copies: Copies,
    broken: Arc<AtomicBool>,
}

impl Bound for OnDevice {
    fn launch(&mut self, bucket: usize) -> Result<()> {
        broken(&self.broken)?;
        self.copies.launch(bucket)
    }

    fn replays_graphs(&self) -> bool {
        false
    }
}

/// One request, and what each of its rows has to be in each output: block after block, as it comes out of a slice.
pub(super) struct Request {
    pub(super) rows: usize,
    pub(super) payloads: Vec<Payload>,
    pub(super) slot: Option<Slot>,
    pub(super) expected: Vec<Vec<Vec<u8>>>,
}

/// Sends a batch on its way.
pub(super) fn launch(pipeline: &mut dyn Pipeline, batch: &[Request]) -> Result<()> {
    pipeline.begin(batch.iter().map(|request| request.rows).sum(), &GroupKey::default())?;
    for request in batch {
        pipeline.put(request.rows, &request.payloads, request.slot)?;
    }
    pipeline.launch()
}

/// Waits for the oldest batch, and compares it with what it has to be.
pub(super) fn land(pipeline: &mut dyn Pipeline, model: &Model, batch: &[Request]) -> Verdict {
    pipeline.landings().recv()?;
    let Landed { output, .. } = pipeline.land()?;
    for (index, spec) in model.signature.outputs.iter().enumerate() {
        let column = output.columns.get(index).ok_or_else(|| format!("there is no output {index}"))?;
        let live = batch.iter().flat_map(|request| request.expected.get(index).into_iter().flatten());
        let padding = model.padding(index);
        let expected = live.chain(std::iter::repeat(&padding));
        let rows: usize = batch.iter().map(|request| request.rows).sum();
        let found = column.rows().unwrap_or(0);
        if found < rows {
            return Err(format!("'{}' has {found} rows, not {rows}", spec.name).into());
        }
        for (row, expected) in expected.take(found).enumerate() {
            let found: Vec<u8> = column.slice(row, 1).chunks().flatten().copied().collect();
            same(&found, expected)
                .map_err(|why| format!("row {row} of {rows} of '{}' ({column:?}): {why}", spec.name))?;
        }
    }
    Ok(())
}

/// Where the first difference is.
pub(super) fn same(found: &[u8], expected: &[u8]) -> std::result::Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("it has {} bytes, not {}", found.len(), expected.len()));
    }
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        None => Ok(()),
        Some(at) => Err(format!("byte {at} is {}, not {}", found[at], expected[at])),
    }
}
