//! What a request is, once its bytes are known to be one.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{MAX_ID, MAX_RANK, binary, data, envelope};
use crate::error::{Code, Error, Result, excerpt};
use crate::tensor::{DataType, Shape, element_count};

/// A request for one run of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct InferRequest {
    /// Echoed in the answer.
    pub id: Option<Box<str>>,
    pub parameters: Parameters,
    pub inputs: SmallVec<[InputTensor; 2]>,
    /// `None` asks for all outputs.
    pub outputs: Option<Vec<RequestedOutput>>,
}

/// One input, its data checked against its datatype and shape.
#[derive(Debug, Clone, PartialEq)]
pub struct InputTensor {
    pub name: Box<str>,
    pub datatype: DataType,
    pub shape: Shape,
    /// Little-endian elements in row-major order; of `BYTES` each is a `u32` length and that many bytes.
    pub data: Bytes,
}

/// The parameters of a request that the server knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// How long the request may wait (`timeout`, in microseconds; 0 is none).
    pub timeout: Option<Duration>,
    /// 0 is the model's default.
    pub priority: u64,
    pub sequence: Option<Sequence>,
    /// Whether outputs that do not say otherwise are wanted as binary data.
    pub binary_data_output: bool,
    /// The trace that the request is a part of, if it says so in W3C's words.
    pub trace: Option<Box<TraceContext>>,
}

/// What the headers `traceparent` and `tracestate` would say; nobody has looked at it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub parent: Box<str>,
    pub state: Option<Box<str>>,
}

/// The sequence that a request is a step of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    pub id: SequenceId,
    pub start: bool,
    pub end: bool,
}

/// A sequence's name; 0 and the empty string stand for no sequence and do not appear here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SequenceId {
    Number(u64),
    Text(Box<str>),
}

/// An output that the request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    pub name: Box<str>,
    /// `parameters.binary_data`, where given.
    pub binary: Option<bool>,
    /// How many of the largest values are wanted in place of the tensor; 0 is the tensor itself.
    pub classification: usize,
}

/// Why a message is no request, and the `id` it carried if that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub error: Error,
    pub id: Option<Box<str>>,
}

/// Decodes a request whose tensors are all JSON.
pub fn decode_json(message: &[u8]) -> Result<InferRequest, Refusal> {
    decode(message, Bytes::new())
}

/// Decodes a JSON header of `header_len` bytes and the binary tensors that follow it.
pub fn decode_framed(message: Bytes, header_len: usize) -> Result<InferRequest, Refusal> {
    let (header, tail) = binary::split(&message, header_len).map_err(|error| Refusal { error, id: None })?;
    decode(header, tail)
}

/// Decodes a message that starts with the length of its JSON header, a little-endian `u32`.
pub fn decode_binary(mut message: Bytes) -> Result<InferRequest, Refusal> {
    let header_len = binary::header_len(&mut message).map_err(|error| Refusal { error, id: None })?;
    decode_framed(message, header_len)
}

fn decode(header: &[u8], tail: Bytes) -> Result<InferRequest, Refusal> {
    request(header, tail).map_err(|error| {
        let id = envelope::find_id(header).filter(|id| id.len() <= MAX_ID);
        Refusal { error, id }
    })
}

