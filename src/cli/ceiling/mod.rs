//! `thalweg models ceiling`: what a model can do on a device by itself, and what lanes get out of it.

mod report;
mod timeline;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::repositories::folders_only;
use super::tune::time;
use super::{Failure, runtime};
use crate::check::{self, Effort, Fed, Feeding, Target, alone, feed};
use crate::clock::Clock;
use crate::config::{DeviceKind, RawSettings};
use crate::device::cuda::Gpu;
use crate::engine::onnx::{OnnxModel, OnnxRuntime};
use crate::lane::Cores;
use crate::registry::file::{GraphSpec, ModelFile};
use crate::registry::{self, Blueprint, Derived, FieldError, Home, Opened, derive};
use report::{Lanes, Report};

/// Runs that are not counted, at the least, and at the most.
const WARM_UP: usize = 3;
const FEWEST: usize = 5;
const MOST: usize = 100_000;

#[derive(Args)]
pub struct Ceiling {
    /// A model of the repository
    model: String,
    /// This version [default: the newest that is served]
    #[arg(long = "version", value_name = "N")]
    number: Option<u64>,
    /// Which GPU, where there are several
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    gpu: usize,
    /// Batch sizes [default: 1, 8, 64 … up to the model's max_batch_size]
    #[arg(long, value_delimiter = ',', value_name = "ROWS", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Vec<u16>,
    /// With and without CUDA graphs; the CPU has none
    #[arg(long, value_delimiter = ',', default_value = "on,off", value_name = "WHICH")]
    graphs: Vec<Graphs>,
    /// Batches that an instance may have under way
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    in_flight: Vec<u8>,
    /// Instances that share the device
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    instances: Vec<u8>,
    /// Measure the model alone, and no lanes
    #[arg(long)]
    alone: bool,
    /// How long each figure is measured
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = time)]
    each: Duration,
    /// What the inputs follow from
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Write when the batches of the last lanes were where, as a Chrome trace
    #[arg(long, value_name = "FILE", conflicts_with = "alone")]
    timeline: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: RawSettings,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Graphs {
    On,
    Off,
}

/// What is measured.
struct Subject {
    model: Arc<OnnxModel>,
    derived: Derived,
    file: ModelFile,
}

impl Ceiling {
    pub fn run(self) -> Result<(), Failure> {
        let settings = self.settings.clone().validate()?;
        let folder = registry::find_model(folders_only(&settings.model_repository)?, &self.model)?;
        let (file, versions) = registry::read_model(&folder)?;
        let version = self.number.or(versions.last().copied()).unwrap_or(1);
        let library = runtime::library(&settings.onnxruntime, settings.device);
        let target = match settings.device {
            DeviceKind::Auto if Gpu::count().unwrap_or(0) == 0 => Target::Cpu,
            DeviceKind::Cpu => Target::Cpu,
            DeviceKind::Auto | DeviceKind::Cuda => {
                Target::Gpu(Gpu::open(self.gpu, Some(&settings.kernel_cache))?)
            }
        };
        let runtime = OnnxRuntime::load(&library)?;
        let subject = Subject::new(&runtime, &folder, version, file)?;
        let limit = subject.derived.model.batch_limit();
        let sizes = self.sizes(limit)?;
        let clock = Clock::start();
        let mut report = Report::new(&self.model, version, &target, runtime.build());

        for graphs in self.graphs_on(&target) {
            let Subject { model, derived, .. } = &subject;
            let effort = Effort { warm_up: WARM_UP, fewest: FEWEST, most: MOST, time: self.each };
            match alone(&target, model, derived, &sizes, graphs, effort, self.seed, clock) {
                Ok(found) => report.alone(&found),
                Err(why) => report.failed(format!("alone, {}: {why}", report::with(graphs))),
            }
        }
        let mut flown = Vec::new();
        for lanes in if self.alone { Vec::new() } else { self.lanes(&target, &sizes) } {
            match subject.feed(&target, lanes, self.each, self.seed, clock) {
                Ok(fed) => {
                    report.lanes(lanes, &fed);
                    flown = fed.flown;
                }
                Err(why) => report.failed(format!("{lanes}: {why}")),
            }
        }
        if let Some(path) = &self.timeline {
            let text = serde_json::to_string(&timeline::trace(&flown))?;
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{report}");
        }
        if report.is_whole() { Ok(()) } else { Err("not all could be measured".into()) }
    }

