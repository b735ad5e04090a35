//! Batches in host memory.

use ndarray::{ArrayView3, ArrayViewMut3, s};
use smallvec::SmallVec;

use super::TensorView;
use super::slab::Slab;
use crate::error::{Code, Error, Result};
use crate::signal::Encoding;
use crate::streams::Slot;
use crate::tensor::{
    BatchOutput, ByteWindow, Column, DataType, GroupKey, Payload, Shape, Signature, TensorSpec, element_count,
};

pub struct Cpu {
    inputs: Vec<Input>,
    states: Vec<State>,
    /// Whose rows the batch holds, where the model keeps state.
    slots: Vec<Slot>,
    /// Outputs of the model that are not state.
    outputs: usize,
    rows: usize,
    filled: usize,
}

/// One state's batch tensor, and the rows of the streams that take turns in it.
struct State {
    batch: Input,
    slab: Slab,
}

/// One input's batch tensor, reused from batch to batch.
struct Input {
    spec: TensorSpec,
    window: Option<ByteWindow>,
    shape: Shape,
    // Words, so that every datatype is aligned.
    words: Vec<u64>,
    // `BYTES` have no fixed size; they are joined in wire form.
    strings: Vec<u8>,
}

impl Cpu {
    /// A device for models of this signature; `windows` gives each input's conversion of plain messages.
    pub fn new(signature: &Signature, windows: &[Option<ByteWindow>]) -> Self {
        let windows = windows.iter().cloned().chain(std::iter::repeat(None));
        let inputs = signature.inputs.iter().zip(windows).map(|(spec, window)| Input::new(spec, window));
        let states = signature.states.iter().map(|state| State {
            batch: Input::new(&state.input, None),
            slab: Slab::new(state.initial.clone()),
        });
        Self {
            inputs: inputs.collect(),
            states: states.collect(),
            slots: Vec::new(),
            outputs: signature.outputs.len(),
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

    /// Keeps the states that a run gave, behind its outputs, for the slots of its batch.
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

fn misfit(spec: &TensorSpec) -> Error {
    Error::new(Code::Internal, format!("a request's bytes for '{}' are not its rows", spec.name))
}

impl Input {
    fn new(spec: &TensorSpec, window: Option<ByteWindow>) -> Self {
        let (shape, words, strings) = (Shape::new(), Vec::new(), Vec::new());
        Self { spec: spec.clone(), window, shape, words, strings }
    }

    fn begin(&mut self, rows: usize, dynamic: &mut impl Iterator<Item = usize>) -> Result<()> {
        self.shape = self.spec.batch_shape(rows, dynamic);
        self.strings.clear();
        if let Some(size) = self.spec.datatype.size() {
            let bytes = element_count(&self.shape).and_then(|count| count.checked_mul(size));
            let bytes = bytes.ok_or_else(|| Error::new(Code::ShapeOverflow, "the batch is too large"))?;
            self.words.resize(bytes.div_ceil(size_of::<u64>()), 0);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.spec.datatype.size().unwrap_or(0)
    }

    fn put_rows(&mut self, start: usize, rows: usize, payload: &[u8]) -> Result<()> {
        let Some(size) = self.spec.datatype.size() else {
            self.strings.extend_from_slice(payload);
            return Ok(());
        };
        let total = self.bytes();
        let batch = &mut bytemuck::cast_slice_mut(&mut self.words)[..total];
        let Some(axis) = self.spec.batch_axis else {
            // Without a batch axis a batch is one request.
            return if payload.len() == total {
                batch.copy_from_slice(payload);
                Ok(())
            } else {
                Err(misfit(&self.spec))
            };
        };
        let outer: usize = self.shape[..axis].iter().product();
        let inner: usize = self.shape[axis + 1..].iter().product::<usize>() * size;
        if outer == 1 {
            let place = batch.get_mut(start * inner..(start + rows) * inner);
            let place =
                place.filter(|place| place.len() == payload.len()).ok_or_else(|| misfit(&self.spec))?;
            place.copy_from_slice(payload);
            return Ok(());
        }
        let payload =
            ArrayView3::from_shape((outer, rows, inner), payload).map_err(|_| misfit(&self.spec))?;
        let mut batch = ArrayViewMut3::from_shape((outer, self.shape[axis], inner), batch)
            .map_err(|_| misfit(&self.spec))?;
        let mut place = batch.slice_mut(s![.., start..start + rows, ..]);
        for (mut to, from) in place.outer_iter_mut().zip(payload.outer_iter()) {
            match (to.as_slice_mut(), from.as_slice()) {
                // One copy a block: an element-wise assignment of bytes costs four times as much.
                (Some(to), Some(from)) => to.copy_from_slice(from),
                _ => to.assign(&from),
            }
        }
        Ok(())
    }

    fn put_message(&mut self, start: usize, message: &[u8]) -> Result<()> {
        let Some(window) = &self.window else { return Err(misfit(&self.spec)) };
        let width = window.width();
        let elements = start * width..(start + 1) * width;
        let row = window.row(message);
        let words = &mut self.words;
        macro_rules! fill {
            ($type:ty, $convert:expr) => {{
                let batch: &mut [$type] = bytemuck::cast_slice_mut(words);
                let place = batch.get_mut(elements).ok_or_else(|| misfit(&self.spec))?;
                for (element, value) in place.iter_mut().zip(row) {
                    *element = $convert(value);
                }
            }};
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "checked when configured"
        )]
        match self.spec.datatype {
            DataType::Int32 => fill!(i32, |value| value as i32),
            DataType::Int64 => fill!(i64, |value| value),
            DataType::Fp32 => fill!(f32, |value| value as f32),
            _ => return Err(misfit(&self.spec)),
        }
        Ok(())
    }

    fn put_signal(&mut self, start: usize, encoding: Encoding, signal: &[u8]) -> Result<()> {
        let width = self.shape.iter().skip(1).product::<usize>();
        if self.spec.datatype != DataType::Fp32 || signal.len() != width * encoding.width() {
            return Err(misfit(&self.spec));
        }
        let batch: &mut [f32] = bytemuck::cast_slice_mut(&mut self.words);
        let row = batch.get_mut(start * width..(start + 1) * width).ok_or_else(|| misfit(&self.spec))?;
        encoding.decode(signal, row);
        Ok(())
    }

    fn view(&self) -> TensorView<'_> {
        let data = match self.spec.datatype.size() {
            Some(_) => &bytemuck::cast_slice(&self.words)[..self.bytes()],
            None => &self.strings[..],
        };
        TensorView { datatype: self.spec.datatype, shape: self.shape.clone(), data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dim;
    use bytes::Bytes;

    fn device(datatype: DataType, dims: &[Dim], batch_axis: Option<usize>) -> Cpu {
        let spec = TensorSpec { name: "x".into(), datatype, dims: dims.to_vec(), batch_axis };
        let signature = Signature { inputs: vec![spec], outputs: vec![], states: vec![], max_batch_size: 8 };
        let window = ByteWindow { head: 2, tail: 1, block: 8, strip: true, pad: -1 };
        Cpu::new(&signature, &[Some(window)])
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
