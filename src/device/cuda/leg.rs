//! One batch on its way through a device.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use cudarc::driver::{CudaEvent, CudaStream, DriverError, sys};

use super::memory::{Buffer, Memory, Pinned};
use crate::device::{Block, StageTimes};

/// What one batch under way has for itself.
pub(super) struct Leg {
    pub(super) staging: Pinned,
    pub(super) packed: Buffer,
    pub(super) results: Buffer,
    pub(super) returned: Pinned,
    pub(super) events: Events,
    pub(super) rows: usize,
    pub(super) bucket: usize,
    pub(super) bytes_up: usize,
    pub(super) bytes_down: usize,
}

pub(super) struct Events {
    pub(super) begun: CudaEvent,
    pub(super) uploaded: CudaEvent,
    pub(super) started: CudaEvent,
    pub(super) computed: CudaEvent,
    pub(super) done: CudaEvent,
}

/// Says that a batch has come so far.
pub(super) struct Landed {
    say: Sender<()>,
    pub(super) said: Receiver<()>,
}

impl Leg {
    pub(super) fn new(memory: &Arc<Memory>, up: usize, down: usize) -> Result<Self, DriverError> {
        let event = || memory.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
        Ok(Self {
            staging: Pinned::new(memory, up)?,
            packed: Buffer::new(memory, up)?,
            results: Buffer::new(memory, down)?,
            returned: Pinned::new(memory, down)?,
            events: Events {
                begun: event()?,
                uploaded: event()?,
                started: event()?,
                computed: event()?,
                done: event()?,
            },
            rows: 0,
            bucket: 0,
            bytes_up: 0,
            bytes_down: 0,
        })
    }

    /// The rows of a tensor that are of use, and their bytes: only those that live, where they are at the front.
    pub(super) fn used(&self, block: &Block) -> (usize, usize) {
        let rows = if block.outer == 1 { self.rows } else { self.bucket };
        // No more than the buffer, whose size was computed so for the largest bucket.
        (rows, block.bytes(rows).unwrap_or(0))
    }

    /// Counted from `origin`.
    pub(super) fn times(&self, origin: &CudaEvent) -> Result<StageTimes, DriverError> {
        let Events { begun, uploaded, started, computed, done } = &self.events;
        let between = |from: &CudaEvent, to: &CudaEvent| {
            from.elapsed_ms(to)
                .map(|ms| Duration::try_from_secs_f32(ms.max(0.0) / 1000.0).unwrap_or_default())
        };
        Ok(StageTimes {
            begun: between(origin, begun)?,
            upload: between(begun, uploaded)?,
            waited: between(uploaded, started)?,
            compute: between(started, computed)?,
            download: between(computed, done)?,
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
            padded_rows: self.bucket - self.rows,
        })
    }
}

impl Landed {
    /// For so many batches under way. In a box, whose place the driver remembers.
    pub(super) fn new(depth: usize) -> Box<Self> {
        let (say, said) = crossbeam_channel::bounded(depth);
        Box::new(Self { say, said })
    }

    /// Has it said once the stream has come so far.
    ///
    /// # Safety
    ///
    /// This stays where it is until the stream has done it.
    pub(super) unsafe fn when_done(&self, stream: &CudaStream) -> Result<(), DriverError> {
        let landed = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // A host function would not be called once the device has failed, and whoever waits would wait for ever.
        // SAFETY: the stream is there, and the caller vouches for the pointer.
        unsafe { sys::cuStreamAddCallback(stream.cu_stream(), Some(say), landed, 0) }.result()
    }
}

/// What the driver calls, also when the device has failed.
unsafe extern "C" fn say(_stream: sys::CUstream, _status: sys::CUresult, landed: *mut c_void) {
    // SAFETY: `when_done` gave this pointer, and its target lives until the stream has ended.
    let landed = unsafe { &*landed.cast::<Landed>() };
    // There is room for all that may be under way.
    let _ = landed.say.try_send(());
}
