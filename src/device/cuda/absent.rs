//! A build without GPUs: there are none, and the compiler knows.

use std::path::Path;

use crossbeam_channel::Receiver;

use super::{About, CopyTimes, Placed, Resident, StageTimes, Unfit};
use crate::error::Result;
use crate::streams::Slot;
use crate::tensor::{BatchOutput, Payload};

/// No GPU.
#[derive(Debug, Clone)]
pub struct Gpu(Never);

/// No lane's part of it.
#[derive(Debug)]
pub struct CudaDevice(Never);

// Within structs, so that only this module knows that code behind them is never reached.
#[derive(Debug, Clone, Copy)]
enum Never {}

/// No stream of it.
#[derive(Debug, Clone)]
pub struct Compute(Never);

/// No model on it.
#[derive(Debug)]
pub struct Copies(Never);

impl Gpu {
    pub fn preload(_folder: &Path) {}

    pub fn count() -> Result<usize, Unfit> {
        Err(Unfit::NotBuilt)
    }

    pub fn open(_ordinal: usize, _cache: Option<&Path>) -> Result<Self, Unfit> {
        Err(Unfit::NotBuilt)
    }

    pub fn find(_ordinal: usize) -> Result<About, Unfit> {
        Err(Unfit::NotBuilt)
    }

    pub fn copy_times(&self, _bytes: usize) -> Result<CopyTimes> {
        match self.0 {}
    }

    pub fn about(&self) -> &About {
        match self.0 {}
    }

    pub fn free(&self) -> Option<usize> {
        match self.0 {}
    }

    /// Bytes that lanes have taken on the device, and pinned on the host.
    pub fn taken(&self) -> (usize, usize) {
        match self.0 {}
    }

    pub fn utilization(&self) -> Option<f64> {
        match self.0 {}
    }

    pub fn device(&self, _resident: Resident) -> Result<CudaDevice, String> {
        match self.0 {}
    }
}

impl CudaDevice {
    pub fn gpu(&self) -> &Gpu {
        match self.0 {}
    }

    pub fn resident(&self) -> &Resident {
        match self.0 {}
    }

    pub fn compute_stream(&self) -> *mut () {
        match self.0 {}
    }

    pub fn compute(&self) -> Compute {
        match self.0 {}
    }

    pub fn copies(&self, _wiring: &[usize]) -> Result<Copies, String> {
        match self.0 {}
    }

    pub fn places(&self, _rows: usize) -> (Vec<Placed>, Vec<Placed>) {
        match self.0 {}
    }

    pub fn begin(&mut self, _rows: usize) -> Result<()> {
        match self.0 {}
    }

    pub fn holds(&self, _slot: Slot) -> bool {
        match self.0 {}
    }

    pub fn put(&mut self, _rows: usize, _payloads: &[Payload], _slot: Option<Slot>) -> Result<()> {
        match self.0 {}
    }

    pub fn upload(&mut self) -> Result<usize> {
        match self.0 {}
    }

    pub fn download(&mut self) -> Result<()> {
        match self.0 {}
    }

    pub fn abandon(&mut self) {
        match self.0 {}
    }

    pub fn landings(&self) -> &Receiver<()> {
        match self.0 {}
    }

    pub fn land(&mut self) -> Result<(BatchOutput, StageTimes)> {
        match self.0 {}
    }
}

impl Compute {
    pub fn wait(&self) -> Result<()> {
        match self.0 {}
    }

    pub fn is_idle(&self) -> Result<bool> {
        match self.0 {}
    }
}

impl Copies {
    pub fn launch(&self, _bucket: usize) -> Result<()> {
        match self.0 {}
    }
}
