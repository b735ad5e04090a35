//! Batches in host memory.

use smallvec::SmallVec;

use super::input::Input;
use super::slab::Slab;
use super::{TensorView, reduce};
use crate::error::{Code, Error, Result};
use crate::streams::Slot;
use crate::tensor::{BatchOutput, Column, Conversion, GroupKey, Payload, Reduction, Signature, TensorSpec};

pub struct Cpu {
    inputs: Vec<Input>,
    states: Vec<State>,
    /// Whose rows the batch holds, where the model keeps state.
    slots: Vec<Slot>,
    /// What becomes of each output of the model that is not state; none at all if nothing does.
    reductions: Vec<Option<Reduction>>,
    /// Outputs that clients see.
    outputs: usize,
    rows: usize,
    filled: usize,
}

/// One state's batch tensor, and the rows of the streams that take turns in it.
struct State {
    batch: Input,
    slab: Slab,
}

impl Cpu {
    /// A device for a model that takes and gives what the signature says: what clients send in place of each input,
    /// and get in place of each output. What is left out is as it is.
    pub fn new(
        model: &Signature,
        conversions: &[Option<Conversion>],
        reductions: &[Option<Reduction>],
    ) -> Self {
        let conversions = conversions.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        let inputs =
            model.inputs.iter().zip(conversions).map(|(spec, conversion)| Input::new(spec, conversion));
        let states = model.states.iter().map(|state| State {
            batch: Input::new(&state.input, None),
            slab: Slab::new(state.initial.clone()),
        });
        let reduced = reductions.iter().copied().chain(std::iter::repeat(None)).zip(&model.outputs);
        let seen = |(reduction, spec): (Option<Reduction>, &TensorSpec)| {
            reduction.map_or(1, |reduction| reduction.seen(spec).len())
        };
        Self {
            inputs: inputs.collect(),
            states: states.collect(),
            slots: Vec::new(),
            outputs: reduced.map(seen).sum(),
            reductions: if reductions.iter().all(Option::is_none) { Vec::new() } else { reductions.to_vec() },
            rows: 0,
            filled: 0,
        }
    }

    /// Starts a batch of `rows` rows whose dynamic dimensions are those of `key`.
    pub fn begin(&mut self, rows: usize, key: &GroupKey) -> Result<()> {
        let mut dynamic = key.0.iter().copied();
        (self.rows, self.filled) = (rows, 0);
        self.slots.clear();
        let states = self.states.iter_mut().map(|state| &mut state.batch);
        for input in self.inputs.iter_mut().chain(states) {
            input.begin(rows, &mut dynamic)?;
        }
        Ok(())
    }

    /// Whether the state is here that this step needs.
    pub fn holds(&self, slot: Slot) -> bool {
        self.states.iter().all(|state| state.slab.holds(slot))
    }

    /// Puts the next `rows` rows, one payload for each input. A model with state takes one row at a time, and the
    /// slot whose state goes with it.
    pub fn put(&mut self, rows: usize, payloads: &[Payload], slot: Option<Slot>) -> Result<()> {
        if self.filled + rows > self.rows || payloads.len() != self.inputs.len() {
            return Err(Error::new(Code::Internal, "a request does not fit its batch"));
        }
        for (input, payload) in self.inputs.iter_mut().zip(payloads) {
            match payload {
                Payload::Rows(bytes) => input.put_rows(self.filled, rows, bytes)?,
                Payload::Message(message) => input.put_message(self.filled, message)?,
                Payload::Signal(encoding, signal) => input.put_signal(self.filled, *encoding, signal)?,
            }
        }
        if !self.states.is_empty() {
            let slot = slot.filter(|_| rows == 1);
            let slot = slot.ok_or_else(|| Error::new(Code::Internal, "a step has no slot for its state"))?;
            for state in &mut self.states {
                let row = state.slab.row(slot).ok_or_else(super::lost)?;
                state.batch.put_rows(self.filled, 1, row)?;
            }
            self.slots.push(slot);
        }
        self.filled += rows;
        Ok(())
    }

