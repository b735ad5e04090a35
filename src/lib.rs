//! Thalweg: a streaming inference engine.

pub mod clock;
pub mod error;
pub mod tensor;
