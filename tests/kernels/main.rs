//! The CUDA kernels, run by the emulated GPU of `tests/emulator`, against their references in Rust.
//!
//! `THALWEG_SEED=7 cargo test --test kernels` tries one random case again. With `THALWEG_EMULATOR` the emulator is
//! another build than the plain one: `make sanitized-tests` takes the one with AddressSanitizer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod driver;
mod emulator;
mod gathers;
mod reductions;
mod states;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

const SEEDS: u64 = 60;

/// Tries something with many seeds, or with the one that was asked for.
fn with_seeds(case: impl Fn(&mut Rng)) {
    #[allow(clippy::disallowed_methods, reason = "the seed to try again")]
    let chosen = std::env::var("THALWEG_SEED").ok();
    if let Some(seed) = chosen {
        case(&mut Rng::with_seed(seed.parse().expect("THALWEG_SEED is a number")));
        return;
    }
    for seed in 0..SEEDS {
        if catch_unwind(AssertUnwindSafe(|| case(&mut Rng::with_seed(seed)))).is_err() {
            panic!("seed {seed}; to try it again: THALWEG_SEED={seed} cargo test --test kernels");
        }
    }
}

/// Equal bit for bit, but that one not-a-number is as good as another.
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        assert!(same, "{what}: element {place} is {found:?}, not {expected:?}");
    }
}

fn random_bytes(random: &mut Rng, count: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.u8(..)).take(count).collect()
}
