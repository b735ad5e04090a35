//! A lane's part of a GPU: three streams, and batches on their way through them.
//!
//! ```text
//! upload:    copy k+1 ─┐            copy k+2 ─┐
//! compute:   … k ──────┴─ gather, model, keep states, set results aside k+1 ─┬─ …
//! download:             copy k−1                                             └─ copy k+1, say so
//! ```
//!
//! The model's tensors and the states are on the device once, and the compute stream's order protects them. What the
//! copies touch, a batch's packed rows and its results, is there once for each batch that may be under way.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use cudarc::driver::{CudaEvent, CudaStream, DriverError, sys};
use smallvec::SmallVec;

use super::compute::{Compute, Copies};
use super::gather::Gather;
use super::leg::{Landed, Leg};
use super::memory::{self, Buffer};
use super::reduce::Reduce;
use super::seats::Seats;
use super::staging::{Layout, Packing, Rows};
use super::state::{Seated, State};
use super::{Gpu, failed, said};
use crate::device::{Block, Placed, Resident, ResidentOutput, StageTimes, lost};
use crate::error::{Code, Error, Result};
use crate::streams::Slot;
use crate::tensor::{BatchOutput, Column, Conversion, Payload, Storage};

pub struct CudaDevice {
    gpu: Gpu,
    resident: Resident,
    layout: Layout,
    inputs: Vec<Arc<Buffer>>,
    gathers: Vec<Gather>,
    states: Vec<State>,
    outputs: Vec<Arc<Buffer>>,
    /// What is made of the outputs that do not go back as they are.
    reduces: Vec<Option<Reduce>>,
    upload: Arc<CudaStream>,
    compute: Arc<CudaStream>,
    download: Arc<CudaStream>,
    seats: Seats,
    /// The batch that is being packed, and whose steps it has.
    packing: Packing,
    owners: Vec<Slot>,
    /// As many as may be under way; those from `oldest` on are.
    legs: Vec<Leg>,
    oldest: usize,
    under_way: usize,
    landed: Box<Landed>,
    /// What the times of batches are counted from.
    origin: CudaEvent,
}