    /// The batch: one tensor for each input of the model's signature, then one for each of its states.
    pub fn inputs(&self) -> SmallVec<[TensorView<'_>; 4]> {
        self.inputs.iter().chain(self.states.iter().map(|state| &state.batch)).map(Input::view).collect()
    }

    /// Makes of a run's outputs what clients get; its states stay behind them.
    pub fn reduce(&self, output: BatchOutput) -> Result<BatchOutput> {
        if self.reductions.is_empty() {
            return Ok(output);
        }
        let mut columns = Vec::with_capacity(self.outputs + self.states.len());
        let reductions = self.reductions.iter().copied().chain(std::iter::repeat(None));
        for (column, reduction) in output.columns.into_iter().zip(reductions) {
            match reduction {
                None => columns.push(column),
                Some(reduction) => columns.extend(reduce::reduce(&column, reduction)?),
            }
        }
        Ok(BatchOutput::new(columns))
    }

    /// Keeps the states that a run gave, behind what clients get, for the slots of its batch.
    pub fn keep(&mut self, output: &BatchOutput) -> Result<()> {
        let columns = output.columns.get(self.outputs..).unwrap_or_default();
        if columns.len() != self.states.len() {
            return Err(Error::new(Code::Internal, "the model did not give all its states"));
        }
        let misfit = |(state, column): (&State, &Column)| {
            self.slots
                .iter()
                .enumerate()
                .any(|(row, _)| column.slice(row, 1).byte_len() != state.slab.width())
        };
        if self.states.iter().zip(columns).any(misfit) {
            return Err(Error::new(
                Code::InferenceFailed,
                "the model gave a state of another shape than it takes",
            ));
        }
        for (state, column) in self.states.iter_mut().zip(columns) {
            for (row, &slot) in self.slots.iter().enumerate() {
                state.slab.store(slot, column.slice(row, 1).chunks());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{ByteWindow, DataType, Dim, Narrow};
    use bytes::Bytes;

    fn device(datatype: DataType, dims: &[Dim], batch_axis: Option<usize>) -> Cpu {
        let spec = TensorSpec { name: "x".into(), datatype, dims: dims.to_vec(), batch_axis };
        let signature = Signature { inputs: vec![spec], outputs: vec![], states: vec![], max_batch_size: 8 };
        let window = ByteWindow { head: 2, tail: 1, block: 8, strip: true, pad: -1 };
        Cpu::new(&signature, &[Some(Conversion::Window(window))], &[])
    }

    fn gather(device: &mut Cpu, key: &[usize], requests: &[(usize, &[u8])]) -> Result<(Vec<usize>, Vec<u8>)> {
        device.begin(requests.iter().map(|request| request.0).sum(), &GroupKey(key.into()))?;
        for &(rows, bytes) in requests {
            device.put(rows, &[Payload::Rows(Bytes::copy_from_slice(bytes))], None)?;
        }
        let [view] = &device.inputs()[..] else { panic!("one input") };
        Ok((view.shape.to_vec(), view.data.to_vec()))
    }

    #[test]
    fn rows_are_joined_along_any_axis() {
        use Dim::{Dynamic, Fixed};
        let mut first = device(DataType::Uint8, &[Dynamic, Fixed(2)], Some(0));
        let requests: &[(usize, &[u8])] = &[(1, &[1, 2]), (2, &[3, 4, 5, 6])];
        assert_eq!(gather(&mut first, &[], requests).unwrap(), (vec![3, 2], vec![1, 2, 3, 4, 5, 6]));
        // The buffer is reused: a smaller batch behind a larger one shows only its own rows.
        assert_eq!(gather(&mut first, &[], &[(1, &[9, 8])]).unwrap(), (vec![1, 2], vec![9, 8]));

        let mut second = device(DataType::Uint8, &[Fixed(2), Dynamic, Dynamic], Some(1));
        let requests: &[(usize, &[u8])] = &[(1, &[1, 2]), (2, &[3, 4, 5, 6])];
        assert_eq!(gather(&mut second, &[1], requests).unwrap(), (vec![2, 3, 1], vec![1, 3, 4, 2, 5, 6]));

        let mut last = device(DataType::Uint8, &[Fixed(2), Dynamic], Some(1));
        let requests: &[(usize, &[u8])] = &[(1, &[1, 2]), (2, &[3, 4, 5, 6])];
        assert_eq!(gather(&mut last, &[], requests).unwrap(), (vec![2, 3], vec![1, 3, 4, 2, 5, 6]));

        let mut alone = device(DataType::Uint8, &[Dynamic, Dynamic], None);
        assert_eq!(gather(&mut alone, &[1, 2], &[(1, &[7, 8])]).unwrap(), (vec![1, 2], vec![7, 8]));
    }

    #[test]
    fn bytes_that_are_not_the_rows_are_refused() {
        let mut device = device(DataType::Int32, &[Dim::Dynamic, Dim::Fixed(2)], Some(0));
        assert!(gather(&mut device, &[], &[(1, &[0; 7])]).is_err());
        assert!(gather(&mut device, &[], &[(1, &[0; 16])]).is_err());
        device.begin(1, &GroupKey::default()).unwrap();
        assert!(device.put(2, &[Payload::Rows(Bytes::from_static(&[0; 16]))], None).is_err());
        assert!(device.put(1, &[], None).is_err());
    }

    #[test]
    fn rows_are_converted_along_any_axis() {
        use Dim::{Dynamic, Fixed};
        let device = |dims: &[Dim], batch_axis, conversion| {
            let dims = dims.to_vec();
            let spec = TensorSpec { name: "x".into(), datatype: DataType::Fp32, dims, batch_axis };
            let signature =
                Signature { inputs: vec![spec], outputs: vec![], states: vec![], max_batch_size: 8 };
            Cpu::new(&signature, &[Some(conversion)], &[])
        };
        let numbers =
            |(shape, bytes): (Vec<usize>, Vec<u8>)| (shape, bytemuck::pod_collect_to_vec::<u8, f32>(&bytes));
        let double = || Conversion::Scale { from: Narrow::Uint8, scale: 2.0, offset: 0.0 };
        let requests: &[(usize, &[u8])] = &[(1, &[1, 2]), (2, &[3, 4, 5, 6])];

        let mut second = device(&[Fixed(2), Dynamic, Dynamic], Some(1), double());
        let found = numbers(gather(&mut second, &[1], requests).unwrap());
        assert_eq!(found, (vec![2, 3, 1], vec![2.0, 6.0, 8.0, 4.0, 10.0, 12.0]));
        assert!(gather(&mut second, &[1], &[(1, &[1])]).is_err());
        assert!(gather(&mut second, &[1], &[(1, &[1, 2, 3])]).is_err());
        assert_eq!(numbers(gather(&mut second, &[0], &[(3, &[])]).unwrap()), (vec![2, 3, 0], vec![]));

        let mut alone = device(&[Dynamic, Dynamic], None, double());
        assert_eq!(
            numbers(gather(&mut alone, &[1, 2], &[(1, &[7, 8])]).unwrap()),
            (vec![1, 2], vec![14.0, 16.0])
        );

        // The key is what clients say: height and width.
        let planes = Conversion::Planes { mean: vec![0.0; 2], deviation: vec![0.5; 2] };
        let mut images = device(&[Dynamic, Fixed(2), Dynamic, Dynamic], Some(0), planes);
        let found = numbers(gather(&mut images, &[1, 2], &[(1, &[0, 255, 255, 0])]).unwrap());
        assert_eq!(found, (vec![1, 2, 1, 2], vec![0.0, 2.0, 2.0, 0.0]));
    }

    #[test]
    fn messages_become_windows() {
        let mut device = device(DataType::Int32, &[Dim::Dynamic, Dim::Fixed(3)], Some(0));
        device.begin(2, &GroupKey::default()).unwrap();
        for message in ["abc", " "] {
            device.put(1, &[Payload::Message(Bytes::from_static(message.as_bytes()))], None).unwrap();
        }
        let [view] = &device.inputs()[..] else { panic!("one input") };
        assert_eq!(bytemuck::cast_slice::<u8, i32>(view.data), [97, 98, 99, -1, -1, -1]);
    }
}
