//! NVIDIA GPUs, through CUDA's driver.
//!
//! The only module that names CUDA's libraries. A [`Gpu`] is opened once for a process, after looking for all it needs; each
//! lane has a [`CudaDevice`] of its own on it.

mod compute;
mod copying;
mod device;
mod gather;
mod kernels;
mod leg;
mod memory;
mod preload;
mod reduce;
mod seats;
mod staging;
mod state;
mod utilization;

use std::path::Path;
use std::sync::Arc;

use cudarc::driver::{CudaContext, DriverError, result, sys};

pub use compute::{Compute, Copies};
pub use device::CudaDevice;
use kernels::Kernels;
use memory::Memory;
use utilization::Utilization;

use super::{About, CopyTimes, Resident, Unfit};
use crate::error::{Code, Error};

/// The CUDA version that the bindings and ONNX Runtime's provider are made for.
const DRIVER: i32 = 13_000;
/// The oldest compute capability that CUDA 13 knows.
const CAPABILITY: (i32, i32) = (7, 5);

/// A GPU, opened.
#[derive(Clone)]
pub struct Gpu(Arc<Opened>);

struct Opened {
    about: About,
    memory: Arc<Memory>,
    kernels: Kernels,
    utilization: Option<Utilization>,
}

impl Gpu {
    /// Loads CUDA's libraries that are in this folder, before anything asks for them.
    pub fn preload(folder: &Path) {
        preload::preload(folder);
    }

    /// How many GPUs the driver shows.
    pub fn count() -> Result<usize, Unfit> {
        // SAFETY: a library of this name is CUDA's driver, whose initialisers are harmless.
        if !unsafe { sys::is_culib_present() } {
            return Err(Unfit::NoDriver);
        }
        let broken = |error: DriverError| Unfit::Broken { ordinal: 0, why: said(&error) };
        let driver = driver_version().map_err(broken)?;
        if driver < DRIVER {
            return Err(Unfit::OldDriver { found: cuda_version(driver), needed: cuda_version(DRIVER) });
        }
        let count = match result::init() {
            Ok(()) => CudaContext::device_count().map_err(broken)?,
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
            Err(error) => return Err(broken(error)),
        };
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Looks at a GPU, without taking anything of it.
    pub fn find(ordinal: usize) -> Result<About, Unfit> {
        look(ordinal).map(|(_, about)| about)
    }

    /// Looks for all that is needed and compiles the kernels, which are kept in `cache`.
    pub fn open(ordinal: usize, cache: Option<&Path>) -> Result<Self, Unfit> {
        let (context, about) = look(ordinal)?;
        // SAFETY: a library of this name is CUDA's compiler, whose initialisers are harmless.
        if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
            return Err(Unfit::NoCompiler);
        }
        let kernels = Kernels::load(&context, about.compute_capability, cache)
            .map_err(|why| Unfit::Kernels { ordinal, why })?;
        let utilization =
            context.uuid().ok().and_then(|uuid| Utilization::open(uuid.bytes.map(i8::cast_unsigned)));
        Ok(Self(Arc::new(Opened { about, memory: Memory::new(context), kernels, utilization })))
    }

    /// How fast bytes are copied to it, back, and on it.
    pub fn copy_times(&self, bytes: usize) -> Result<CopyTimes, Error> {
        copying::times(&self.0.memory, bytes).map_err(failed)
    }

    pub fn about(&self) -> &About {
        &self.0.about
    }

    /// Bytes on the device that nobody has taken, as the driver tells.
    pub fn free(&self) -> Option<usize> {
        self.0.memory.context.mem_get_info().ok().map(|(free, _)| free)
    }

    /// Bytes that lanes have taken on the device, and pinned on the host.
    pub fn taken(&self) -> (usize, usize) {
        self.0.memory.taken()
    }

    /// From 0 to 1, if it can be told.
    pub fn utilization(&self) -> Option<f64> {
        self.0.utilization.as_ref()?.read()
    }

    /// A lane's part: memory for the model's tensors, its streams' states and its batches under way.
    pub fn device(&self, resident: Resident) -> Result<CudaDevice, String> {
        CudaDevice::new(self.clone(), resident)
    }
}

/// The CUDA version that the driver offers. The library has to be there.
fn driver_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: the call writes one number, and may come before `cuInit`.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

/// A GPU that this build can use.
fn look(ordinal: usize) -> Result<(Arc<CudaContext>, About), Unfit> {
    let count = Gpu::count()?;
    let broken = |error: DriverError| Unfit::Broken { ordinal, why: said(&error) };
    if ordinal >= count {
        return Err(Unfit::NoDevice { ordinal, count });
    }
    let context = CudaContext::new(ordinal).map_err(broken)?;
    let about = About {
        ordinal,
        name: context.name().map_err(broken)?,
        compute_capability: context.compute_capability().map_err(broken)?,
        driver: driver_version().map_err(broken)?,
        memory: context.total_mem().map_err(broken)?,
    };
    if about.compute_capability < CAPABILITY {
        let version = |(major, minor): (i32, i32)| format!("{major}.{minor}");
        let (found, needed) = (version(about.compute_capability), version(CAPABILITY));
        return Err(Unfit::OldDevice { ordinal, name: about.name, found, needed });
    }
    Ok((context, about))
}

fn cuda_version(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// The driver's own words.
fn said(error: &DriverError) -> String {
    let words =
        |text: Result<&std::ffi::CStr, DriverError>| text.map(|text| text.to_string_lossy().into_owned());
    match (words(error.error_name()), words(error.error_string())) {
        (Ok(name), Ok(text)) => format!("{name} ({text})"),
        _ => format!("{:?}", error.0),
    }
}

fn failed(error: DriverError) -> Error {
    Error::new(Code::InferenceFailed, format!("the GPU failed: {}", said(&error)))
}
