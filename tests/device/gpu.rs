//! The suite on the GPU that the driver shows, which is an emulated one in `make test`.

use std::path::PathBuf;
use std::sync::OnceLock;

use thalweg::check::Target;
use thalweg::device::cuda::Gpu;

/// Compiled kernels stay between tests.
pub fn cache() -> PathBuf {
    crate::project("target/kernels")
}

pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(0, Some(&cache())).unwrap_or_else(|unfit| panic!("{unfit}"))).clone()
}

/// Whether it is the emulated one, which does as its variables say.
pub fn emulated() -> bool {
    gpu().about().name == "Thalweg emulated GPU"
}

/// The library of its driver.
pub fn driver() -> PathBuf {
    gpu();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/libcuda.so")).expect("it is loaded");
    PathBuf::from(&line[line.find('/').unwrap()..])
}

#[test]
fn the_gpu_passes() {
    // One of its own, since the suite counts what is taken of it.
    let gpu = Gpu::open(0, Some(&cache())).unwrap_or_else(|unfit| panic!("{unfit}"));
    crate::suite(&Target::Gpu(gpu));
}
