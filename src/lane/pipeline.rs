//! What a lane keeps busy: a device, and a model on it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Computing, Cores};
use crate::device::{Cpu, StageTimes};
use crate::engine::{Halt, Running};
use crate::error::{Code, Error, Result};
use crate::streams::Slot;
use crate::tensor::{BatchOutput, GroupKey, Payload};

/// Batches on their way through a device and a model: first in, first out.
pub trait Pipeline: Send {
    /// Batches that may be under way at once.
    fn depth(&self) -> usize;

    /// Batch sizes that must have run before the first client comes, as often as they are named.
    fn rehearsal(&self) -> Vec<usize>;

    /// Starts a batch of `rows` rows whose dynamic dimensions are those of `key`.
    fn begin(&mut self, rows: usize, key: &GroupKey) -> Result<()>;

    /// Whether the state is here that this step needs; if it is not, it was lost.
    fn holds(&self, slot: Slot) -> bool;

    /// Puts the next `rows` rows, one payload for each input. A model with state takes one row at a time, and the
    /// slot whose state goes with it.
    fn put(&mut self, rows: usize, payloads: &[Payload], slot: Option<Slot>) -> Result<()>;

    /// Says what the batch that is launched next takes of the machine's cores, until it has been answered.
    fn compute(&self) -> Option<Computing> {
        None
    }

    /// Sends the batch on its way. If this fails, nothing of the batch has happened.
    fn launch(&mut self) -> Result<()>;

    /// Says once for each batch that was launched, in their order, that it can land.
    fn landings(&self) -> &Receiver<()>;

    /// The oldest batch under way, once its landing was said.
    fn land(&mut self) -> Result<Landed>;

    /// What ends a run of its model, if anything does.
    fn halt(&self) -> Option<Halt> {
        None
    }
}

/// A batch that has gone all the way.
pub struct Landed {
    pub output: BatchOutput,
    /// Where a device keeps its own time: that, and whether the run was a graph's replay.
    pub times: Option<(StageTimes, bool)>,
}

/// One batch at a time, on the lane's own thread and in host memory.
pub struct Host {
    device: Cpu,
    model: Box<dyn Running>,
    rows: usize,
    output: Option<BatchOutput>,
    landed: (Sender<()>, Receiver<()>),
    cores: Option<(Arc<Cores>, usize)>,
}

impl Host {
    pub fn new(device: Cpu, model: Box<dyn Running>) -> Self {
        Self { device, model, rows: 0, output: None, landed: bounded(1), cores: None }
    }

    /// A run takes so many of these cores; none if the model is on a GPU.
    #[must_use]
    pub fn on(self, cores: &Arc<Cores>, threads: usize) -> Self {
        Self { cores: Some((Arc::clone(cores), threads)), ..self }
    }
}

impl Pipeline for Host {
    fn depth(&self) -> usize {
        1
    }

    fn rehearsal(&self) -> Vec<usize> {
        Vec::new()
    }

    fn begin(&mut self, rows: usize, key: &GroupKey) -> Result<()> {
        self.rows = rows;
        self.device.begin(rows, key)
    }

    fn holds(&self, slot: Slot) -> bool {
        self.device.holds(slot)
    }

    fn put(&mut self, rows: usize, payloads: &[Payload], slot: Option<Slot>) -> Result<()> {
        self.device.put(rows, payloads, slot)
    }

    fn compute(&self) -> Option<Computing> {
        self.cores.as_ref().map(|(cores, threads)| cores.compute(*threads))
    }

    fn launch(&mut self) -> Result<()> {
        let output = self.model.run(&self.device.inputs())?;
        check(&output, self.rows)?;
        let output = self.device.reduce(output)?;
        self.device.keep(&output)?;
        self.output = Some(output);
        // There is room: the lane lands a batch before it launches the next.
        let _ = self.landed.0.try_send(());
        Ok(())
    }

    fn landings(&self) -> &Receiver<()> {
        &self.landed.1
    }

    fn land(&mut self) -> Result<Landed> {
        let output = self.output.take().ok_or_else(|| Error::new(Code::Internal, "no batch is under way"))?;
        Ok(Landed { output, times: None })
    }

    fn halt(&self) -> Option<Halt> {
        self.model.halt()
    }
}

/// A model whose output has other rows than its input would mix up its clients.
fn check(output: &BatchOutput, rows: usize) -> Result<()> {
    match output.columns.iter().find_map(|column| column.rows().filter(|&found| found != rows)) {
        Some(found) => {
            let message = format!("the model gave {found} rows for a batch of {rows}");
            Err(Error::new(Code::InferenceFailed, message))
        }
        None => Ok(()),
    }
}
