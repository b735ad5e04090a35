//! The suite on the GPU that the driver shows, which is an emulated one in `make test`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use thalweg::check::Target;
use thalweg::device::cuda::Gpu;

/// Compiled kernels stay between tests.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kernels")
}

pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(0, Some(&cache())).unwrap_or_else(|unfit| panic!("{unfit}"))).clone()
}

#[test]
fn the_gpu_passes() {
    crate::suite(&Target::Gpu(gpu()));
}
