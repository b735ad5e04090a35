//! The kernels in `kernels/`: compiled for the GPU at hand, and launched.
//!
//! NVRTC compiles them when the GPU is opened, for its exact architecture, and what it makes is kept on disk: a build
//! needs no CUDA, a new GPU needs no new build, and ONNX Runtime's cuDNN brings NVRTC along anyway.

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DriverError, result};
use cudarc::nvrtc::{self, Ptx};
use sha2::{Digest, Sha256};

const COMMON: &str = include_str!("../../../kernels/common.cuh");

macro_rules! sources {
    ($($file:literal: $($kernel:literal)+;)+) => {
        /// Each file, and the kernels in it.
        const SOURCES: &[(&str, &str, &[&str])] =
            &[$(($file, include_str!(concat!("../../../kernels/", $file, ".cu")), &[$($kernel),+])),+];
    };
}

sources! {
    "gather_rows": "gather_rows";
    "gather_f32": "gather_f32";
    "gather_windows": "gather_windows_i32" "gather_windows_i64" "gather_windows_f32";
    "gather_image": "gather_image";
    "state_gather": "state_gather";
    "state_scatter": "state_scatter";
    "softmax": "softmax_f32" "softmax_f16" "softmax_bf16";
    "top_k": "top_k_f32" "top_k_f16" "top_k_bf16";
    "argmax": "argmax_f32" "argmax_f16" "argmax_bf16";
    "l2_normalize": "l2_normalize_f32" "l2_normalize_f16" "l2_normalize_bf16";
    "threshold": "threshold_f32" "threshold_f16" "threshold_bf16";
}

/// All kernels, loaded into one GPU.
pub(super) struct Kernels(BTreeMap<&'static str, CudaFunction>);

impl Kernels {
    /// Loads them from `cache`, or compiles and keeps them there.
    pub(super) fn load(
        context: &Arc<CudaContext>,
        (major, minor): (i32, i32),
        cache: Option<&Path>,
    ) -> Result<Self, String> {
        let architecture = format!("sm_{major}{minor}");
        let mut functions = BTreeMap::new();
        for &(file, source, kernels) in SOURCES {
            let text = source.replace("#include \"common.cuh\"", COMMON).replace("#pragma once", "");
            let failed = |error: DriverError| format!("{file} cannot be loaded: {error}");
            let load = |cubin| context.load_module(Ptx::from_binary(cubin));
            let module = match kept(file, &text, &architecture, cache).map(load) {
                Some(Ok(module)) => module,
                // What was kept may be damaged.
                Some(Err(_)) | None => load(cubin(file, &text, &architecture, cache)?).map_err(failed)?,
            };
            for &kernel in kernels {
                functions.insert(kernel, module.load_function(kernel).map_err(failed)?);
            }
        }
        Ok(Self(functions))
    }

    pub(super) fn get(&self, kernel: &str) -> Result<&CudaFunction, DriverError> {
        self.0.get(kernel).ok_or(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_NOT_FOUND))
    }
}

/// Where the machine code of one file is kept.
fn place(file: &str, text: &str, architecture: &str, cache: &Path) -> PathBuf {
    let digest = Sha256::new().chain_update(version()).chain_update(text).finalize();
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    cache.join(format!("{file}-{architecture}-{digest}.cubin"))
}

/// The machine code of one file, if it was kept.
fn kept(file: &str, text: &str, architecture: &str, cache: Option<&Path>) -> Option<Vec<u8>> {
    std::fs::read(place(file, text, architecture, cache?)).ok().filter(|cubin| !cubin.is_empty())
}

/// Compiles one file, and keeps what comes of it.
fn cubin(file: &str, text: &str, architecture: &str, cache: Option<&Path>) -> Result<Vec<u8>, String> {
    let cubin = compile(file, text, architecture)?;
    if let Some(folder) = cache {
        let path = place(file, text, architecture, folder);
        // Under a name of its own until it is whole: another process may be reading.
        let part = folder.join(format!("{file}-{architecture}-{}.part", std::process::id()));
        let keep = || {
            std::fs::create_dir_all(folder)?;
            std::fs::write(&part, &cubin)?;
            std::fs::rename(&part, &path)
        };
        if let Err(error) = keep() {
            tracing::debug!(path = %path.display(), %error, "a compiled kernel cannot be kept");
        }
    }
    Ok(cubin)
}

