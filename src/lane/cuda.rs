//! Batches that a GPU computes by itself, several under way at once.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::{Computing, Cores, Landed, Pipeline};
use crate::device::cuda::CudaDevice;
use crate::engine::{Bound, Halt};
use crate::error::Result;
use crate::streams::Slot;
use crate::tensor::{GroupKey, Payload};

/// ONNX Runtime captures a graph in a bucket's first runs and replays it from then on.
const REHEARSALS: usize = 3;

/// A model that is bound to a lane's part of a GPU.
pub struct Cuda {
    // Dropped first: it runs in the device's stream.
    model: Box<dyn Bound>,
    device: CudaDevice,
    cores: Option<Arc<Cores>>,
}

impl Cuda {
    pub fn new(device: CudaDevice, model: Box<dyn Bound>) -> Self {
        Self { model, device, cores: None }
    }

    /// Takes none of these cores, but whoever waits for them is told when its batches have landed.
    #[must_use]
    pub fn on(mut self, cores: &Arc<Cores>) -> Self {
        self.cores = Some(Arc::clone(cores));
        self
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // The model goes first, and may still run.
        self.device.abandon();
    }
}

impl Pipeline for Cuda {
    fn depth(&self) -> usize {
        self.device.resident().depth
    }

    fn rehearsal(&self) -> Vec<usize> {
        let sizes = self.device.resident().buckets.sizes().iter();
        // The largest first: memory is taken once.
        sizes.rev().flat_map(|&size| std::iter::repeat_n(size, REHEARSALS)).collect()
    }

    fn compute(&self) -> Option<Computing> {
        self.cores.as_ref().map(|cores| cores.compute(0))
    }

    fn begin(&mut self, rows: usize, _key: &GroupKey) -> Result<()> {
        self.device.begin(rows)
    }

    fn holds(&self, slot: Slot) -> bool {
        self.device.holds(slot)
    }

    fn put(&mut self, rows: usize, payloads: &[Payload], slot: Option<Slot>) -> Result<()> {
        self.device.put(rows, payloads, slot)
    }

    fn launch(&mut self) -> Result<()> {
        let launched = self.device.upload().and_then(|bucket| {
            self.model.launch(bucket)?;
            self.device.download()
        });
        if launched.is_err() {
            self.device.abandon();
        }
        launched
    }

    fn landings(&self) -> &Receiver<()> {
        self.device.landings()
    }

    fn land(&mut self) -> Result<Landed> {
        let (output, times) = self.device.land()?;
        Ok(Landed { output, times: Some((times, self.model.replays_graphs())) })
    }

    fn halt(&self) -> Option<Halt> {
        self.model.halt()
    }
}
