//! One instance of a model: its session, its part of a device, and its lane.

use std::sync::Arc;

use super::file::ModelFile;
use super::gpus::Home;
use crate::clock::Clock;
use crate::device::cuda::Gpu;
use crate::device::{Buckets, Cpu, Resident};
use crate::engine::onnx::OnnxModel;
use crate::engine::{Constant, Engine, Site};
use crate::error::{Code, Error, Result};
use crate::lane::{Cuda, Feed, Host, Lane, Pipeline, WarmUp};
use crate::metrics::ModelMetrics;
use crate::tensor::{ByteWindow, Signature};

/// What all instances of a model have in common.
pub(super) struct Instances<'a> {
    pub(super) name: &'a str,
    pub(super) file: &'a ModelFile,
    pub(super) model: &'a OnnxModel,
    pub(super) signature: &'a Signature,
    pub(super) constants: &'a [Constant],
    pub(super) windows: &'a [Option<ByteWindow>],
    /// Streams whose state one lane may keep.
    pub(super) capacity: usize,
    pub(super) clock: Clock,
    pub(super) metrics: &'a Arc<ModelMetrics>,
}

impl Instances<'_> {
    /// Starts one, and says whether it replays CUDA graphs.
    pub(super) fn start(&self, index: usize, home: &Home, feed: &Arc<Feed>) -> Result<bool> {
        let Home::Gpu(gpu) = home else {
            let model = self.model.start(self.signature, self.constants)?;
            self.spawn(index, feed, Box::new(Host::new(Cpu::new(self.signature, self.windows), model)))?;
            return Ok(false);
        };
        let cuda = &self.file.optimization.cuda;
        let sizes: Vec<_> = cuda.graph_spec.iter().map(|spec| spec.batch_size).collect();
        let buckets = Buckets::new(self.signature.batch_limit(), &sizes);
        let depth = cuda.batches_in_flight;
        let resident = match Resident::new(self.signature, self.windows, buckets, depth, self.capacity) {
            Ok(resident) => resident,
            Err(why) => {
                tracing::info!(model = self.name, "tensors go to the GPU and back by ONNX Runtime: {why}");
                let site =
                    Site::Cuda { ordinal: gpu.about().ordinal, stream: std::ptr::null_mut(), graphs: false };
                let model = self.model.start_on(site, self.signature, self.constants)?;
                self.spawn(index, feed, Box::new(Host::new(Cpu::new(self.signature, self.windows), model)))?;
                return Ok(false);
            }
        };
        if cuda.graphs {
            match self.start_on(index, gpu, resident.clone(), true, feed) {
                Ok(()) => return Ok(true),
                Err(error) => tracing::info!(model = self.name, "runs without CUDA graphs: {error}"),
            }
        }
        self.start_on(index, gpu, resident, false, feed).map(|()| false)
    }

    fn start_on(
        &self,
        index: usize,
        gpu: &Gpu,
        resident: Resident,
        graphs: bool,
        feed: &Arc<Feed>,
    ) -> Result<()> {
        let buckets = resident.buckets.clone();
        let device = gpu.device(resident).map_err(|why| Error::new(Code::Internal, why))?;
        let stream = device.compute_stream();
        let places: Vec<_> = buckets.sizes().iter().map(|&rows| device.places(rows)).collect();
        let site = Site::Cuda { ordinal: gpu.about().ordinal, stream, graphs };
        let model = self.model.bind(site, self.signature, self.constants, &places)?;
        self.spawn(index, feed, Box::new(Cuda::new(device, model)))
    }

    fn spawn(&self, index: usize, feed: &Arc<Feed>, pipeline: Box<dyn Pipeline>) -> Result<()> {
        let configured = self.file.model_warmup.iter().map(|warmup| warmup.batch_size);
        let warm_up = WarmUp::new(self.signature, pipeline.rehearsal().into_iter().chain(configured));
        let lane = Lane::new(Arc::clone(feed), pipeline, self.clock, Arc::clone(self.metrics));
        // Threads show 15 bytes of their names.
        lane.spawn(format!("lane-{index}-{}", self.name), warm_up).map(drop)
    }
}
