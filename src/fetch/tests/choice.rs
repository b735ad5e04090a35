//! What is fetched of the lock file of this checkout.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};

use super::super::{BUILT_IN, Choice, Lock};

fn check(choice: &Choice, platform: &str, expect: Expect) {
    let lock = Lock::parse(BUILT_IN).unwrap();
    let told = match choice.of(&lock, platform) {
        Err(error) => format!("error: {error}"),
        Ok((packages, unsupported)) => {
            let lines = packages.iter().map(|package| {
                let folders = package.members.iter().filter_map(|member| Some(member.to.rsplit_once('/')?.0));
                let folders: BTreeSet<_> = folders.collect();
                format!("{}: {}", package.name, folders.into_iter().collect::<Vec<_>>().join(", "))
            });
            let missing = unsupported.iter().map(|package| format!("no {}", package.name));
            lines.chain(missing).collect::<Vec<_>>().join("\n")
        }
    };
    expect.assert_eq(&told);
}

fn with(group: &str) -> Choice {
    Choice::With(group.to_owned())
}

fn only(name: &str) -> Choice {
    Choice::Only(vec![name.to_owned()])
}

#[test]
fn a_plain_run_leaves_cuda_alone() {
    let plain = || {
        expect![[r#"
        onnxruntime: runtime
        magika: models/magika, models/magika/1
        silero-vad: models/silero_vad/1"#]]
    };
    check(&Choice::Plain, "linux-x86_64", plain());
    check(&Choice::Plain, "linux-aarch64", plain());
    check(
        &Choice::Plain,
        "plan9-mips",
        expect![[r#"
            magika: models/magika, models/magika/1
            silero-vad: models/silero_vad/1
            no onnxruntime"#]],
    );
}

#[test]
fn cuda_comes_if_it_is_asked_for() {
    check(
        &with("cuda"),
        "linux-x86_64",
        expect![[r#"
        onnxruntime: runtime
        onnxruntime-gpu: runtime/cuda
        nvidia-cuda-runtime: runtime/cuda
        nvidia-cublas: runtime/cuda
        nvidia-cudnn-cu13: runtime/cuda
        nvidia-cufft: runtime/cuda
        nvidia-curand: runtime/cuda
        nvidia-cuda-nvrtc: runtime/cuda
        nvidia-nvjitlink: runtime/cuda
        magika: models/magika, models/magika/1
        silero-vad: models/silero_vad/1"#]],
    );
    check(&only("onnxruntime-gpu"), "linux-x86_64", expect!["onnxruntime-gpu: runtime/cuda"]);
}

#[test]
fn what_was_asked_for_and_cannot_be_had_is_an_error() {
    check(
        &with("cuda"),
        "linux-aarch64",
        expect![
            "error: there is no onnxruntime-gpu to fetch for linux-aarch64: get its shared library for this platform from elsewhere, and give its path with --onnxruntime"
        ],
    );
    check(
        &with("rocm"),
        "linux-x86_64",
        expect![[r#"error: the lock file has no package of the group "rocm""#]],
    );
    check(
        &only("onnxruntime"),
        "plan9-mips",
        expect![
            "error: there is no onnxruntime to fetch for plan9-mips: get its shared library for this platform from elsewhere, and give its path with --onnxruntime"
        ],
    );
    check(
        &only("onnxruntim"),
        "linux-x86_64",
        expect![[
            r#"error: the lock file has no package "onnxruntim"; it has onnxruntime, onnxruntime-gpu, nvidia-cuda-runtime, nvidia-cublas, nvidia-cudnn-cu13, nvidia-cufft, nvidia-curand, nvidia-cuda-nvrtc, nvidia-nvjitlink, magika, silero-vad"#
        ]],
    );
}
