//! The JSON of a request around its data: which fields there are, once each, and of which type.
//!
//! Values that are checked against each other wait for [`request`](super::request). A field that is `null`
//! is as good as absent, and one that is not known is skipped.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::SequenceId;
use super::json::{Dims, Fields, List, Object, Text, Trace, set};
use crate::error::{Code, Error, Result};

#[derive(Default)]
pub(super) struct Request<'a> {
    pub id: Option<Text<'a>>,
    pub parameters: Option<RequestParameters>,
    pub inputs: Option<Vec<Input<'a>>>,
    pub outputs: Option<Vec<Output<'a>>>,
}

#[derive(Default)]
pub(super) struct RequestParameters {
    pub timeout: Option<u64>,
    pub priority: Option<u64>,
    pub sequence_id: Option<SequenceId>,
    pub sequence_start: Option<bool>,
    pub sequence_end: Option<bool>,
    pub binary_data_output: Option<bool>,
    pub traceparent: Option<Box<str>>,
    pub tracestate: Option<Box<str>>,
}

#[derive(Default)]
pub(super) struct Input<'a> {
    pub name: Option<Text<'a>>,
    pub datatype: Option<Text<'a>>,
    pub shape: Option<Dims>,
    pub data: Option<&'a RawValue>,
    pub parameters: Option<InputParameters>,
}

#[derive(Default)]
pub(super) struct InputParameters {
    pub binary_data_size: Option<u64>,
}

#[derive(Default)]
pub(super) struct Output<'a> {
    pub name: Option<Text<'a>>,
    pub parameters: Option<OutputParameters>,
}

#[derive(Default)]
pub(super) struct OutputParameters {
    pub binary_data: Option<bool>,
    pub classification: Option<usize>,
}

/// Reads the header of a message.
pub(super) fn parse(header: &[u8]) -> Result<Request<'_>> {
    let header = std::str::from_utf8(header).map_err(|error| {
        Error::new(Code::InvalidJson, format!("byte {} is not UTF-8", error.valid_up_to()))
    })?;
    let trace = Trace::default();
    let mut json = serde_json::Deserializer::from_str(header);
    let request = Object::new(&trace).deserialize(&mut json).and_then(|request| json.end().map(|()| request));
    match request {
        Ok(request) => request.ok_or_else(|| Error::new(Code::InvalidRequest, "null is no request")),
        Err(error) => Err(trace.explain(&error)),
    }
}

/// The `id` of a message that is refused, if it can be read that far.
pub(super) fn find_id(header: &[u8]) -> Option<Box<str>> {
    struct Finder<'f>(&'f mut Option<Box<str>>);

    impl<'de> Visitor<'de> for Finder<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a request")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Text>()? {
                if key.0 == "id" && self.0.is_none() {
                    *self.0 = Some(map.next_value::<Text>()?.0.into());
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }

    let mut id = None;
    // What is wrong with the rest has been said.
    let _ = serde_json::Deserializer::from_slice(header).deserialize_map(Finder(&mut id));
    id
}

impl<'de> Fields<'de> for Request<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, trace: &Trace) -> Result<bool, A::Error> {
        match key {
            "id" => set(&mut self.id, map.next_value()?)?,
            "parameters" => set(&mut self.parameters, map.next_value_seed(Object::new(trace))?)?,
            "inputs" => set(&mut self.inputs, map.next_value_seed(List::new(trace))?)?,
            "outputs" => set(&mut self.outputs, map.next_value_seed(List::new(trace))?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Fields<'de> for RequestParameters {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, _: &Trace) -> Result<bool, A::Error> {
        match key {
            "timeout" => set(&mut self.timeout, map.next_value()?)?,
            "priority" => set(&mut self.priority, map.next_value()?)?,
            "sequence_id" => set(&mut self.sequence_id, map.next_value()?)?,
            "sequence_start" => set(&mut self.sequence_start, map.next_value()?)?,
            "sequence_end" => set(&mut self.sequence_end, map.next_value()?)?,
            "binary_data_output" => set(&mut self.binary_data_output, map.next_value()?)?,
            "traceparent" => set(&mut self.traceparent, map.next_value()?)?,
            "tracestate" => set(&mut self.tracestate, map.next_value()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Fields<'de> for Input<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, trace: &Trace) -> Result<bool, A::Error> {
        match key {
            "name" => set(&mut self.name, map.next_value()?)?,
            "datatype" => set(&mut self.datatype, map.next_value()?)?,
            "shape" => set(&mut self.shape, map.next_value()?)?,
            "data" => set(&mut self.data, map.next_value()?)?,
            "parameters" => set(&mut self.parameters, map.next_value_seed(Object::new(trace))?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Fields<'de> for InputParameters {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, trace: &Trace) -> Result<bool, A::Error> {
        match key {
            "binary_data_size" => set(&mut self.binary_data_size, map.next_value()?)?,
            "shared_memory_region" => return Err(shared_memory(trace)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Fields<'de> for Output<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, trace: &Trace) -> Result<bool, A::Error> {
        match key {
            "name" => set(&mut self.name, map.next_value()?)?,
            "parameters" => set(&mut self.parameters, map.next_value_seed(Object::new(trace))?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Fields<'de> for OutputParameters {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, trace: &Trace) -> Result<bool, A::Error> {
        match key {
            "binary_data" => set(&mut self.binary_data, map.next_value()?)?,
            "classification" => set(&mut self.classification, map.next_value()?)?,
            "shared_memory_region" => return Err(shared_memory(trace)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cold]
fn shared_memory<E: de::Error>(trace: &Trace) -> E {
    trace.code.set(Some(Code::UnsupportedParameter));
    E::custom("shared memory is not supported")
}

impl<'de> Deserialize<'de> for SequenceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl Visitor<'_> for Names {
            type Value = SequenceId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number from 0")
            }

            fn visit_u64<E>(self, number: u64) -> Result<SequenceId, E> {
                Ok(SequenceId::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<SequenceId, E> {
                Ok(SequenceId::Text(text.into()))
            }
        }

        deserializer.deserialize_any(Names)
    }
}
