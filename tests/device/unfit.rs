//! What is said where a GPU cannot be used, or fails while it is: no panic, no wait for ever, and a sentence that helps.

use std::process::{Command, Output};

use expect_test::{Expect, expect};

/// `thalweg device-check` on a machine that is as these variables say.
fn device_check(variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command.args(["device-check", "--device", "cuda", "--model-repository", "/nowhere", "--kernel-cache"]);
    command.arg(crate::gpu::cache()).envs(variables.iter().copied()).output().unwrap()
}

fn check(variables: &[(&str, &str)], expect: Expect) {
    let output = device_check(variables);
    assert_eq!(output.status.code(), Some(1), "{variables:?}: {output:?}");
    expect.assert_eq(&String::from_utf8(output.stderr).unwrap());
}

#[test]
fn a_gpu_that_cannot_be_used_says_why() {
    if !crate::gpu::emulated() {
        return;
    }
    check(
        &[("EMULATED_GPU_COUNT", "0")],
        expect![[r#"
        thalweg: there is no GPU 0: the driver shows 0 (CUDA_VISIBLE_DEVICES may hide others)
    "#]],
    );
    check(
        &[("EMULATED_GPU_DRIVER", "12040")],
        expect![[r#"
        thalweg: the NVIDIA driver is too old: it offers CUDA 12.4, this build needs CUDA 13.0; install a driver of the 580 series or newer
    "#]],
    );
    check(
        &[("EMULATED_GPU_CAPABILITY", "70")],
        expect![[r#"
        thalweg: GPU 0 (Thalweg emulated GPU) has compute capability 7.0, and CUDA 13 needs 7.5 (Turing, 2018) or newer; use the CPU, or another GPU
    "#]],
    );
    check(
        &[("LD_LIBRARY_PATH", "/nowhere")],
        expect![[r#"
        thalweg: the NVIDIA driver is not there (libcuda.so.1 cannot be loaded): install it, or give the container the GPU (`docker run --gpus all`, or `nvidia.com/gpu` among the limits of a pod)
    "#]],
    );
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(crate::gpu::driver(), folder.path().join("libcuda.so.1")).unwrap();
    check(
        &[("LD_LIBRARY_PATH", folder.path().to_str().unwrap())],
        expect![[r#"
        thalweg: CUDA's compiler NVRTC is not there (libnvrtc.so.13 cannot be loaded): install the CUDA 13 runtime, or run `thalweg models fetch --cuda`
    "#]],
    );
}

/// Checks that failed, and why.
fn failed(variables: &[(&str, &str)]) -> String {
    let output = device_check(variables);
    assert_eq!(output.status.code(), Some(1), "{variables:?}: {output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = table.lines().collect();
    let why = lines.windows(2).filter(|two| two[0].contains("FAILED")).map(|two| two[1].trim());
    why.collect::<Vec<_>>().join("\n")
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    if crate::gpu::emulated() {
        expect![[r#"
            GPU 0: CUDA_ERROR_OUT_OF_MEMORY (out of memory)
        "#]]
        .assert_eq(&failed(&[("EMULATED_GPU_MEMORY", "2000000")]));
    }
}

/// In the middle of everything the device fails for good: whoever waits is told.
#[test]
fn a_device_that_fails_answers_everyone() {
    if !crate::gpu::emulated() {
        return;
    }
    let mut in_lanes = 0;
    for launch in ["1", "1500", "3000", "4000", "4500", "4700", "4900"] {
        let why = failed(&[("EMULATED_GPU_FAULT", launch)]);
        assert!(why.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{launch}: {why}");
        assert!(!why.contains("were answered"), "{launch}: somebody waited for ever: {why}");
        in_lanes += usize::from(why.starts_with("stream "));
    }
    assert!(in_lanes > 0, "no device failed while lanes were at work: fail it at other launches");
}