    fn sizes(&self, limit: usize) -> Result<Vec<usize>, Failure> {
        let asked: Vec<usize> = self.batch.iter().copied().map(usize::from).collect();
        match asked.iter().max() {
            None => {
                let eights = std::iter::successors(Some(1usize), |size| size.checked_mul(8));
                Ok(eights.take_while(|size| *size < limit).chain([limit]).collect())
            }
            Some(&most) if most > limit => {
                Err(format!("--batch {most}: the model's max_batch_size is {limit}").into())
            }
            Some(_) => Ok(asked),
        }
    }

    fn graphs_on(&self, target: &Target) -> Vec<bool> {
        match target {
            Target::Cpu => vec![false],
            Target::Gpu(_) => self.graphs.iter().map(|graphs| *graphs == Graphs::On).collect(),
        }
    }

    /// All combinations; a CPU has one batch under way.
    fn lanes(&self, target: &Target, sizes: &[usize]) -> Vec<Lanes> {
        let in_flight = match target {
            Target::Cpu => &[1][..],
            Target::Gpu(_) => &self.in_flight,
        };
        let mut all = Vec::new();
        for &rows in sizes {
            for graphs in self.graphs_on(target) {
                for &in_flight in in_flight {
                    for &instances in &self.instances {
                        let (in_flight, instances) = (in_flight.into(), instances.into());
                        all.push(Lanes { rows, graphs, in_flight, instances });
                    }
                }
            }
        }
        all
    }
}

impl Subject {
    fn new(runtime: &OnnxRuntime, folder: &Path, version: u64, file: ModelFile) -> Result<Self, Failure> {
        let Opened { model, file, .. } = registry::open(runtime, folder, version, &file)?;
        let mut derived = derive(model.graph(), &file)
            .map_err(|FieldError { field, why }| format!("model.toml: {field}: {why}"))?;
        check::fix(&mut derived.model, &file);
        check::fix(&mut derived.signature, &file);
        Ok(Self { model: Arc::new(model), derived, file })
    }

    /// Lanes as a server has them, but for what is measured.
    fn feed(
        &self,
        target: &Target,
        lanes: Lanes,
        time: Duration,
        seed: u64,
        clock: Clock,
    ) -> Result<Fed, String> {
        let Lanes { rows, graphs, in_flight, instances } = lanes;
        let mut file = self.file.clone();
        file.optimization.cuda.graphs = graphs;
        file.optimization.cuda.batches_in_flight = in_flight;
        file.optimization.cuda.graph_spec = vec![GraphSpec { batch_size: rows }];
        let mut derived = self.derived.clone();
        for signature in [&mut derived.signature, &mut derived.model] {
            signature.max_batch_size = signature.max_batch_size.min(rows);
        }
        let (name, model) = ("ceiling".to_owned(), Arc::clone(&self.model));
        let capacity = if derived.model.states.is_empty() { 0 } else { (in_flight + 2) * rows };
        let cores = Cores::of_this_machine();
        let blueprint = Arc::new(Blueprint { name, file, model, derived, capacity, cores });
        let home = match target {
            Target::Cpu => Home::Cpu,
            Target::Gpu(gpu) => Home::Gpu(gpu.clone()),
        };
        let taken = || match target {
            Target::Cpu => (0, 0),
            Target::Gpu(gpu) => gpu.taken(),
        };
        let feeding = Feeding { instances, rows, in_flight, time, seed };
        feed(&blueprint, &home, &feeding, clock, taken)
    }
}
