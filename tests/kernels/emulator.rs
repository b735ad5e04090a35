//! The emulated driver as a library, and launches of its kernels.

use std::ffi::{CString, c_char, c_uint, c_void};
use std::process::Command;
use std::sync::OnceLock;

use bytemuck::{NoUninit, Pod};
use fastrand::Rng;
use libloading::Library;

/// The emulated `libcuda.so.1`, built if its sources have changed.
pub fn library() -> &'static Library {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    LIBRARY.get_or_init(load).as_ref().unwrap_or_else(|error| panic!("{error}"))
}

fn load() -> Result<Library, String> {
    #[allow(clippy::disallowed_methods, reason = "another build than the plain one")]
    let chosen = std::env::var("THALWEG_EMULATOR").ok();
    let path = chosen.map_or_else(build, Ok)?;
    // SAFETY: its initialisers only fill the list of kernels.
    unsafe { Library::new(&path) }.map_err(|error| format!("{path}: {error}"))
}

fn build() -> Result<String, String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let done = Command::new(format!("{root}/tests/emulator/build")).output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    Ok(format!("{root}/{}/libcuda.so.1", String::from_utf8(done.stdout).unwrap().trim()))
}

/// Blocks of a grid and threads of a block, along x, y and z.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
}

impl Geometry {
    /// Enough threads for small tensors, as the host would launch them.
    pub const USUAL: Self = Self { grid: [2, 4, 2], block: [256, 1, 1] };

    /// From one thread to odd numbers of them along every axis.
    pub fn random(random: &mut Rng) -> Self {
        let blocks: &[[c_uint; 3]] =
            &[[1, 1, 1], [3, 1, 1], [31, 1, 1], [32, 1, 1], [33, 1, 1], [100, 1, 1], [256, 1, 1], [8, 3, 2]];
        let mut few = || random.u32(1..=3);
        Self { grid: [few(), few(), few()], block: *random.choice(blocks).unwrap() }
    }
}

/// What a kernel takes: a number, or the address of memory. All are little-endian, in eight bytes at the most.
#[derive(Debug, Clone, Copy)]
pub struct Parameter(u64);

impl From<u32> for Parameter {
    fn from(value: u32) -> Self {
        Self(value.into())
    }
}

impl From<u64> for Parameter {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<i64> for Parameter {
    fn from(value: i64) -> Self {
        Self(value.cast_unsigned())
    }
}

impl From<f32> for Parameter {
    fn from(value: f32) -> Self {
        Self(value.to_bits().into())
    }
}

/// Memory of exactly the size that was asked for, aligned as on the device, so that AddressSanitizer sees whoever
/// goes beyond it.
pub struct Memory {
    /// Exact: the slice is all of its allocation. Its alignment is that of the system's allocator, 16.
    bytes: Box<[u8]>,
}

impl Memory {
    pub fn of<T: NoUninit>(values: &[T]) -> Self {
        Self { bytes: bytemuck::cast_slice(values).into() }
    }

    /// Memory that nobody has written to.
    pub fn garbage(bytes: usize) -> Self {
        Self { bytes: vec![0xa5; bytes].into() }
    }

    pub fn get<T: Pod>(&self) -> Vec<T> {
        bytemuck::pod_collect_to_vec(&self.bytes)
    }
}

impl From<&Memory> for Parameter {
    fn from(memory: &Memory) -> Self {
        Self(memory.bytes.as_ptr().expose_provenance() as u64)
    }
}

impl From<&mut Memory> for Parameter {
    fn from(memory: &mut Memory) -> Self {
        Self(memory.bytes.as_mut_ptr().expose_provenance() as u64)
    }
}

type EmulateLaunch =
    unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, *const *const c_void) -> bool;

/// Runs a kernel to its end.
pub fn launch(name: &str, geometry: Geometry, parameters: &[Parameter]) {
    let pointers: Vec<_> = parameters.iter().map(|parameter| (&raw const parameter.0).cast()).collect();
    let text = CString::new(name).unwrap();
    let Geometry { grid, block } = geometry;
    // SAFETY: the symbol has this type; each test gives the parameters that the kernel declares, and memory of the
    // sizes that they tell.
    let found = unsafe {
        let launch = library().get::<EmulateLaunch>("emulate_launch").unwrap();
        launch(text.as_ptr(), grid.as_ptr(), block.as_ptr(), pointers.as_ptr())
    };
    assert!(found, "there is no kernel {name}");
}

/// Launches with the parameters in the order of the kernel's own.
#[macro_export]
macro_rules! launch {
    ($name:expr, $geometry:expr, $($parameter:expr),+ $(,)?) => {
        $crate::emulator::launch($name, $geometry, &[$($crate::emulator::Parameter::from($parameter)),+])
    };
}
