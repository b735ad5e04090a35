//! The suite of `thalweg device-check`, on every device that is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[cfg(feature = "cuda")]
mod gpu;
#[cfg(feature = "cuda")]
mod onnx;
#[cfg(feature = "cuda")]
mod refused;
#[cfg(feature = "cuda")]
mod unfit;

mod command;

#[cfg(feature = "cuda")]
use std::path::{Path, PathBuf};

use thalweg::check::{self, Target};
use thalweg::clock::Clock;

#[cfg(feature = "cuda")]
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const SEEDS: u64 = 3;

/// Runs the suite with several seeds, or with the one that was asked for.
fn suite(target: &Target) {
    #[allow(clippy::disallowed_methods, reason = "the seed to try again")]
    let chosen =
        std::env::var("THALWEG_SEED").ok().map(|seed| seed.parse().expect("THALWEG_SEED is a number"));
    for seed in chosen.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let outcomes = check::run(target, seed, Clock::start());
        let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
        assert!(failed.is_empty(), "THALWEG_SEED={seed} tries it again: {failed:#?}");
    }
}

#[test]
fn the_cpu_passes() {
    suite(&Target::Cpu);
}
