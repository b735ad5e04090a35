//! Memory of a GPU, and memory of the host that a GPU can copy from and to by itself.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use cudarc::driver::{CudaContext, CudaStream, DriverError, result};

/// A GPU's context, and how much of either memory is taken.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) context: Arc<CudaContext>,
    device: AtomicUsize,
    pinned: AtomicUsize,
}

impl Memory {
    pub(super) fn new(context: Arc<CudaContext>) -> Arc<Self> {
        Arc::new(Self { context, device: AtomicUsize::new(0), pinned: AtomicUsize::new(0) })
    }

    /// Bytes taken on the device, and pinned bytes of the host.
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.device.load(Relaxed), self.pinned.load(Relaxed))
    }
}

/// Bytes on the device.
#[derive(Debug)]
pub(super) struct Buffer {
    address: u64,
    size: usize,
    memory: Arc<Memory>,
}

impl Buffer {
    /// `size` bytes of zeros; the driver aligns them for every type.
    pub(super) fn new(memory: &Arc<Memory>, size: usize) -> Result<Self, DriverError> {
        memory.context.bind_to_thread()?;
        // The driver gives no memory of size zero.
        let taken = size.max(1);
        // SAFETY: the context is current, and the address is freed once, when the buffer is dropped.
        let address = unsafe { result::malloc_sync(taken) }?;
        memory.device.fetch_add(taken, Relaxed);
        let buffer = Self { address, size, memory: Arc::clone(memory) };
        // SAFETY: the bytes have just been allocated, and nobody else knows of them.
        unsafe { result::memset_d8_sync(address, 0, taken) }?;
        // The host does not wait for it by itself, and neither do our streams.
        // SAFETY: the default stream is always there.
        unsafe { result::stream::synchronize(std::ptr::null_mut()) }?;
        Ok(buffer)
    }

    /// These bytes.
    pub(super) fn of(memory: &Arc<Memory>, bytes: &[u8]) -> Result<Self, DriverError> {
        let mut pinned = Pinned::new(memory, bytes.len())?;
        pinned.copy_from_slice(bytes);
        let buffer = Self::new(memory, bytes.len())?;
        let stream = memory.context.new_stream()?;
        // SAFETY: both live until the stream has done it, which is waited for.
        unsafe { upload(&stream, &pinned, &buffer, bytes.len()) }?;
        stream.synchronize()?;
        Ok(buffer)
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bound = self.memory.context.bind_to_thread();
        // SAFETY: the address came from `malloc_sync`. The driver finishes the work that uses it before it frees it.
        // What cannot be freed is the failed context's.
        let _ = bound.and_then(|()| unsafe { result::free_sync(self.address) });
        self.memory.device.fetch_sub(self.size.max(1), Relaxed);
    }
}

/// Page-locked bytes of the host. Who owns them must not touch them while a copy from or to them is under way.
#[derive(Debug)]
pub(super) struct Pinned {
    start: NonNull<u8>,
    size: usize,
    memory: Arc<Memory>,
}

// SAFETY: the memory belongs to the process, and only its owner reaches it.
unsafe impl Send for Pinned {}
// SAFETY: shared references only read.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// `size` bytes of zeros.
    pub(super) fn new(memory: &Arc<Memory>, size: usize) -> Result<Self, DriverError> {
        memory.context.bind_to_thread()?;
        // Not write-combined: the host reads results from such memory.
        // SAFETY: the context is current, and the address is freed once, when this is dropped.
        let start = unsafe { result::malloc_host(size.max(1), 0) }?.cast::<u8>();
        let Some(start) = NonNull::new(start) else {
            return Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        };
        // SAFETY: so many bytes have just been allocated.
        unsafe { start.write_bytes(0, size.max(1)) };
        memory.pinned.fetch_add(size.max(1), Relaxed);
        Ok(Self { start, size, memory: Arc::clone(memory) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let bound = self.memory.context.bind_to_thread();
        // SAFETY: the address came from `malloc_host`, and the owner has seen the copies with it end.
        let _ = bound.and_then(|()| unsafe { result::free_host(self.start.as_ptr().cast()) });
        self.memory.pinned.fetch_sub(self.size.max(1), Relaxed);
    }
}

impl Deref for Pinned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `size` bytes from `start` are ours, were written at the start, and nobody writes while this borrows.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

/// Copies the first `bytes` bytes to the device, in the stream's order.
///
/// # Safety
///
/// Until the stream has done it, `from` is not written to and neither is dropped.
pub(super) unsafe fn upload(
    stream: &CudaStream,
    from: &Pinned,
    to: &Buffer,
    bytes: usize,
) -> Result<(), DriverError> {
    let from = &from[..bytes.min(from.size).min(to.size)];
    // SAFETY: both have so many bytes, and the caller sees to the rest.
    unsafe { result::memcpy_htod_async(to.address, from, stream.cu_stream()) }
}

/// Copies the first `bytes` bytes to the host, in the stream's order.
///
/// # Safety
///
/// Until the stream has done it, `to` is neither read nor written to and neither is dropped.
pub(super) unsafe fn download(
    stream: &CudaStream,
    from: &Buffer,
    to: &mut Pinned,
    bytes: usize,
) -> Result<(), DriverError> {
    let bytes = bytes.min(from.size).min(to.size);
    // SAFETY: both have so many bytes, and the caller sees to the rest.
    unsafe { result::memcpy_dtoh_async(&mut to[..bytes], from.address, stream.cu_stream()) }
}

/// Copies `bytes` bytes on the device, in the stream's order, to `at` in `to`. What does not fit is not copied.
///
/// # Safety
///
/// Neither is dropped until the stream has done it.
pub(super) unsafe fn copy(
    stream: &CudaStream,
    from: &Buffer,
    to: &Buffer,
    at: usize,
    bytes: usize,
) -> Result<(), DriverError> {
    let bytes = bytes.min(from.size).min(to.size.saturating_sub(at));
    // SAFETY: both have so many bytes from there on, and the caller sees to the rest.
    unsafe { result::memcpy_dtod_async(to.address + at as u64, from.address, bytes, stream.cu_stream()) }
}
