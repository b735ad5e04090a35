//! The Open Inference Protocol: bytes to requests, answers to bytes, without I/O.
//!
//! The grammar of JSON is serde_json's to check (and that of [`numbers`] their own); the values of a tensor go from their text straight into
//! the bytes of the wire, and binary tensors stay where they are in the message. Whatever a message claims,
//! decoding it takes memory in proportion to the message's own length only.

mod binary;
mod classification;
mod data;
mod envelope;
mod error;
mod json;
mod layout;
mod metadata;
mod request;
mod response;
mod stream;
#[cfg(test)]
mod tests;
mod text;

pub use data::numbers;
pub use error::encode_error;
pub use layout::Layouts;
pub use metadata::{ModelMetadata, ServerMetadata, TensorMetadata};
pub use request::{
    InferRequest, InputTensor, Parameters, Refusal, RequestedOutput, Sequence, SequenceId, TraceContext,
    decode_binary, decode_framed, decode_json,
};
pub use response::{OutputView, ResponseHead, encode_binary, encode_framed, encode_json, encode_result};
pub use stream::{Happened, Span, encode_done, encode_going_away, encode_happened, encode_told};

/// Dimensions that a shape may have.
pub const MAX_RANK: usize = 16;

/// Inputs, and likewise outputs, that a request may name.
pub const MAX_TENSORS: usize = 256;

/// Bytes of a request's `id`, which is kept until the request is answered.
pub const MAX_ID: usize = 1024;

/// Levels to which JSON may nest: serde_json's limit, held for what it skips as well.
pub const MAX_DEPTH: usize = 127;