/// NVRTC's version: another one may compile the same text to other code.
fn version() -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the call writes two integers.
    let _ = unsafe { nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    format!("NVRTC {major}.{minor}")
}

fn compile(file: &str, text: &str, architecture: &str) -> Result<Vec<u8>, String> {
    let failed = |why: nvrtc::result::NvrtcError| format!("{file} cannot be compiled: {:?}", why.0);
    let named = CString::new(format!("{file}.cu")).map_err(|error| error.to_string())?;
    let source = CString::new(text).map_err(|error| error.to_string())?;
    let program = nvrtc::result::create_program(&source, Some(&named)).map_err(failed)?;
    let options = [format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    // SAFETY: the program has just been created, is destroyed once below, and not used after that.
    let cubin = unsafe {
        nvrtc::result::compile_program(program, &options)
            .map_err(|why| format!("{}: {}", failed(why), log(program)))
            .and_then(|()| machine_code(program).map_err(failed))
    };
    // SAFETY: as above.
    let _ = unsafe { nvrtc::result::destroy_program(program) };
    cubin
}

/// # Safety
///
/// The program has been compiled and not been destroyed.
unsafe fn machine_code(program: nvrtc::sys::nvrtcProgram) -> Result<Vec<u8>, nvrtc::result::NvrtcError> {
    let mut size = 0;
    // SAFETY: the caller vouches for the program, and the call writes one number.
    unsafe { nvrtc::sys::nvrtcGetCUBINSize(program, &raw mut size) }.result()?;
    let mut cubin = vec![0u8; size];
    // SAFETY: the buffer has the size that NVRTC has just told.
    unsafe { nvrtc::sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()) }.result()?;
    Ok(cubin)
}

/// What the compiler says, on one line.
///
/// # Safety
///
/// The program has not been destroyed.
unsafe fn log(program: nvrtc::sys::nvrtcProgram) -> String {
    // SAFETY: the caller vouches for the program.
    let log = unsafe { nvrtc::result::get_program_log(program) }.unwrap_or_default();
    let bytes: Vec<u8> = log.iter().map(|&byte| byte.cast_unsigned()).filter(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arg {
    Address(u64),
    U32(u32),
    U64(u64),
    I64(i64),
    F32(f32),
}

impl Arg {
    fn pointer(&self) -> *mut c_void {
        match self {
            Self::Address(value) | Self::U64(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::U32(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::I64(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::F32(value) => std::ptr::from_ref(value).cast_mut().cast(),
        }
    }
}

/// A size as the kernels take it.
pub(super) fn narrow(number: usize) -> u32 {
    // Those of tensors that fit the device's 32-bit offsets, as `Layout` has checked.
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Threads and blocks along x, blocks along y and z. Any geometry is right: kernels go through what is left over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    threads: u32,
    blocks: (u32, u32, u32),
}

impl Geometry {
    /// So many items along x, a thread each, in blocks of 256 at the most.
    pub(super) fn new(items: usize, rows: usize, outer: usize) -> Self {
        let bounded = |count: usize| u32::try_from(count.clamp(1, 65_535)).unwrap_or(1);
        let threads = items.next_multiple_of(32).clamp(32, 256);
        let threads = u32::try_from(threads).unwrap_or(256);
        Self { threads, blocks: (bounded(items.div_ceil(256)), bounded(rows), bounded(outer)) }
    }
}

/// Puts a kernel into the stream.
///
/// # Safety
///
/// The arguments are those that the kernel declares, and their addresses hold what its header says they hold until
/// the stream has done it.
pub(super) unsafe fn launch(
    stream: &CudaStream,
    kernel: &CudaFunction,
    geometry: Geometry,
    args: &[Arg],
) -> Result<(), DriverError> {
    let mut pointers: smallvec::SmallVec<[*mut c_void; 12]> = args.iter().map(Arg::pointer).collect();
    let threads = (geometry.threads, 1, 1);
    // SAFETY: the pointers lead to `args`, which the driver reads before it returns; the caller vouches for the rest.
    unsafe {
        result::launch_kernel(
            kernel.cu_function(),
            geometry.blocks,
            threads,
            0,
            stream.cu_stream(),
            &mut pointers,
        )
    }
}
