//! How plain messages become the input of a model.

use super::FieldError;
use super::file::{BytesFile, SignalFile, StreamFile};
use crate::signal::{Encoding, Frames};
use crate::tensor::{ByteWindow, Conversion, DataType, Dim, Fit, GroupKey, Offered, Signature, TensorSpec};

/// The model's `[stream]`, checked against its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    Bytes(ByteStream),
    Signal(SignalStream),
}

/// Each message is one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteStream {
    pub window: ByteWindow,
    /// Messages whose stripped head is shorter are answered without the model.
    pub min_length: usize,
}

/// Messages are pieces of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalStream {
    /// Never empty; the first is the default.
    pub encodings: Vec<Encoding>,
    pub sample_rate: u32,
    pub resample: bool,
    pub frames: Frames,
    /// The key of a step: a row of the window and its context.
    pub key: GroupKey,
}

impl Stream {
    pub fn new(file: &StreamFile, signature: &Signature) -> Result<Self, FieldError> {
        let [input] = &signature.inputs[..] else {
            let why = "a stream gives the model one input; make constants of the others, or state";
            return Err(FieldError::new("stream", why));
        };
        match file {
            StreamFile::Bytes(_) if !signature.states.is_empty() => {
                let why = "messages stand alone, but the model keeps state; use [stream.signal]";
                Err(FieldError::new("stream.bytes", why))
            }
            StreamFile::Bytes(file) => ByteStream::new(file, input).map(Self::Bytes),
            StreamFile::Signal(file) => SignalStream::new(file, input, signature).map(Self::Signal),
        }
    }

    /// What the device makes of each message.
    pub fn conversion(&self) -> Option<Conversion> {
        match self {
            Self::Bytes(stream) => Some(Conversion::Window(stream.window.clone())),
            Self::Signal(_) => None,
        }
    }
}

impl ByteStream {
    fn new(file: &BytesFile, input: &TensorSpec) -> Result<Self, FieldError> {
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
            return Err(FieldError::new("stream.bytes.head", why));
        }
        let fits = match input.datatype {
            DataType::Int32 => i32::try_from(file.pad).is_ok(),
            DataType::Int64 => true,
            DataType::Fp32 => file.pad.unsigned_abs() <= 1 << 24,
            other => {
                let why = format!("bytes become INT32, INT64 or FP32, input '{}' is {other}", input.name);
                return Err(FieldError::new("stream.bytes", why));
            }
        };
        if !fits {
            let why = format!("{} was given, {} cannot hold it", file.pad, input.datatype);
            return Err(FieldError::new("stream.bytes.pad", why));
        }
        Ok(Self { window, min_length: file.min_length })
    }
}

impl SignalStream {
    fn new(file: &SignalFile, input: &TensorSpec, signature: &Signature) -> Result<Self, FieldError> {
        let at = |field: &str, why: String| FieldError::new(format!("stream.signal.{field}"), why);
        if file.encodings.is_empty() {
            return Err(at("encodings", "at least one is needed".into()));
        }
        if file.sample_rate == 0 {
            return Err(at("sample_rate", "0 was given, samples a second are needed".into()));
        }
        let frames = Frames::new(file.window, file.hop.unwrap_or(file.window), file.context)
            .map_err(|error| at("window", error.to_string()))?;
        if input.datatype != DataType::Fp32 || input.batch_axis != Some(0) {
            let why = format!("a signal becomes rows of FP32, input '{}' is {}", input.name, input.datatype);
            return Err(at("encodings", why));
        }
        let shape = [1, frames.row()];
        let row = Offered { name: &input.name, datatype: input.datatype, shape: &shape };
        let Fit { key, .. } = signature.fit(std::iter::once(row)).map_err(|error| {
            at("window", format!("window and context make rows of {}: {error}", frames.row()))
        })?;
        let &SignalFile { sample_rate, resample, .. } = file;
        Ok(Self { encodings: file.encodings.clone(), sample_rate, resample, frames, key })
    }
}
