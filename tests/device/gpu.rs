//! The suite on the GPU that the driver shows, which is an emulated one in `make test`.

use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use thalweg::check::Target;
use thalweg::device::cuda::Gpu;
use thalweg::device::{Buckets, Resident};
use thalweg::engine::Bound;
use thalweg::error::{Code, Error, Result};
use thalweg::lane::{Cuda, Pipeline};
use thalweg::tensor::{DataType, Dim, GroupKey, Payload, Signature, TensorSpec};

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

struct Broken;

impl Bound for Broken {
    fn launch(&mut self, _bucket: usize) -> Result<()> {
        Err(Error::new(Code::InferenceFailed, "broken"))
    }

    fn replays_graphs(&self) -> bool {
        false
    }
}

/// Its memory is the next batch's, so that nothing of it may still be under way.
#[test]
fn nothing_is_left_of_a_launch_that_failed() {
    let dims = vec![Dim::Dynamic, Dim::Fixed(1 << 16)];
    let spec = TensorSpec { name: "x".into(), datatype: DataType::Fp32, dims, batch_axis: Some(0) };
    let signature =
        Signature { inputs: vec![spec], outputs: Vec::new(), states: Vec::new(), max_batch_size: 16 };
    let resident = Resident::new(&signature, &[], &[], Buckets::new(16, &[]), 2, 0).unwrap();
    let device = gpu().device(resident).unwrap();
    let compute = device.compute();
    let mut pipeline = Cuda::new(device, Box::new(Broken));
    for _ in 0..20 {
        pipeline.begin(16, &GroupKey::default()).unwrap();
        let rows = Payload::Rows(Bytes::from(vec![1; 16 << 18]));
        pipeline.put(16, &[rows], None).unwrap();
        assert_eq!(pipeline.launch().unwrap_err().code, Code::InferenceFailed);
        assert!(compute.is_idle().unwrap());
    }
}
