//! One batch packed for one copy: where its rows' bytes are, whose state goes with them, and the bytes themselves.
//!
//! ```text
//! rows of input 0 | rows of input 1 | … | seats | payloads, each at a multiple of 16 bytes
//! ```

use crate::device::Block;
use crate::device::cuda::seats::Seat;
use crate::error::{Code, Error, Result};
use crate::signal::Encoding;
use crate::tensor::{ByteWindow, Conversion, DataType, Narrow, Payload};

/// What every table and payload starts at a multiple of: the widest access of a kernel.
const ALIGNMENT: usize = 16;

/// A row of a batch: `Row` in `kernels/common.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Row {
    offset: u32,
    encoding: u32,
    stride: u64,
}

/// A message's window: `Window` in `kernels/common.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Window {
    head_offset: u32,
    head_length: u32,
    tail_offset: u32,
    tail_length: u32,
    raw: u32,
    unused: u32,
}

/// How one input's rows are packed.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) name: String,
    /// Blocks of a row: the product of the dimensions before the batch axis.
    pub(super) outer: usize,
    /// Bytes of a block, as requests bring them.
    pub(super) inner: usize,
    /// How the numbers of such rows stand in them.
    pub(super) encoding: u32,
    /// The input takes plain messages.
    pub(super) window: Option<ByteWindow>,
    /// The input takes windows of signals, of so many samples.
    pub(super) samples: Option<usize>,
}

impl Rows {
    pub(super) fn new(block: &Block, conversion: Option<&Conversion>) -> Self {
        let from = conversion.and_then(Conversion::from);
        let elements = block.inner / size_of::<f32>();
        let takes_signals = conversion.is_none() && block.datatype == DataType::Fp32 && block.outer == 1;
        Self {
            name: block.name.clone(),
            outer: block.outer,
            inner: from.map_or(block.inner, |from| elements * from.size()),
            encoding: from.map_or(RAW, number),
            window: match conversion {
                Some(Conversion::Window(window)) => Some(window.clone()),
                _ => None,
            },
            samples: takes_signals.then_some(elements),
        }
    }

    fn entry(&self) -> usize {
        if self.window.is_some() { size_of::<Window>() } else { size_of::<Row>() }
    }

    /// The most that one row can take.
    fn payload(&self) -> usize {
        let samples = self.samples.unwrap_or(0) * 4;
        let window = self.window.as_ref().map_or(0, ByteWindow::width);
        (self.outer * self.inner).max(samples).max(window).next_multiple_of(ALIGNMENT)
    }
}

/// Where the tables are in a packed batch, and how long it can get.
#[derive(Debug)]
pub(super) struct Layout {
    inputs: Vec<(Rows, usize)>,
    seats: usize,
    payloads: usize,
    capacity: usize,
}

impl Layout {
    /// For batches of up to `limit` rows; `None` if they are beyond 32-bit offsets.
    pub(super) fn new(inputs: Vec<Rows>, limit: usize) -> Option<Self> {
        let mut end = 0usize;
        let mut payloads = 0usize;
        let mut table = |entry: usize| {
            let start = end;
            end = start.checked_add(entry.checked_mul(limit)?)?.checked_next_multiple_of(ALIGNMENT)?;
            Some(start)
        };
        let mut placed = Vec::with_capacity(inputs.len());
        for input in inputs {
            payloads = payloads.checked_add(input.payload().checked_mul(limit)?)?;
            let start = table(input.entry())?;
            placed.push((input, start));
        }
        let seats = table(size_of::<Seat>())?;
        let capacity = end.checked_add(payloads)?;
        u32::try_from(capacity).ok()?;
        Some(Self { inputs: placed, seats, payloads: end, capacity })
    }

    /// Bytes of the longest batch.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where an input's table starts.
    pub(super) fn rows(&self, input: usize) -> usize {
        self.inputs.get(input).map_or(0, |(_, start)| *start)
    }

    /// Where the seats start.
    pub(super) fn seats(&self) -> usize {
        self.seats
    }
}

/// A batch that is being packed.
#[derive(Debug, Default)]
pub(super) struct Packing {
    rows: usize,
    filled: usize,
    /// Where the next payload goes.
    end: usize,
}

impl Packing {
    pub(super) fn begin(layout: &Layout, rows: usize) -> Self {
        Self { rows, filled: 0, end: layout.payloads }
    }

    /// Rows of the batch.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that are packed already.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes to copy.
    pub(super) fn bytes(&self) -> usize {
        self.end
    }