impl CudaDevice {
    pub(super) fn new(gpu: Gpu, resident: Resident) -> Result<Self, String> {
        let limit = resident.buckets.sizes().last().copied().unwrap_or(1);
        let too_large = || format!("a batch of {limit} rows is too large");
        let rows = resident.inputs.iter().map(|(block, conversion)| Rows::new(block, conversion.as_ref()));
        let layout = Layout::new(rows.collect(), limit).ok_or_else(too_large)?;
        let size = |block: &Block| block.bytes(limit).ok_or_else(too_large);
        let answers = resident.outputs.iter().flat_map(|output| &output.answers);
        let results = answers.clone().map(size).sum::<Result<usize, _>>()? + 16 * answers.count();

        let memory = &gpu.0.memory;
        let full = |error: DriverError| format!("GPU {}: {}", gpu.about().ordinal, said(&error));
        let buffer = |block: &Block| Buffer::new(memory, size(block)?).map(Arc::new).map_err(full);
        let inputs = resident.inputs.iter().map(|(block, _)| buffer(block)).collect::<Result<_, _>>()?;
        let gather = |(block, conversion): &(Block, Option<Conversion>)| {
            Gather::new(memory, block, conversion.as_ref()).map_err(full)
        };
        let gathers = resident.inputs.iter().map(gather).collect::<Result<_, _>>()?;
        let output = |output: &ResidentOutput| {
            let reduce = Reduce::new(memory, output, size(&output.block)?).map_err(full)?;
            Ok((buffer(&output.block)?, reduce))
        };
        let outputs = resident.outputs.iter().map(output).collect::<Result<Vec<_>, String>>()?;
        let (outputs, reduces) = outputs.into_iter().unzip();
        let mut states = Vec::with_capacity(resident.states.len());
        for state in &resident.states {
            let width = state.initial.len();
            let slab = width.checked_mul(resident.capacity).ok_or_else(too_large)?;
            let tensors = (buffer(&state.input)?, buffer(&state.output)?);
            states.push(State::new(memory, state, slab, tensors).map_err(full)?);
        }
        let leg = || Leg::new(memory, layout.capacity(), results).map_err(full);
        let legs = (0..resident.depth).map(|_| leg()).collect::<Result<_, _>>()?;
        let stream = || memory.context.new_stream().map_err(full);
        let upload = stream()?;
        let origin = memory.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(full)?;
        origin.record(&upload).map_err(full)?;
        Ok(Self {
            inputs,
            gathers,
            states,
            outputs,
            reduces,
            upload,
            compute: stream()?,
            download: stream()?,
            seats: Seats::new(resident.capacity),
            packing: Packing::default(),
            owners: Vec::new(),
            legs,
            oldest: 0,
            under_way: 0,
            landed: Landed::new(resident.depth),
            origin,
            layout,
            resident,
            gpu,
        })
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub fn resident(&self) -> &Resident {
        &self.resident
    }

    /// The stream in which the model has to run.
    pub fn compute_stream(&self) -> *mut () {
        self.compute.cu_stream().cast()
    }

    /// The same stream, to wait for where a model does not run in it.
    pub fn compute(&self) -> Compute {
        Compute(Arc::clone(&self.compute))
    }

    /// A model that copies: for each output, then each state, the input that it is; states stand behind the inputs.
    pub fn copies(&self, wiring: &[usize]) -> Result<Copies, String> {
        let (resident, states) = (&self.resident, self.resident.states.iter().zip(&self.states));
        let inputs = resident.inputs.iter().map(|(block, _)| block).zip(&self.inputs);
        let inputs = inputs.chain(states.clone().map(|(state, buffers)| (&state.input, &buffers.input)));
        let inputs: Vec<_> = inputs.collect();
        let outputs = resident.outputs.iter().map(|output| &output.block).zip(&self.outputs);
        let outputs = outputs.chain(states.map(|(state, buffers)| (&state.output, &buffers.output)));
        let pair = |(&input, (to, target)): (&usize, (&Block, &Arc<Buffer>))| {
            let (from, source) = inputs.get(input).ok_or_else(|| format!("there is no input {input}"))?;
            if (from.outer, from.inner) != (to.outer, to.inner) {
                return Err(format!("'{}' and '{}' differ in size", from.name, to.name));
            }
            let sizes = resident.buckets.sizes().iter().map(|&rows| to.bytes(rows).unwrap_or(0)).collect();
            Ok((Arc::clone(source), Arc::clone(target), sizes))
        };
        let pairs = wiring.iter().zip(outputs).map(pair).collect::<Result<_, String>>()?;
        Ok(Copies::new(self.compute(), pairs))
    }

    /// Where a bucket of so many rows has its inputs and its outputs, states behind them.
    pub fn places(&self, rows: usize) -> (Vec<Placed>, Vec<Placed>) {
        let placed = |block: &Block, buffer: &Buffer| Placed {
            datatype: block.datatype,
            shape: block.shape(rows),
            address: buffer.address(),
        };
        let (resident, states) = (&self.resident, self.resident.states.iter().zip(&self.states));
        let inputs =
            resident.inputs.iter().zip(&self.inputs).map(|((block, _), buffer)| placed(block, buffer));
        let inputs =
            inputs.chain(states.clone().map(|(state, buffers)| placed(&state.input, &buffers.input)));
        let outputs = resident.outputs.iter().zip(&self.outputs);
        let outputs = outputs.map(|(output, buffer)| placed(&output.block, buffer));
        let outputs = outputs.chain(states.map(|(state, buffers)| placed(&state.output, &buffers.output)));
        (inputs.collect(), outputs.collect())
    }

    /// Starts a batch of `rows` rows.
    pub fn begin(&mut self, rows: usize) -> Result<()> {
        self.gpu.0.memory.context.bind_to_thread().map_err(failed)?;
        let misfit = || Error::new(Code::Internal, "a batch does not fit the device");
        let (_, bucket) = self.resident.buckets.holding(rows).ok_or_else(misfit)?;
        if self.under_way >= self.legs.len() {
            return Err(misfit());
        }
        self.packing = Packing::begin(&self.layout, rows);
        self.seats.begin();
        self.owners.clear();
        let leg = self.leg();
        (leg.rows, leg.bucket) = (rows, bucket);
        Ok(())
    }

    /// Whether the state is here that this step needs.
    pub fn holds(&self, slot: Slot) -> bool {
        self.states.is_empty() || self.seats.holds(slot)
    }

    /// Puts the next `rows` rows, one payload for each input. A model with state takes one row at a time, and the
    /// slot whose state goes with it.
    pub fn put(&mut self, rows: usize, payloads: &[Payload], slot: Option<Slot>) -> Result<()> {
        let mut seat = None;
        if !self.states.is_empty() {
            let slot = slot.filter(|_| rows == 1);
            let slot = slot.ok_or_else(|| Error::new(Code::Internal, "a step has no slot for its state"))?;
            let (found, former) = self.seats.take(slot, self.packing.filled()).ok_or_else(lost)?;
            if let Some(former) = former {
                let next = self.next();
                Packing::unseat(&self.layout, &mut self.legs[next].staging, former)?;
            }
            seat = Some(found);
            self.owners.push(slot);
        }
        let next = self.next();
        self.packing.put(&self.layout, &mut self.legs[next].staging, rows, payloads, seat)
    }

    /// Sends the batch to the device and has its tensors made there; the index of its bucket. The model is to run next.
    pub fn upload(&mut self) -> Result<usize> {
        let misfit = || Error::new(Code::Internal, "a batch does not fit the device");
        let (index, bucket) = self.resident.buckets.holding(self.packing.rows()).ok_or_else(misfit)?;
        let bytes = self.packing.bytes();
        self.leg().bytes_up = bytes;
        let leg = &self.legs[self.next()];
        leg.events.begun.record(&self.upload).map_err(failed)?;
        // SAFETY: the leg's batch is under way from here on: nobody touches its memory until it has landed or
        // `abandon` has waited for the streams.
        unsafe { memory::upload(&self.upload, &leg.staging, &leg.packed, bytes) }.map_err(failed)?;
        leg.events.uploaded.record(&self.upload).map_err(failed)?;
        self.compute.wait(&leg.events.uploaded).map_err(failed)?;
        leg.events.started.record(&self.compute).map_err(failed)?;
        self.gather(leg, bucket).map_err(failed)?;
        Ok(index)
    }

    /// Packed rows to the model's inputs, and slots to its states.
    fn gather(&self, leg: &Leg, bucket: usize) -> Result<(), DriverError> {
        let kernels = &self.gpu.0.kernels;
        let packed = leg.packed.address();
        for (index, (gather, batch)) in self.gathers.iter().zip(&self.inputs).enumerate() {
            let table = packed + self.layout.rows(index) as u64;
            // SAFETY: the leg's packed bytes are the batch's, and the batch tensor is made for the largest bucket.
            unsafe { gather.launch(&self.compute, kernels, (packed, table), leg.rows, bucket, batch) }?;
        }
        let seated = self.seated(leg);
        for state in &self.states {
            // SAFETY: as above; each seat's slot is below the capacity for which the slab has rows.
            unsafe { state.gather(&self.compute, kernels, seated) }?;
        }
        Ok(())
    }

    fn seated(&self, leg: &Leg) -> Seated {
        let seats = leg.packed.address() + self.layout.seats() as u64;
        Seated { seats, live: leg.rows, bucket: leg.bucket }
    }

    /// Sends back what clients get of the model's outputs, and keeps the states that it gave. The batch is under way.
    pub fn download(&mut self) -> Result<()> {
        // What can be refused without harm comes first: until the states are touched, the batch may be tried again.
        let bytes = self.set_aside().map_err(failed)?;
        self.scatter().map_err(failed)?;
        let next = self.next();
        let leg = &mut self.legs[next];
        leg.bytes_down = bytes;
        leg.events.computed.record(&self.compute).map_err(failed)?;
        self.download.wait(&leg.events.computed).map_err(failed)?;
        // SAFETY: `returned` is read only by `land`, once the stream has done this.
        unsafe { memory::download(&self.download, &leg.results, &mut leg.returned, bytes) }
            .map_err(failed)?;
        leg.events.done.record(&self.download).map_err(failed)?;
        // SAFETY: the box stays where it is until this is dropped, which waits for the stream.
        unsafe { self.landed.when_done(&self.download) }.map_err(failed)?;
        for &slot in &self.owners {
            self.seats.keep(slot);
        }
        self.under_way += 1;
        Ok(())
    }

    /// What clients get, side by side among the leg's results; how many bytes that is.
    fn set_aside(&self) -> Result<usize, DriverError> {
        let leg = &self.legs[self.next()];
        let mut end = 0;
        let outputs = self.resident.outputs.iter().zip(&self.outputs).zip(&self.reduces);
        for ((output, buffer), reduce) in outputs {
            let start = end;
            let mut places: SmallVec<[u64; 2]> = SmallVec::new();
            for answer in &output.answers {
                places.push(leg.results.address() + end as u64);
                end = (end + leg.used(answer).1).next_multiple_of(16);
            }
            let bytes = leg.used(&output.block).1;
            match reduce {
                // SAFETY: the buffers are dropped when the streams have come to an end.
                None => unsafe { memory::copy(&self.compute, buffer, &leg.results, start, bytes) },
                Some(reduce) => {
                    let rows = bytes / output.row_bytes();
                    let kernels = &self.gpu.0.kernels;
                    // SAFETY: as above; the results have room for the answers of the largest bucket.
                    unsafe { reduce.launch(&self.compute, kernels, buffer, rows, &places) }
                }
            }?;
        }
        Ok(end)
    }

    fn scatter(&mut self) -> Result<(), DriverError> {
        // From here on the rows are neither the former states nor, until all is on its way, the new ones.
        for &slot in &self.owners {
            self.seats.lose(slot);
        }
        let seated = self.seated(&self.legs[self.next()]);
        for state in &self.states {
            // SAFETY: as for `gather`. No two rows of a batch are kept in one slot, as `Seats` sees to.
            unsafe { state.scatter(&self.compute, &self.gpu.0.kernels, seated) }?;
        }
        Ok(())
    }

    /// The batch that was uploaded does not run: waits until nothing of it is left in the streams.
    pub fn abandon(&mut self) {
        for stream in [&self.upload, &self.compute, &self.download] {
            // An error of the device's shows wherever it is asked next.
            let _ = stream.synchronize();
        }
    }

    /// Says once for each batch, in their order, that it can land.
    pub fn landings(&self) -> &Receiver<()> {
        &self.landed.said
    }

    /// The output of the oldest batch, whose landing was said.
    pub fn land(&mut self) -> Result<(BatchOutput, StageTimes)> {
        if self.under_way == 0 {
            return Err(Error::new(Code::Internal, "no batch is under way"));
        }
        let leg = &self.legs[self.oldest];
        self.under_way -= 1;
        self.oldest = (self.oldest + 1) % self.legs.len();
        // An error of the device's shows here, whatever caused it.
        leg.events.done.synchronize().map_err(failed)?;
        let bytes = Bytes::copy_from_slice(leg.returned.get(..leg.bytes_down).unwrap_or_default());
        let mut columns = Vec::with_capacity(self.resident.outputs.len());
        let mut end = 0;
        for block in self.resident.outputs.iter().flat_map(|output| &output.answers) {
            let (rows, length) = leg.used(block);
            let storage = Storage::Fixed(Box::new(bytes.slice(end..end + length)));
            let column = Column::new(block.datatype, block.shape(rows), block.batch_axis, storage);
            columns.push(column.ok_or_else(|| Error::new(Code::Internal, "an output is not whole"))?);
            end = (end + length).next_multiple_of(16);
        }
        Ok((BatchOutput::new(columns), leg.times(&self.origin).map_err(failed)?))
    }

    fn next(&self) -> usize {
        (self.oldest + self.under_way) % self.legs.len()
    }

    fn leg(&mut self) -> &mut Leg {
        let next = self.next();
        &mut self.legs[next]
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // What the streams still do reads and writes the memory that goes now.
        self.abandon();
    }
}
