//! What a model takes and gives, and whether a request fits it.

use smallvec::{SmallVec, smallvec};

use super::{DataType, Shape};
use crate::error::{Code, Error, Result, excerpt};

/// One dimension as the model declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    Dynamic,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: DataType,
    pub dims: Vec<Dim>,
    /// The axis along which requests are joined; `None` where the tensor is the same for a whole batch.
    pub batch_axis: Option<usize>,
}

/// What clients of a model see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// What the lane keeps for each stream between its steps; clients see none of it.
    pub states: Vec<StateSpec>,
    /// Rows that one run takes; 0 means that the model has no batch axis and runs each request alone.
    pub max_batch_size: usize,
}

/// State that a model hands from one step of a stream to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    pub input: TensorSpec,
    pub output: TensorSpec,
    /// One stream's row at its beginning.
    pub initial: Vec<u8>,
}

/// The sizes of all dynamic dimensions beside the batch: requests share a batch if their keys are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupKey(pub SmallVec<[usize; 4]>);

/// A tensor that a request offers.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    pub name: &'a str,
    pub datatype: DataType,
    pub shape: &'a [usize],
}

/// How a request fits.
#[derive(Debug, PartialEq, Eq)]
pub struct Fit {
    /// For each input of the model, which of the offered tensors it is.
    pub order: SmallVec<[usize; 4]>,
    pub rows: usize,
    pub key: GroupKey,
}

impl TensorSpec {
    /// The tensor's shape for a batch of `rows`, its dynamic dimensions taken from `dynamic` in order.
    pub fn batch_shape(&self, rows: usize, dynamic: &mut impl Iterator<Item = usize>) -> Shape {
        let dims = self.dims.iter().enumerate();
        dims.map(|(axis, dim)| match dim {
            _ if self.batch_axis == Some(axis) => rows,
            Dim::Fixed(size) => *size,
            Dim::Dynamic => dynamic.next().unwrap_or(0),
        })
        .collect()
    }

    /// Dimensions as the wire writes them, -1 for any size.
    pub fn wire_shape(&self) -> Vec<i64> {
        let wire = |dim: &Dim| match dim {
            Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Dim::Dynamic => -1,
        };
        self.dims.iter().map(wire).collect()
    }
}

impl Signature {
    /// Rows that one batch holds at the most.
    pub fn batch_limit(&self) -> usize {
        self.max_batch_size.max(1)
    }

    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|spec| spec.name == name)
    }

    /// Matches the tensors of a request with the model's inputs.
    pub fn fit<'a>(&self, offered: impl Iterator<Item = Offered<'a>>) -> Result<Fit> {
        let mut order: SmallVec<[usize; 4]> = smallvec![usize::MAX; self.inputs.len()];
        let mut shapes: SmallVec<[&[usize]; 4]> = smallvec![&[] as &[usize]; self.inputs.len()];
        for (position, tensor) in offered.enumerate() {
            let input = self.place(position, tensor.name)?;
            let (Some(slot), Some(spec)) = (order.get_mut(input), self.inputs.get(input)) else { continue };
            if *slot != usize::MAX {
                let message = format!("input '{}' is given twice", tensor.name);
                return Err(Error::new(Code::UnknownInput, message));
            }
            if spec.datatype != tensor.datatype {
                let message = format!(
                    "input '{}' is {}, the model takes {}",
                    spec.name, tensor.datatype, spec.datatype
                );
                return Err(Error::new(Code::WrongDatatype, message));
            }
            *slot = position;
            shapes[input] = tensor.shape;
        }
        if let Some(input) = order.iter().position(|&slot| slot == usize::MAX) {
            let message = format!("input '{}' is missing", self.inputs[input].name);
            return Err(Error::new(Code::MissingInput, message));
        }

        let mut rows = None;
        let mut key = GroupKey::default();
        for (spec, shape) in self.inputs.iter().zip(&shapes) {
            spec.fit(shape, &mut rows, &mut key)?;
        }
        let rows = rows.unwrap_or(1);
        if rows > self.batch_limit() {
            let message =
                format!("the request has {rows} rows, a batch of this model holds {}", self.batch_limit());
            return Err(Error::new(Code::BatchTooLarge, message));
        }
        Ok(Fit { order, rows, key })
    }

    /// The input of this name; most clients send the inputs in the model's order.
    fn place(&self, position: usize, name: &str) -> Result<usize> {
        if self.inputs.get(position).is_some_and(|spec| spec.name == name) {
            return Ok(position);
        }
        self.inputs.iter().position(|spec| spec.name == name).ok_or_else(|| {
            Error::new(Code::UnknownInput, format!("the model has no input '{}'", excerpt(name)))
        })
    }
}

