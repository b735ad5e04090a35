//! `thalweg device-check`: whether a device does what the server needs of it, and how fast.

mod models;
mod report;

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, runtime};
use crate::check::{self, Target};
use crate::clock::Clock;
use crate::config::DeviceKind;
use crate::device::cuda::Gpu;
use crate::device::{About, CopyTimes, Unfit};
use report::{Copy, Report};

/// Bytes of the copies that are timed.
const COPIED: usize = 64 << 20;

#[derive(Args)]
pub struct DeviceCheck {
    /// What to check
    #[arg(long, value_enum, default_value_t = DeviceKind::Auto)]
    device: DeviceKind,
    /// Which GPU, where there are several
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    gpu: usize,
    /// What the checks follow from
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Folders of models to run, if they are there
    #[arg(
        long,
        env = "THALWEG_MODEL_REPOSITORY",
        default_value = "models",
        value_name = "FOLDER",
        value_delimiter = ','
    )]
    model_repository: Vec<PathBuf>,
    /// ONNX Runtime's shared library [default: the one that was fetched]
    #[arg(long, env = "THALWEG_ONNXRUNTIME", value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// How far a GPU's results may be from the CPU's, relative to the greater or 1
    #[arg(long, default_value_t = 1e-3, value_name = "NUMBER")]
    tolerance: f64,
    /// Where kernels are kept that were compiled for a GPU
    #[arg(long, env = "THALWEG_KERNEL_CACHE", default_value = "runtime/kernels", value_name = "FOLDER")]
    kernel_cache: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DeviceCheck {
    pub fn run(self) -> Result<(), Failure> {
        let clock = Clock::start();
        let library = runtime::library(self.onnxruntime.as_deref().unwrap_or(Path::new("")), self.device);
        let (gpus, none) = if self.device == DeviceKind::Cpu { (Vec::new(), None) } else { found() };
        let target = match self.device {
            DeviceKind::Cpu => Target::Cpu,
            // Only a GPU that nothing can use is passed over.
            DeviceKind::Auto if gpus.is_empty() => Target::Cpu,
            DeviceKind::Auto | DeviceKind::Cuda => {
                Target::Gpu(Gpu::open(self.gpu, Some(&self.kernel_cache))?)
            }
        };
        let mut report = Report::new(&target, self.seed, gpus, none.map(|unfit| unfit.to_string()));
        report.checks(check::run(&target, self.seed, clock));
        (report.copies, report.no_copies) = match copies(&target, clock) {
            Ok(copies) => (copies, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        (report.models, report.no_models) = match models::run(&self, &library, &target, clock) {
            Ok(models) => (models, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{report}");
        }
        if report.passed() { Ok(()) } else { Err("not all checks passed".into()) }
    }
}

/// The GPUs that can be used, and why there are no more of them.
fn found() -> (Vec<About>, Option<Unfit>) {
    let mut gpus = Vec::new();
    loop {
        match Gpu::find(gpus.len()) {
            Ok(about) => gpus.push(about),
            Err(Unfit::NoDevice { .. }) if !gpus.is_empty() => return (gpus, None),
            Err(unfit) => return (gpus, Some(unfit)),
        }
    }
}

fn copies(target: &Target, clock: Clock) -> Result<Vec<Copy>, Failure> {
    Ok(match target {
        Target::Cpu => {
            let (from, mut to) = (vec![1u8; COPIED], vec![0u8; COPIED]);
            let copy = |_| {
                let start = clock.now();
                std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
                clock.now() - start
            };
            let best = (0..5).map(copy).min().unwrap_or_default();
            vec![Copy::new("host -> host", COPIED, best)]
        }
        Target::Gpu(gpu) => {
            let CopyTimes { bytes, to_device, to_host, on_device } = gpu.copy_times(COPIED)?;
            vec![
                Copy::new("host -> device", bytes, to_device),
                Copy::new("device -> host", bytes, to_host),
                Copy::new("device -> device", bytes, on_device),
            ]
        }
    })
}
