//! A launch that the driver refuses, while the device stays well: no step is done by halves, and none is done twice.

use thalweg::device::cuda::Copies;
use thalweg::device::{Buckets, Resident};
use thalweg::engine::Bound;
use thalweg::error::{Code, Result};
use thalweg::lane::{Cuda, Pipeline};
use thalweg::streams::Slot;
use thalweg::tensor::{
    Conversion, DataType, Dim, GroupKey, Narrow, Payload, Reduction, Signature, StateSpec, TensorSpec,
};

use crate::gpu;

/// What a batch launches: one kernel to convert, two to fetch states, one to reduce, two to keep states.
const LAUNCHES: i32 = 6;

struct OnDevice(Copies);

impl Bound for OnDevice {
    fn launch(&mut self, bucket: usize) -> Result<()> {
        self.0.launch(bucket)
    }

    fn replays_graphs(&self) -> bool {
        false
    }
}

/// The greatest of the three numbers that came two steps ago.
fn pipeline() -> Cuda {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        dims: vec![Dim::Dynamic, Dim::Fixed(3)],
        batch_axis: Some(0),
    };
    let state = |input, output| {
        let initial = bytemuck::cast_slice(&[0.0f32, 500.0, 0.0]).to_vec();
        StateSpec { input: spec(input), output: spec(output), initial }
    };
    let states = vec![state("last", "last'"), state("before", "before'")];
    let signature =
        Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], states, max_batch_size: 2 };
    let convert = Conversion::Scale { from: Narrow::Uint8, scale: 1.0, offset: 0.0 };
    let reduce = Reduction::TopK { k: 1, softmax: false };
    let buckets = Buckets::new(2, &[]);
    let resident = Resident::new(&signature, &[Some(convert)], &[Some(reduce)], buckets, 2, 1).unwrap();
    let device = gpu::gpu().device(resident).unwrap();
    let copies = device.copies(&[2, 0, 1]).unwrap();
    Cuda::new(device, Box::new(OnDevice(copies)))
}

/// A step of the one stream, whose `refused`th launch is refused.
fn step(pipeline: &mut Cuda, begun: bool, number: u8, refused: i32) -> Result<f32> {
    pipeline.begin(1, &GroupKey::default())?;
    let slot = Slot { index: 0, generation: 1, begun };
    pipeline.put(1, &[Payload::Rows(vec![0, number, 0].into())], Some(slot))?;
    refuse(refused);
    pipeline.launch()?;
    refuse(0);
    pipeline.landings().recv().unwrap();
    let output = pipeline.land()?.output;
    let bytes: Vec<u8> = output.columns[0].slice(0, 1).chunks().flatten().copied().collect();
    Ok(bytemuck::pod_read_unaligned(&bytes))
}

/// That launch of this thread, from here on, is refused; none is at 0.
fn refuse(launch: i32) {
    // SAFETY: the emulated driver is loaded already, and its function has this type.
    unsafe {
        let driver = libloading::Library::new(gpu::driver()).unwrap();
        let refuse: libloading::Symbol<unsafe extern "C" fn(i32)> =
            driver.get(b"emulated_gpu_refuse").unwrap();
        refuse(launch);
    }
}

#[test]
fn a_step_is_done_once_or_its_state_is_lost() {
    if !gpu::emulated() {
        return;
    }
    for refused in 1..=LAUNCHES {
        let mut pipeline = pipeline();
        assert_eq!(step(&mut pipeline, false, 7, refused).unwrap_err().code, Code::InferenceFailed);
        assert!(!pipeline.holds(Slot { index: 0, generation: 1, begun: true }), "{refused}: it never began");
        assert_eq!(step(&mut pipeline, false, 7, 0), Ok(500.0));
        assert_eq!(step(&mut pipeline, true, 8, 0), Ok(500.0));
        assert_eq!(step(&mut pipeline, true, 9, refused).unwrap_err().code, Code::InferenceFailed);
        if refused <= LAUNCHES - 2 {
            assert_eq!(step(&mut pipeline, true, 9, 0), Ok(7.0), "{refused}: nothing has happened");
            assert_eq!(step(&mut pipeline, true, 10, 0), Ok(8.0), "{refused}");
        } else {
            assert_eq!(step(&mut pipeline, true, 9, 0).unwrap_err().code, Code::StateLost, "{refused}");
        }
        assert_eq!(step(&mut pipeline, true, 1, LAUNCHES + 1).is_ok(), refused <= LAUNCHES - 2, "{refused}");
    }
}
