//! How fast a GPU copies, by its own clock.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::{CudaStream, DriverError, sys};

use super::memory::{self, Buffer, Memory, Pinned};
use crate::device::CopyTimes;

/// The best of so many counts.
const TRIES: usize = 5;

/// Copies so many bytes to the device, to the host, and on the device.
pub(super) fn times(memory: &Arc<Memory>, bytes: usize) -> Result<CopyTimes, DriverError> {
    let mut host = Pinned::new(memory, bytes)?;
    let (from, to) = (Buffer::new(memory, bytes)?, Buffer::new(memory, bytes)?);
    let stream = memory.context.new_stream()?;
    // SAFETY: all three copies, here and below, are waited for by `best` before anything is touched or dropped.
    let to_device = best(memory, &stream, || unsafe { memory::upload(&stream, &host, &from, bytes) })?;
    // SAFETY: as above.
    let to_host = best(memory, &stream, || unsafe { memory::download(&stream, &from, &mut host, bytes) })?;
    // SAFETY: as above.
    let on_device = best(memory, &stream, || unsafe { memory::copy(&stream, &from, &to, 0, bytes) })?;
    Ok(CopyTimes { bytes, to_device, to_host, on_device })
}

fn best(
    memory: &Memory,
    stream: &CudaStream,
    mut work: impl FnMut() -> Result<(), DriverError>,
) -> Result<Duration, DriverError> {
    let event = || memory.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
    let (start, end) = (event()?, event()?);
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        start.record(stream)?;
        let worked = work();
        let timed = end.record(stream).and_then(|()| start.elapsed_ms(&end));
        // Whatever went wrong, nothing is left in the stream.
        stream.synchronize()?;
        worked?;
        best = best.min(Duration::try_from_secs_f32(timed?.max(0.0) / 1000.0).unwrap_or_default());
    }
    Ok(best)
}
