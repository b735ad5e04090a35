//! CUDA's libraries from a folder of ours, so that nobody has to set `LD_LIBRARY_PATH`.

use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};

/// What ONNX Runtime's CUDA provider and the kernels' compiler need, each behind what it needs itself.
const LIBRARIES: &[&str] = &[
    "libcudart.so.13",
    "libnvJitLink.so.13",
    // The compiler opens its builtins by name, whose version is its own.
    "libnvrtc-builtins.so.13.0",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcufft.so.12",
    "libcudnn_graph.so.9",
    "libcudnn_ops.so.9",
    "libcudnn_heuristic.so.9",
    "libcudnn_adv.so.9",
    "libcudnn_cnn.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
    "libcudnn.so.9",
];

/// Loads those that are there. Who asks for one by its name later gets the one that is loaded.
pub(super) fn preload(folder: &Path) {
    for path in LIBRARIES.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
        // SAFETY: libraries of these names are NVIDIA's, whose initialisers are harmless.
        match unsafe { Library::open(Some(&path), RTLD_LAZY | RTLD_GLOBAL) } {
            // It stays for the life of the process.
            Ok(library) => std::mem::forget(library),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a library of CUDA's cannot be loaded")
            }
        }
    }
}