fn request(header: &[u8], mut tail: Bytes) -> Result<InferRequest> {
    let envelope = envelope::parse(header)?;
    if let Some(id) = envelope.id.as_ref().filter(|id| id.0.len() > MAX_ID) {
        let message = format!("id: {} bytes, the limit is {MAX_ID}", id.0.len());
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let inputs = envelope.inputs.ok_or_else(|| missing("inputs"))?;
    let inputs = inputs.into_iter().enumerate();
    let inputs = inputs.map(|(index, input)| tensor(index, input, &mut tail)).collect::<Result<_>>()?;
    if !tail.is_empty() {
        let message = format!("bytes left over after the last tensor: {}", tail.len());
        return Err(Error::new(Code::InvalidFraming, message));
    }
    let outputs = envelope.outputs.map(|outputs| {
        let outputs = outputs.into_iter().enumerate();
        outputs.map(|(index, output)| requested(index, output)).collect::<Result<_>>()
    });
    Ok(InferRequest {
        id: envelope.id.map(|id| id.0.into()),
        parameters: parameters(envelope.parameters.unwrap_or_default())?,
        inputs,
        outputs: outputs.transpose()?,
    })
}

fn tensor(index: usize, input: envelope::Input<'_>, tail: &mut Bytes) -> Result<InputTensor> {
    let within = |field: &str, error: Error| {
        Error::new(error.code, format!("inputs[{index}].{field}: {}", error.message))
    };
    let missing = |field: &str| missing(format_args!("inputs[{index}].{field}"));
    let name = input.name.ok_or_else(|| missing("name"))?.0.into();
    let datatype = input.datatype.ok_or_else(|| missing("datatype"))?.0;
    let Some(datatype) = DataType::parse(&datatype) else {
        let error = Error::new(Code::WrongDatatype, format!("'{}' is no datatype", excerpt(&datatype)));
        return Err(within("datatype", error));
    };
    let shape = input.shape.ok_or_else(|| missing("shape"))?.0;
    let count = checked_count(datatype, &shape).map_err(|error| within("shape", error))?;
    let data = match (input.data, input.parameters.unwrap_or_default().binary_data_size) {
        (Some(json), None) => {
            data::parse(json.get(), datatype, &shape, count).map_err(|error| within("data", error))?
        }
        (None, Some(size)) => binary::take(tail, size, datatype, count)
            .map_err(|error| within("parameters.binary_data_size", error))?,
        (Some(_), Some(_)) => {
            let message = "the tensor also has parameters.binary_data_size";
            return Err(within("data", Error::new(Code::InvalidRequest, message)));
        }
        (None, None) => return Err(missing("data")),
    };
    Ok(InputTensor { name, datatype, shape, data })
}

/// The elements of a tensor whose bytes can be counted.
fn checked_count(datatype: DataType, shape: &[usize]) -> Result<usize> {
    if shape.len() > MAX_RANK {
        let message = format!("{} dimensions, the limit is {MAX_RANK}", shape.len());
        return Err(Error::new(Code::WrongShape, message));
    }
    // The least that an element takes; of `BYTES` that is its length.
    let unit = datatype.size().unwrap_or(size_of::<u32>());
    element_count(shape)
        .filter(|count| count.checked_mul(unit).is_some())
        .ok_or_else(|| Error::new(Code::ShapeOverflow, "the product of the dimensions is too large"))
}

fn requested(index: usize, output: envelope::Output<'_>) -> Result<RequestedOutput> {
    let name = output.name.ok_or_else(|| missing(format_args!("outputs[{index}].name")))?;
    let parameters = output.parameters.unwrap_or_default();
    Ok(RequestedOutput {
        name: name.0.into(),
        binary: parameters.binary_data,
        classification: parameters.classification.unwrap_or(0),
    })
}

fn parameters(given: envelope::RequestParameters) -> Result<Parameters> {
    let (start, end) = (given.sequence_start.unwrap_or(false), given.sequence_end.unwrap_or(false));
    let id = given.sequence_id.filter(|id| match id {
        SequenceId::Number(number) => *number != 0,
        SequenceId::Text(text) => !text.is_empty(),
    });
    if id.is_none() && (start || end) {
        return Err(missing("parameters.sequence_id"));
    }
    Ok(Parameters {
        timeout: given.timeout.filter(|&micros| micros != 0).map(Duration::from_micros),
        priority: given.priority.unwrap_or(0),
        sequence: id.map(|id| Sequence { id, start, end }),
        binary_data_output: given.binary_data_output.unwrap_or(false),
        trace: given.traceparent.map(|parent| Box::new(TraceContext { parent, state: given.tracestate })),
    })
}

#[cold]
fn missing(field: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidRequest, format!("{field}: missing"))
}
