//! The compute stream, for models that do not run in it by themselves.

use std::sync::Arc;

use cudarc::driver::{CudaStream, DriverError, sys};

use super::failed;
use super::memory::{self, Buffer};
use crate::error::{Code, Error, Result};

/// A device's compute stream.
#[derive(Clone)]
pub struct Compute(pub(super) Arc<CudaStream>);

impl Compute {
    /// Waits until it has done all that it was given.
    pub fn wait(&self) -> Result<()> {
        self.0.synchronize().map_err(failed)
    }

    /// Whether it has done all that it was given.
    pub fn is_idle(&self) -> Result<bool> {
        // SAFETY: the stream is there for as long as this is.
        match unsafe { sys::cuStreamQuery(self.0.cu_stream()) }.result() {
            Ok(()) => Ok(true),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

/// A model that only copies: each of its outputs is one of its inputs. For checks of what is around a model.
pub struct Copies {
    compute: Compute,
    /// From, to, and the bytes for each bucket.
    pairs: Vec<(Arc<Buffer>, Arc<Buffer>, Vec<usize>)>,
}

impl Copies {
    pub(super) fn new(compute: Compute, pairs: Vec<(Arc<Buffer>, Arc<Buffer>, Vec<usize>)>) -> Self {
        Self { compute, pairs }
    }

    /// Puts a run of a bucket into the compute stream.
    pub fn launch(&self, bucket: usize) -> Result<()> {
        for (from, to, sizes) in &self.pairs {
            let bytes = sizes.get(bucket);
            let bytes = *bytes.ok_or_else(|| Error::new(Code::Internal, "there is no such bucket"))?;
            // SAFETY: this keeps both, and waits for the stream before it lets go of them.
            unsafe { memory::copy(&self.compute.0, from, to, 0, bytes) }.map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // An error of the device's shows wherever it is asked next.
        let _ = self.compute.wait();
    }
}
