//! Thalweg: a streaming inference engine.

pub mod batcher;
pub mod cli;
pub mod clock;
pub mod config;
pub mod device;
pub mod engine;
pub mod error;
pub mod fetch;
pub mod lane;
pub mod metrics;
pub mod net;
pub mod protocol;
pub mod queue;
pub mod registry;
pub mod reply;
pub mod tensor;
