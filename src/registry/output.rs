//! What is told of an output.

use std::path::Path;

use super::file::{EventsFile, OutputFile};
use super::{FieldError, Labels};
use crate::signal::Hysteresis;
use crate::tensor::{DataType, Signature};

/// The model's `[output]`, checked against its signature.
#[derive(Debug)]
pub enum Telling {
    Classes(Labels),
    Events(EventRule),
}

/// Where a probability says that something begins and ends.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRule {
    /// Which of the model's outputs holds the probability.
    pub output: usize,
    /// What begins and ends.
    pub name: String,
    pub hysteresis: Hysteresis,
}

impl Telling {
    pub fn load(file: &OutputFile, signature: &Signature, folder: &Path) -> Result<Self, FieldError> {
        match file {
            OutputFile::Classes(file) => Labels::load(file, signature, folder).map(Self::Classes),
            OutputFile::Events(file) => EventRule::new(file, signature).map(Self::Events),
        }
    }
}

impl EventRule {
    fn new(file: &EventsFile, signature: &Signature) -> Result<Self, FieldError> {
        let output = find(file.tensor.as_deref(), signature, "output.events.tensor")?;
        let spec = &signature.outputs[output];
        if spec.datatype != DataType::Fp32 {
            let why = format!("output '{}' is {}, a probability is FP32", spec.name, spec.datatype);
            return Err(FieldError::new("output.events.tensor", why));
        }
        let &EventsFile { threshold, lower_threshold, min_speech_ms, min_silence_ms, speech_pad_ms, .. } =
            file;
        let hysteresis =
            Hysteresis { threshold, lower_threshold, min_speech_ms, min_silence_ms, speech_pad_ms };
        Ok(Self { output, name: file.name.clone(), hysteresis })
    }
}

/// The output of this name, or the model's only one.
pub(super) fn find(
    name: Option<&str>,
    signature: &Signature,
    field: &'static str,
) -> Result<usize, FieldError> {
    match name {
        Some(name) => signature.output_index(name).ok_or_else(|| {
            FieldError::new(field, format!("'{name}' was given, the model has no such output"))
        }),
        None if signature.outputs.len() == 1 => Ok(0),
        None => Err(FieldError::new(field, "the model has several outputs; name one")),
    }
}
