//! How plain messages become the input of a model.

use super::FieldError;
use super::file::{Encoding, StreamFile};
use crate::tensor::{ByteWindow, DataType, Dim, Signature};

/// The model's `[stream]`, checked against its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub encoding: Encoding,
    pub window: ByteWindow,
    /// Messages whose stripped head is shorter are answered without the model.
    pub min_length: usize,
}

impl Stream {
    pub fn new(file: &StreamFile, signature: &Signature) -> Result<Self, FieldError> {
        let [input] = &signature.inputs[..] else {
            let why = "a stream gives the model one input; make constants of the others";
            return Err(FieldError::new("stream.input", why));
        };
        if file.input.as_ref().is_some_and(|name| *name != input.name) {
            return Err(FieldError::new("stream.input", format!("the model's input is '{}'", input.name)));
        }
        let window = ByteWindow {
            head: file.head,
            tail: file.tail,
            block: file.block.unwrap_or(usize::MAX),
            strip: file.strip,
            pad: file.pad,
        };
        let row = [Dim::Dynamic, Dim::Fixed(window.width())];
        if input.dims != row || input.batch_axis != Some(0) {
            let why = format!(
                "head and tail make rows of {}, input '{}' is {:?}",
                window.width(),
                input.name,
                input.wire_shape()
            );
            return Err(FieldError::new("stream.head", why));
        }
        let fits = match input.datatype {
            DataType::Int32 => i32::try_from(file.pad).is_ok(),
            DataType::Int64 => true,
            DataType::Fp32 => file.pad.unsigned_abs() <= 1 << 24,
            other => {
                let why = format!("bytes become INT32, INT64 or FP32, input '{}' is {other}", input.name);
                return Err(FieldError::new("stream.encoding", why));
            }
        };
        if !fits {
            let why = format!("{} was given, {} cannot hold it", file.pad, input.datatype);
            return Err(FieldError::new("stream.pad", why));
        }
        Ok(Self { encoding: file.encoding, window, min_length: file.min_length })
    }
}
