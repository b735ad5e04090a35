//! A signal as it comes in chunks.

use std::hint::black_box;

use bytes::Bytes;
use thalweg::error::Result;
use thalweg::signal::{Encoding, Framer, Frames, Rates};

pub fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 37 % 251) as u8).collect()
}

/// Silero's windows, of which a chunk of 1,024 bytes is one.
pub fn frames() -> Result<Frames> {
    Frames::new(512, 512, 64)
}

pub fn resampling(encoding: Encoding, from: u32) -> Result<Framer> {
    Framer::resampling(encoding, frames()?, Rates::new(from, 16_000)?)
}

/// Takes the windows that there are, and pushes the next chunk.
pub fn step(framer: &mut Framer, chunk: &Bytes) -> Result<()> {
    framer.by_ref().for_each(|window| drop(black_box(window)));
    framer.push(black_box(chunk).clone())
}
