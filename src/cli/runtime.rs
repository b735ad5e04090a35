//! ONNX Runtime as the settings want it, and the GPUs that go with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{DeviceKind, Settings};
use crate::device::cuda::Gpu;
use crate::engine::onnx::{LoadError, OnnxRuntime};
use crate::metrics::Metrics;
use crate::registry::Gpus;
use crate::registry::file::InstanceKind;

/// Where `thalweg models fetch` puts the CPU's build,
pub(super) const FOR_CPU: &str = "runtime/libonnxruntime.so.1.32.0";
/// and with `--cuda` the build for GPUs, and CUDA's own libraries beside it.
const FOR_CUDA: &str = "runtime/cuda/libonnxruntime.so.1.31.1";

/// The library to load: the one that is named, if any is.
pub(super) fn library(named: &Path, device: DeviceKind) -> PathBuf {
    let cuda = Path::new(FOR_CUDA);
    // What is missing on the system may lie beside it; the driver itself does not.
    Gpu::preload(cuda.parent().unwrap_or(cuda));
    if !named.as_os_str().is_empty() {
        named.to_owned()
    } else if device != DeviceKind::Cpu && cuda.exists() && Gpu::count().is_ok_and(|count| count > 0) {
        cuda.to_owned()
    } else {
        FOR_CPU.into()
    }
}

/// For a command that only looks at models, or runs them on the CPU.
pub(super) fn for_cpu(settings: &Settings) -> Result<OnnxRuntime, LoadError> {
    if settings.onnxruntime.as_os_str().is_empty() {
        OnnxRuntime::load(Path::new(FOR_CPU))
    } else {
        OnnxRuntime::load(&settings.onnxruntime)
    }
}

/// For serving.
pub(super) fn load(settings: &Settings, metrics: &Arc<Metrics>) -> Result<(OnnxRuntime, Gpus), LoadError> {
    let library = library(&settings.onnxruntime, settings.device);
    let folder = library.parent().map(Path::to_owned).unwrap_or_default();
    let default = match settings.device {
        DeviceKind::Auto => InstanceKind::Auto,
        DeviceKind::Cpu => InstanceKind::Cpu,
        DeviceKind::Cuda => InstanceKind::Cuda,
    };
    let gpus = Gpus::new(default, folder, settings.kernel_cache.clone(), Arc::clone(metrics));
    Ok((OnnxRuntime::load(&library)?, gpus))
}
