//! One running session, owned by one lane.

use std::borrow::Cow;
use std::sync::Arc;

use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::DynValue;

use super::{one_line, values};
use crate::device::TensorView;
use crate::engine::{Constant, Halt, Running};
use crate::error::{Code, Error, Result};
use crate::tensor::{BatchOutput, Signature};

pub(super) struct OnnxSession {
    session: Session,
    /// Of all runs; ended once, they all are.
    options: Arc<RunOptions>,
    inputs: Vec<String>,
    /// The name and the batch axis of each output.
    outputs: Vec<(String, Option<usize>)>,
    constants: Vec<(String, DynValue)>,
}

impl OnnxSession {
    pub(super) fn new(session: Session, signature: &Signature, constants: &[Constant]) -> Result<Self> {
        let constant = |constant: &Constant| {
            let view = TensorView {
                datatype: constant.datatype,
                shape: constant.shape.clone(),
                data: &constant.data,
            };
            Ok((constant.name.clone(), values::owned(&view)?))
        };
        let states = &signature.states;
        let inputs = signature.inputs.iter().chain(states.iter().map(|state| &state.input));
        let outputs = signature.outputs.iter().chain(states.iter().map(|state| &state.output));
        Ok(Self {
            session,
            options: Arc::new(
                RunOptions::new().map_err(|error| Error::new(Code::Internal, one_line(&error)))?,
            ),
            inputs: inputs.map(|spec| spec.name.clone()).collect(),
            outputs: outputs.map(|spec| (spec.name.clone(), spec.batch_axis)).collect(),
            constants: constants.iter().map(constant).collect::<Result<_>>()?,
        })
    }
}

impl Running for OnnxSession {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<BatchOutput> {
        let mut named: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            Vec::with_capacity(self.inputs.len() + self.constants.len());
        for (name, view) in self.inputs.iter().zip(inputs) {
            named.push((Cow::Borrowed(name), values::borrowed(view)?));
        }
        for (name, value) in &self.constants {
            named.push((Cow::Borrowed(name), SessionInputValue::from(value)));
        }
        let outputs = self.session.run_with_options(named, &*self.options);
        let outputs = outputs.map_err(|error| Error::new(Code::InferenceFailed, one_line(&error)))?;
        // In the signature's order, which is the file's as long as no state stands between the outputs.
        let mut given: Vec<_> = outputs.into_iter().collect();
        let mut take = |(name, batch_axis): &(String, Option<usize>)| {
            let place = given.iter().position(|(given, _)| given == name).ok_or_else(|| {
                Error::new(Code::InferenceFailed, format!("the model gave no output '{name}'"))
            })?;
            values::column(name, given.swap_remove(place).1, *batch_axis)
        };
        Ok(BatchOutput::new(self.outputs.iter().map(&mut take).collect::<Result<_>>()?))
    }

    /// ONNX Runtime looks before each operator whether it is to end, also within loops.
    fn halt(&self) -> Option<Halt> {
        let options = Arc::clone(&self.options);
        Some(Arc::new(move || drop(options.terminate())))
    }
}
