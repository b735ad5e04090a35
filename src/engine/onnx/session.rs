//! One running session, owned by one lane.

use std::borrow::Cow;

use ort::session::{Session, SessionInputValue};
use ort::value::DynValue;

use super::{one_line, values};
use crate::device::TensorView;
use crate::engine::{Constant, Running};
use crate::error::{Code, Error, Result};
use crate::tensor::{BatchOutput, Signature};

pub(super) struct OnnxSession {
    session: Session,
    inputs: Vec<String>,
    /// The batch axis of each output.
    batch_axes: Vec<Option<usize>>,
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
        Ok(Self {
            session,
            inputs: signature.inputs.iter().map(|spec| spec.name.clone()).collect(),
            batch_axes: signature.outputs.iter().map(|spec| spec.batch_axis).collect(),
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
        let outputs =
            self.session.run(named).map_err(|error| Error::new(Code::InferenceFailed, one_line(&error)))?;
        let columns = outputs
            .into_iter()
            .zip(&self.batch_axes)
            .map(|((name, value), &batch_axis)| values::column(name, value, batch_axis))
            .collect::<Result<_>>()?;
        Ok(BatchOutput { columns })
    }
}
