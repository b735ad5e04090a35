//! The state that a model hands from step to step, taken out of what clients see.

use std::path::Path;

use super::FieldError;
use super::file::SequenceBatching;
use crate::tensor::{Dim, Signature, StateSpec, TensorSpec};

/// Each has a place in its lane's queue, which is made at the start.
const MAX_STREAMS: usize = 1 << 20;

/// Moves the tensors that `[sequence_batching]` names from the signature's sides to its states.
pub fn split(signature: &mut Signature, file: &SequenceBatching) -> Result<(), FieldError> {
    if signature.max_batch_size == 0 {
        let why = "state needs a batch axis: streams take their steps in batches";
        return Err(FieldError::new("sequence_batching", why));
    }
    if !(1..=MAX_STREAMS).contains(&file.max_candidate_sequences) {
        let why = format!("{} was given, 1 to {MAX_STREAMS} are possible", file.max_candidate_sequences);
        return Err(FieldError::new("sequence_batching.max_candidate_sequences", why));
    }
    if file.state.is_empty() {
        let why = "none was given, at least one pair of state is needed";
        return Err(FieldError::new("sequence_batching.state", why));
    }
    for (index, state) in file.state.iter().enumerate() {
        let field = |name: &str| format!("sequence_batching.state[{index}].{name}");
        let input = take(&mut signature.inputs, &state.input_name, || field("input_name"))?;
        let mut output = take(&mut signature.outputs, &state.output_name, || field("output_name"))?;
        if input.datatype != output.datatype {
            let why = format!("the output is {}, the input {}", output.datatype, input.datatype);
            return Err(FieldError::new(field("output_name"), why));
        }
        // Rows that lie along another axis would be another stream's.
        let same = |(a, b): (&Dim, &Dim)| a == b || [a, b].contains(&&Dim::Dynamic);
        let dims = input.dims.iter().zip(&output.dims);
        if input.batch_axis != output.batch_axis
            || input.dims.len() != output.dims.len()
            || !dims.into_iter().all(same)
        {
            let why = format!(
                "the output is {:?} with batch axis {:?}, the input {:?} with batch axis {:?}; both must be alike",
                output.wire_shape(),
                output.batch_axis,
                input.wire_shape(),
                input.batch_axis
            );
            return Err(FieldError::new(field("output_name"), why));
        }
        // What comes out goes in again, so that it has the same sizes.
        output.dims.clone_from(&input.dims);
        let fixed = |(axis, dim): (usize, &Dim)| match dim {
            _ if input.batch_axis == Some(axis) => Some(1),
            Dim::Fixed(size) => Some(*size),
            Dim::Dynamic => None,
        };
        let elements: Option<usize> = input.dims.iter().enumerate().map(fixed).product();
        let bytes =
            elements.and_then(|count| count.checked_mul(input.datatype.size()?)).ok_or_else(|| {
                let why = format!("{:?} is given, all but the batch must be fixed", input.wire_shape());
                FieldError::new(field("input_name"), why)
            })?;
        signature.states.push(StateSpec { input, output, initial: vec![0; bytes] });
    }
    Ok(())
}

/// Reads the rows that streams begin with, where they are not zeros.
pub fn read_initial(
    states: &mut [StateSpec],
    file: &SequenceBatching,
    folder: &Path,
) -> Result<(), FieldError> {
    for (index, (spec, state)) in states.iter_mut().zip(&file.state).enumerate() {
        let Some(name) = &state.initial_state else { continue };
        let field = format!("sequence_batching.state[{index}].initial_state");
        let path = folder.join(name);
        let row = std::fs::read(&path)
            .map_err(|why| FieldError::new(&field, format!("{} cannot be read: {why}", path.display())))?;
        if row.len() != spec.initial.len() {
            let why = format!("{} has {} bytes, a row has {}", path.display(), row.len(), spec.initial.len());
            return Err(FieldError::new(field, why));
        }
        spec.initial = row;
    }
    Ok(())
}

fn take(
    specs: &mut Vec<TensorSpec>,
    name: &str,
    field: impl FnOnce() -> String,
) -> Result<TensorSpec, FieldError> {
    match specs.iter().position(|spec| spec.name == name) {
        Some(place) => Ok(specs.remove(place)),
        None => {
            let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
            let why = format!("'{name}' was given, the model has {}", names.join(", "));
            Err(FieldError::new(field(), why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;
    use expect_test::{Expect, expect};

    fn spec(name: &str, dims: &[Dim], batch_axis: usize) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            datatype: DataType::Uint8,
            dims: dims.to_vec(),
            batch_axis: Some(batch_axis),
        }
    }

    /// A model from `x` to `y` with a state of two bytes, whose output lies along `axis`.
    fn signature(axis: usize) -> Signature {
        let (batch, two) = (Dim::Dynamic, Dim::Fixed(2));
        Signature {
            inputs: vec![spec("x", &[batch], 0), spec("state", &[two, batch], 1)],
            outputs: vec![spec("y", &[batch], 0), spec("next", &[batch, batch], axis)],
            states: vec![],
            max_batch_size: 4,
        }
    }

    fn check(axis: usize, toml: &str, expect: Expect) {
        let mut signature = signature(axis);
        let text = match split(&mut signature, &toml::from_str(toml).unwrap()) {
            Err(error) => format!("{}: {}", error.field, error.why),
            Ok(()) => {
                let names =
                    |specs: &[TensorSpec]| specs.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
                let states: Vec<_> = signature.states.iter().map(|state| &state.initial).collect();
                format!("{:?} -> {:?}, {states:?}", names(&signature.inputs), names(&signature.outputs))
            }
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn states_leave_the_signature_if_they_fit() {
        let pair = "state = [{ input_name = 'state', output_name = 'next' }]";
        check(1, pair, expect![[r#"["x"] -> ["y"], [[0, 0]]"#]]);
        check(
            0,
            pair,
            expect![
                "sequence_batching.state[0].output_name: the output is [-1, -1] with batch axis Some(0), the input [2, -1] with batch axis Some(1); both must be alike"
            ],
        );
        check(
            1,
            "state = []",
            expect!["sequence_batching.state: none was given, at least one pair of state is needed"],
        );
        check(
            1,
            "state = [{ input_name = 's', output_name = 'next' }]",
            expect!["sequence_batching.state[0].input_name: 's' was given, the model has x, state"],
        );
    }

    #[test]
    fn streams_begin_with_what_a_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("row"), [7, 8]).unwrap();
        let mut signature = signature(1);
        let toml = "state = [{ input_name = 'state', output_name = 'next', initial_state = 'row' }]";
        let file = toml::from_str(toml).unwrap();
        split(&mut signature, &file).unwrap();
        read_initial(&mut signature.states, &file, folder.path()).unwrap();
        assert_eq!(signature.states[0].initial, [7, 8]);
        std::fs::write(folder.path().join("row"), [7]).unwrap();
        let error = read_initial(&mut signature.states, &file, folder.path()).unwrap_err();
        assert_eq!(error.field, "sequence_batching.state[0].initial_state");
    }
}
