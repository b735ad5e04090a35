//! Thalweg: a streaming inference engine.

pub mod batcher;
pub mod clock;
pub mod config;
pub mod device;
pub mod engine;
pub mod error;
pub mod metrics;
pub mod queue;
pub mod reply;
pub mod tensor;