impl TensorSpec {
    fn fit(&self, shape: &[usize], rows: &mut Option<usize>, key: &mut GroupKey) -> Result<()> {
        let wrong = |why: String| Error::new(Code::WrongShape, format!("input '{}': {why}", self.name));
        if shape.len() != self.dims.len() {
            let (found, wanted) = (shape.len(), self.dims.len());
            return Err(wrong(format!("the shape has {found} dimensions, the model takes {wanted}")));
        }
        for (axis, (&size, dim)) in shape.iter().zip(&self.dims).enumerate() {
            match dim {
                _ if self.batch_axis == Some(axis) => match *rows {
                    _ if size == 0 => return Err(wrong("a request has at least one row".into())),
                    Some(others) if others != size => {
                        return Err(wrong(format!("it has {size} rows, the inputs before it {others}")));
                    }
                    _ => *rows = Some(size),
                },
                Dim::Fixed(wanted) if *wanted != size => {
                    return Err(wrong(format!("dimension {axis} is {size}, the model takes {wanted}")));
                }
                Dim::Fixed(_) => {}
                Dim::Dynamic => key.0.push(size),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn model() -> Signature {
        let spec = |name: &str, datatype, dims: &[i64], batch_axis| TensorSpec {
            name: name.into(),
            datatype,
            dims: dims.iter().map(|&d| usize::try_from(d).map_or(Dim::Dynamic, Dim::Fixed)).collect(),
            batch_axis,
        };
        Signature {
            inputs: vec![
                spec("audio", DataType::Fp32, &[-1, -1], Some(0)),
                spec("state", DataType::Fp32, &[2, -1, 128], Some(1)),
            ],
            outputs: vec![],
            states: vec![],
            max_batch_size: 8,
        }
    }

    fn check(offered: &[(&str, DataType, &[usize])], expect: Expect) {
        let offered = offered.iter().map(|&(name, datatype, shape)| Offered { name, datatype, shape });
        let text = match model().fit(offered) {
            Ok(fit) => format!("order {:?}, {} rows, key {:?}", fit.order, fit.rows, fit.key.0),
            Err(error) => format!("{}: {error}", error.code.as_str()),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn requests_are_matched_with_inputs() {
        use DataType::{Fp32, Int8};
        let audio = ("audio", Fp32, &[3usize, 512][..]);
        let state = ("state", Fp32, &[2usize, 3, 128][..]);
        check(&[audio, state], expect!["order [0, 1], 3 rows, key [512]"]);
        check(&[state, audio], expect!["order [1, 0], 3 rows, key [512]"]);
        check(&[audio], expect!["missing_input: input 'state' is missing"]);
        check(&[audio, audio, state], expect!["unknown_input: input 'audio' is given twice"]);
        check(&[audio, ("sate", Fp32, &[])], expect!["unknown_input: the model has no input 'sate'"]);
        check(
            &[audio, ("state", Int8, &[2, 3, 128])],
            expect!["wrong_datatype: input 'state' is INT8, the model takes FP32"],
        );
        check(
            &[audio, ("state", Fp32, &[2, 3])],
            expect!["wrong_shape: input 'state': the shape has 2 dimensions, the model takes 3"],
        );
        check(
            &[audio, ("state", Fp32, &[2, 3, 127])],
            expect!["wrong_shape: input 'state': dimension 2 is 127, the model takes 128"],
        );
        check(
            &[audio, ("state", Fp32, &[2, 4, 128])],
            expect!["wrong_shape: input 'state': it has 4 rows, the inputs before it 3"],
        );
        check(
            &[("audio", Fp32, &[0, 512]), state],
            expect!["wrong_shape: input 'audio': a request has at least one row"],
        );
        check(
            &[("audio", Fp32, &[9, 512]), ("state", Fp32, &[2, 9, 128])],
            expect!["batch_too_large: the request has 9 rows, a batch of this model holds 8"],
        );
    }
}
