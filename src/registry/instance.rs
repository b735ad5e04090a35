//! One instance of a model: its session, its part of a device, and its lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Derived;
use super::file::ModelFile;
use super::gpus::Home;
use crate::clock::Clock;
use crate::device::cuda::Gpu;
use crate::device::{Buckets, Cpu, Resident};
use crate::engine::onnx::OnnxModel;
use crate::engine::{Engine, Running, Site};
use crate::error::{Code, Error, Result};
use crate::lane::{Cores, Cuda, Feed, Host, Pipeline, Supervisor, WarmUp};
use crate::metrics::ModelMetrics;

/// What all instances of a model are made from; each keeps it, to be made again.
pub struct Blueprint {
    pub name: String,
    pub file: ModelFile,
    pub model: Arc<OnnxModel>,
    pub derived: Derived,
    /// Streams whose state one lane may keep.
    pub capacity: usize,
    /// Those that instances on the CPU run on.
    pub cores: Arc<Cores>,
}

impl Blueprint {
    /// Starts an instance, and says whether it replays CUDA graphs.
    pub(super) fn start(
        self: &Arc<Self>,
        index: usize,
        home: &Home,
        feed: &Arc<Feed>,
        clock: Clock,
        metrics: &Arc<ModelMetrics>,
    ) -> Result<bool> {
        let graphs = Arc::new(AtomicBool::new(false));
        let (blueprint, home, captured) = (Arc::clone(self), home.clone(), Arc::clone(&graphs));
        let make = move || {
            let (pipeline, graphs) = blueprint.make(&home)?;
            captured.store(graphs, Ordering::Relaxed);
            Ok(pipeline)
        };
        let supervisor = Supervisor {
            // Threads show 15 bytes of their names.
            name: format!("lane-{index}-{}", self.name),
            feed: Arc::clone(feed),
            make: Box::new(make),
            clock,
            metrics: Arc::clone(metrics),
        };
        supervisor.start()?;
        Ok(graphs.load(Ordering::Relaxed))
    }

    /// A pipeline that is warm, and whether it replays CUDA graphs.
    pub fn make(&self, home: &Home) -> Result<(Box<dyn Pipeline>, bool)> {
        let Derived { model, conversions, reductions, constants, .. } = &self.derived;
        let Home::Gpu(gpu) = home else {
            let running = self.model.start(model, constants)?;
            let threads = match self.file.parameters.intra_op_thread_count {
                // ONNX Runtime takes all there are.
                0 => self.cores.count(),
                threads => threads,
            };
            return Ok((self.warm(Box::new(self.host(running).on(&self.cores, threads)))?, false));
        };
        let cuda = &self.file.optimization.cuda;
        let sizes: Vec<_> = cuda.graph_spec.iter().map(|spec| spec.batch_size).collect();
        let buckets = Buckets::new(model.batch_limit(), &sizes);
        let depth = cuda.batches_in_flight;
        let resident = Resident::new(model, conversions, reductions, buckets, depth, self.capacity);
        let resident = match resident {
            Ok(resident) => resident,
            Err(why) => {
                tracing::info!(model = self.name, "tensors go to the GPU and back by ONNX Runtime: {why}");
                let ordinal = gpu.about().ordinal;
                let site = Site::Cuda { ordinal, stream: std::ptr::null_mut(), graphs: false };
                let running = self.model.start_on(site, model, constants)?;
                return Ok((self.warm(Box::new(self.host(running).on(&self.cores, 0)))?, false));
            }
        };
        if cuda.graphs {
            match self.resident(gpu, resident.clone(), true) {
                Ok(pipeline) => return Ok((pipeline, true)),
                Err(error) => tracing::info!(model = self.name, "runs without CUDA graphs: {error}"),
            }
        }
        Ok((self.resident(gpu, resident, false)?, false))
    }

    fn host(&self, running: Box<dyn Running>) -> Host {
        let Derived { model, conversions, reductions, .. } = &self.derived;
        Host::new(Cpu::new(model, conversions, reductions), running)
    }

    fn resident(&self, gpu: &Gpu, resident: Resident, graphs: bool) -> Result<Box<dyn Pipeline>> {
        let buckets = resident.buckets.clone();
        let device = gpu.device(resident).map_err(|why| Error::new(Code::Internal, why))?;
        let stream = device.compute_stream();
        let places: Vec<_> = buckets.sizes().iter().map(|&rows| device.places(rows)).collect();
        let site = Site::Cuda { ordinal: gpu.about().ordinal, stream, graphs };
        let model = self.model.bind(site, &self.derived.model, &self.derived.constants, &places)?;
        self.warm(Box::new(Cuda::new(device, model).on(&self.cores)))
    }

    fn warm(&self, mut pipeline: Box<dyn Pipeline>) -> Result<Box<dyn Pipeline>> {
        let configured = self.file.model_warmup.iter().map(|warmup| warmup.batch_size);
        let sizes = pipeline.rehearsal().into_iter().chain(configured);
        WarmUp::new(&self.derived.signature, sizes).run(&mut *pipeline)?;
        Ok(pipeline)
    }
}
