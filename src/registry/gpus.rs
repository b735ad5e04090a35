//! Where instances run: the CPU, or GPUs that are opened when the first instance asks for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Once};

use parking_lot::Mutex;

use super::file::{InstanceGroup, InstanceKind};
use crate::device::Unfit;
use crate::device::cuda::Gpu;
use crate::metrics::{GpuReading, Metrics};

/// ONNX Runtime's half that knows CUDA; it looks for it beside its own library.
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";

/// The GPUs of a process.
pub struct Gpus {
    /// Where instances run that do not say so.
    default: InstanceKind,
    kernel_cache: PathBuf,
    /// The folder of ONNX Runtime's library.
    runtime: PathBuf,
    metrics: Arc<Metrics>,
    opened: Mutex<BTreeMap<usize, Result<Gpu, Unfit>>>,
    /// Told once: the next model falls back for the same reason.
    fallback: Once,
}

/// Where one instance runs.
#[derive(Clone)]
pub enum Home {
    Cpu,
    Gpu(Gpu),
}

impl Gpus {
    pub fn new(
        default: InstanceKind,
        runtime: PathBuf,
        kernel_cache: PathBuf,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { default, kernel_cache, runtime, metrics, opened: Mutex::default(), fallback: Once::new() }
    }

    /// A home for each instance of a model. One on a GPU that cannot be used is an error, unless it said `auto`.
    pub fn homes(&self, groups: &[InstanceGroup]) -> Result<Vec<Home>, Unfit> {
        let one = [InstanceGroup::default()];
        let groups = if groups.is_empty() { &one } else { groups };
        let mut homes = Vec::new();
        for group in groups {
            let kind = group.kind.unwrap_or(self.default);
            let found = match kind {
                InstanceKind::Cpu => Ok(vec![Home::Cpu]),
                InstanceKind::Cuda | InstanceKind::Auto => self.open_all(&group.gpus),
            };
            let found = match found {
                Err(unfit) if kind == InstanceKind::Auto => {
                    // Whoever builds without GPUs wants none.
                    if unfit != Unfit::NotBuilt {
                        self.fallback.call_once(|| {
                            tracing::info!("models run on the CPU: {unfit}");
                            self.metrics.gpu_fallback(unfit.name());
                        });
                    }
                    vec![Home::Cpu]
                }
                found => found?,
            };
            homes.extend(found.iter().flat_map(|home| std::iter::repeat_n(home.clone(), group.count)));
        }
        Ok(homes)
    }

    fn open_all(&self, ordinals: &[usize]) -> Result<Vec<Home>, Unfit> {
        let all: Vec<usize>;
        let ordinals = match ordinals {
            // At least the first, so that its absence is told.
            [] => {
                all = (0..Gpu::count()?.max(1)).collect();
                &all
            }
            ordinals => ordinals,
        };
        ordinals.iter().map(|&ordinal| self.open(ordinal).map(Home::Gpu)).collect()
    }

    fn open(&self, ordinal: usize) -> Result<Gpu, Unfit> {
        self.opened.lock().entry(ordinal).or_insert_with(|| self.try_open(ordinal)).clone()
    }

    fn try_open(&self, ordinal: usize) -> Result<Gpu, Unfit> {
        let gpu = Gpu::open(ordinal, Some(&self.kernel_cache))?;
        let provider = self.runtime.join(PROVIDER);
        if !provider.exists() {
            return Err(Unfit::NoRuntime(format!("{} does not exist", provider.display())));
        }
        let about = gpu.about().clone();
        let (major, minor) = about.compute_capability;
        let capability = format!("{major}.{minor}");
        let driver = format!("{}.{}", about.driver / 1000, about.driver % 1000 / 10);
        tracing::info!(
            gpu = ordinal,
            name = about.name,
            compute_capability = capability,
            cuda = driver,
            memory_mib = about.memory >> 20,
            "GPU is ready"
        );
        let reading = {
            let gpu = gpu.clone();
            move || {
                let (memory_lanes, memory_pinned) = gpu.taken();
                GpuReading {
                    memory_total: about.memory,
                    memory_free: gpu.free(),
                    memory_lanes,
                    memory_pinned,
                    utilization: gpu.utilization(),
                }
            }
        };
        self.metrics.gpu([&ordinal.to_string(), &about.name, &capability, &driver], reading);
        Ok(gpu)
    }
}
