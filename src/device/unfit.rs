//! Why a GPU cannot be used, and what would help.

/// A sentence for whoever asked for a GPU, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("this build has no GPU support: build it with `cargo build --release --features cuda`")]
    NotBuilt,
    #[error(
        "the NVIDIA driver is not there (libcuda.so.1 cannot be loaded): install it, or give the container the GPU \
         (`docker run --gpus all`, or `nvidia.com/gpu` among the limits of a pod)"
    )]
    NoDriver,
    #[error(
        "the NVIDIA driver is too old: it offers CUDA {found}, this build needs CUDA {needed}; install a driver of the \
         580 series or newer"
    )]
    OldDriver { found: String, needed: String },
    #[error("there is no GPU {ordinal}: the driver shows {count} (CUDA_VISIBLE_DEVICES may hide others)")]
    NoDevice { ordinal: usize, count: usize },
    #[error(
        "GPU {ordinal} ({name}) has compute capability {found}, and CUDA 13 needs {needed} (Turing, 2018) or newer; \
         use the CPU, or another GPU"
    )]
    OldDevice { ordinal: usize, name: String, found: String, needed: String },
    #[error(
        "CUDA's compiler NVRTC is not there (libnvrtc.so.13 cannot be loaded): install the CUDA 13 runtime, or run \
         `thalweg models fetch --cuda`"
    )]
    NoCompiler,
    #[error("the kernels cannot be compiled for GPU {ordinal}: {why}")]
    Kernels { ordinal: usize, why: String },
    #[error(
        "ONNX Runtime's CUDA build is not there: {0}; run `thalweg models fetch --cuda`, or name it with --onnxruntime"
    )]
    NoRuntime(String),
    #[error("GPU {ordinal} cannot be used: {why}")]
    Broken { ordinal: usize, why: String },
}

impl Unfit {
    /// In a word, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotBuilt => "not_built",
            Self::NoDriver => "no_driver",
            Self::OldDriver { .. } => "old_driver",
            Self::NoDevice { .. } => "no_device",
            Self::OldDevice { .. } => "old_device",
            Self::NoCompiler => "no_compiler",
            Self::Kernels { .. } => "kernels",
            Self::NoRuntime(_) => "no_runtime",
            Self::Broken { .. } => "broken",
        }
    }
}
