//! The files that images are built from against the code; no test builds an image.

use std::collections::BTreeSet;

use expect_test::expect;
use thalweg::config::RawSettings;
use thalweg::fetch::Lock;

const CPU: &str = include_str!("../Dockerfile");
const CUDA: &str = include_str!("../Dockerfile.cuda");
const MANIFEST: &str = include_str!("../Cargo.toml");
const LOCK: &str = include_str!("../models/fetch.lock");

/// The lines that are no comments.
fn lines(file: &str) -> impl Iterator<Item = &str> {
    file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The settings that a file makes.
fn settings(file: &str) -> Vec<(&str, &str)> {
    let words = lines(file).flat_map(str::split_whitespace).filter(|word| word.starts_with("THALWEG_"));
    words.filter_map(|word| word.split_once('=')).collect()
}

#[test]
fn the_images_set_what_is_a_setting() {
    for (variable, _) in [settings(CPU), settings(CUDA)].concat() {
        assert!(RawSettings::VARIABLES.contains(&variable), "{variable}");
    }
}

#[test]
fn onnxruntime_is_where_the_images_say() {
    let lock = Lock::parse(LOCK).expect("a lock file");
    let members = lock.packages.iter().flat_map(|package| &package.members);
    let places: Vec<_> = members.map(|member| format!("/opt/thalweg/{}", member.to)).collect();
    for file in [CPU, CUDA] {
        let settings = settings(file);
        let (_, path) = settings.iter().find(|(name, _)| *name == "THALWEG_ONNXRUNTIME").expect("a path");
        assert!(places.iter().any(|place| place == path), "{path} is not fetched");
    }
}

#[test]
fn the_compiler_is_the_one_that_the_manifest_asks_for() {
    let (_, rest) = MANIFEST.split_once("rust-version = \"").expect("rust-version");
    let version = rest.split('"').next().expect("a version");
    for file in [CPU, CUDA] {
        assert!(file.contains(&format!("ARG RUST_IMAGE=rust:{version}-")), "rust-version is {version}");
    }
}

/// What is done for one is done for the other, but for this.
#[test]
fn the_images_differ_only_where_a_gpu_does() {
    let (cpu, cuda): (BTreeSet<_>, BTreeSet<_>) = (lines(CPU).collect(), lines(CUDA).collect());
    let of = |file: &'static str, sign: char, other: &BTreeSet<&str>| {
        let own = lines(file).filter(|line| !other.contains(line));
        own.map(|line| format!("{sign} {line}")).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        - ARG BASE_IMAGE=debian:bookworm-slim
        - cargo chef cook --profile shipped --locked
        - cargo build --profile shipped --locked
        - thalweg models fetch
        - && mkdir -p /home/mind/model
        - COPY --from=fetch /fetched/runtime runtime
        - THALWEG_ONNXRUNTIME=/opt/thalweg/runtime/libonnxruntime.so.1.32.0
        - org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
        + ARG BASE_IMAGE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04
        + cargo chef cook --profile shipped --locked --features cuda
        + cargo build --profile shipped --locked --features cuda
        + thalweg models fetch onnxruntime onnxruntime-gpu magika silero-vad
        + && mkdir -p /home/mind/model \
        + && install --directory --owner 1000 --group 100 /var/cache/thalweg
        + RUN cuda='libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcufft.so.12 libcurand.so.10 libnvrtc.so.13'; \
        + missing=$(LD_PRELOAD="$cuda libcudnn.so.9" /bin/true 2>&1); \
        + if [ -n "$missing" ]; then echo "$missing"; exit 1; fi
        + COPY --from=fetch /fetched/runtime/cuda runtime/cuda
        + THALWEG_ONNXRUNTIME=/opt/thalweg/runtime/cuda/libonnxruntime.so.1.31.1 \
        + THALWEG_KERNEL_CACHE=/var/cache/thalweg
        + ENV NVIDIA_VISIBLE_DEVICES=all \
        + NVIDIA_DRIVER_CAPABILITIES=compute,utility \
        + NVIDIA_DISABLE_REQUIRE=1
        + ENV CUDA_CACHE_PATH=/var/cache/thalweg
        + org.opencontainers.image.licenses="Apache-2.0 AND MIT AND LicenseRef-NVIDIA-Proprietary" \"#]].assert_eq(&format!("{}\n{}", of(CPU, '-', &cuda), of(CUDA, '+', &cpu)));
}
