//! One suite for every device: whether what surrounds a model does what it promises.
//!
//! A check runs a model that only copies its inputs, and compares what comes out with loops that are written out in the
//! check itself. All it does follows from a seed.

mod alone;
mod batch;
mod encodings;
mod fed;
mod flights;
mod gather;
mod lanes;
pub mod measure;
mod memory;
mod model;
mod random;
mod real;
mod state;
mod timing;

use std::fmt::Display;
use std::time::Duration;

use crate::clock::Clock;
use crate::device::cuda::Gpu;
pub use alone::{Alone, alone};
pub use batch::{Batch, fix};
pub use fed::{Fed, Feeding, feed};
use random::Random;
pub use real::start;
pub use timing::{Effort, Samples, Times, Watch, sample};

/// What is checked.
#[derive(Clone)]
pub enum Target {
    Cpu,
    Gpu(Gpu),
}

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub check: &'static str,
    /// Else a sentence that says what was wrong.
    pub result: Result<(), String>,
    pub time: Duration,
}

/// Why a check failed. What is wrong in any way becomes one with `?`.
struct Wrong(String);

impl<E: Display> From<E> for Wrong {
    fn from(why: E) -> Self {
        Self(why.to_string())
    }
}

type Verdict = Result<(), Wrong>;

type Check = (&'static str, fn(&Target, &mut Random) -> Verdict);

const CHECKS: &[Check] = &[
    ("rows of every datatype, along every axis", gather::rows),
    ("signals in every encoding", gather::signals),
    ("windows of messages", gather::windows),
    ("rows, messages and signals in one batch", gather::mixed),
    ("states of streams", state::streams),
    ("several batches under way", flights::several),
    ("failures leave the next batch right", flights::failures),
    ("memory is taken once and given back", memory::flat),
    ("lanes and their streams", lanes::streams),
];

/// Runs all checks; the same seed does the same again.
pub fn run(target: &Target, seed: u64, clock: Clock) -> Vec<Outcome> {
    let check = |&(check, run): &Check| {
        let start = clock.now();
        let before = target.taken();
        let result = run(target, &mut Random::new(seed)).map_err(|Wrong(why)| why);
        let result = result.and_then(|()| match target.taken() {
            taken if taken == before => Ok(()),
            taken => Err(format!("of the device's memory {before:?} were taken before, {taken:?} after")),
        });
        Outcome { check, result, time: clock.now() - start }
    };
    CHECKS.iter().map(check).collect()
}

impl Target {
    /// Bytes that are taken on the device, and pinned on the host.
    fn taken(&self) -> (usize, usize) {
        match self {
            Self::Cpu => (0, 0),
            Self::Gpu(gpu) => gpu.taken(),
        }
    }
}