    /// Packs the next `rows` rows, one payload for each input, and where one row's state is.
    pub(super) fn put(
        &mut self,
        layout: &Layout,
        to: &mut [u8],
        rows: usize,
        payloads: &[Payload],
        seat: Option<Seat>,
    ) -> Result<()> {
        if self.filled + rows > self.rows || payloads.len() != layout.inputs.len() {
            return Err(Error::new(Code::Internal, "a request does not fit its batch"));
        }
        for ((input, table), payload) in layout.inputs.iter().zip(payloads) {
            self.put_input(input, *table, to, rows, payload)?;
        }
        if let Some(seat) = seat {
            write(to, layout.seats + self.filled * size_of::<Seat>(), &seat)?;
        }
        self.filled += rows;
        Ok(())
    }

    /// Of a row that is packed already no state will be kept.
    pub(super) fn unseat(layout: &Layout, to: &mut [u8], row: usize) -> Result<()> {
        let at = layout.seats + row * size_of::<Seat>() + std::mem::offset_of!(Seat, to);
        write(to, at, &-1i32)
    }

    fn put_input(
        &mut self,
        input: &Rows,
        table: usize,
        to: &mut [u8],
        rows: usize,
        payload: &Payload,
    ) -> Result<()> {
        let misfit =
            || Error::new(Code::Internal, format!("a request's bytes for '{}' are not its rows", input.name));
        let entry = |row: usize| table + (self.filled + row) * input.entry();
        let first = entry(0);
        match (payload, &input.window) {
            (Payload::Rows(bytes), window) if bytes.len() == rows * input.outer * input.inner => {
                let start = self.append(to, &[bytes])?;
                for row in 0..rows {
                    let offset = narrow(start + row * input.inner)?;
                    let at = first + row * input.entry();
                    if window.is_some() {
                        let unused = [0; 3];
                        let [head_length, tail_offset, tail_length] = unused;
                        let raw = Window {
                            head_offset: offset,
                            head_length,
                            tail_offset,
                            tail_length,
                            raw: 1,
                            unused: 0,
                        };
                        write(to, at, &raw)?;
                    } else {
                        let stride = (rows * input.inner) as u64;
                        write(to, at, &Row { offset, encoding: input.encoding, stride })?;
                    }
                }
            }
            (Payload::Message(message), Some(window)) if rows == 1 => {
                let (head, tail) = (window.head_of(message), window.tail_of(message));
                let start = self.append(to, &[head, tail])?;
                let window = Window {
                    head_offset: narrow(start)?,
                    head_length: narrow(head.len())?,
                    tail_offset: narrow(start + head.len())?,
                    tail_length: narrow(tail.len())?,
                    raw: 0,
                    unused: 0,
                };
                write(to, first, &window)?;
            }
            (Payload::Signal(encoding, signal), None)
                if rows == 1
                    && input.samples.is_some_and(|samples| signal.len() == samples * encoding.width()) =>
            {
                let offset = narrow(self.append(to, &[signal])?)?;
                write(to, first, &Row { offset, encoding: code(*encoding), stride: 0 })?;
            }
            _ => return Err(misfit()),
        }
        Ok(())
    }

    /// Puts bytes behind each other, and leaves the next place aligned; where they start.
    fn append(&mut self, to: &mut [u8], parts: &[&[u8]]) -> Result<usize> {
        let start = self.end;
        for part in parts {
            let place = to.get_mut(self.end..self.end + part.len()).ok_or_else(full)?;
            place.copy_from_slice(part);
            self.end += part.len();
        }
        self.end = self.end.next_multiple_of(ALIGNMENT);
        Ok(start)
    }
}

fn full() -> Error {
    Error::new(Code::Internal, "a batch is longer than its staging memory")
}

fn narrow(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| full())
}

fn write<T: bytemuck::Pod>(to: &mut [u8], at: usize, entry: &T) -> Result<()> {
    let place = to.get_mut(at..at + size_of::<T>()).ok_or_else(full)?;
    place.copy_from_slice(bytemuck::bytes_of(entry));
    Ok(())
}

/// `Encoding` in `kernels/common.cuh`: as the model takes them.
const RAW: u32 = 0;

/// Of numbers.
fn number(from: Narrow) -> u32 {
    match from {
        Narrow::Int16 => 2,
        Narrow::Uint8 => 4,
        Narrow::Fp16 => 7,
        Narrow::Bf16 => 8,
    }
}

/// Of samples.
fn code(encoding: Encoding) -> u32 {
    match encoding {
        Encoding::F32le => 1,
        Encoding::PcmS16le => 2,
        Encoding::PcmS16be => 3,
        Encoding::Mulaw => 5,
        Encoding::Alaw => 6,
    }
}
