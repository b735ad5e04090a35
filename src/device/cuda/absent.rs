//! A build without GPUs: there are none, and the compiler knows.

use std::path::Path;

use crossbeam_channel::Receiver;

use super::{About, Placed, Resident, StageTimes, Unfit};
use crate::error::Result;
use crate::streams::Slot;
use crate::tensor::{BatchOutput, Payload};

/// No GPU.
#[derive(Debug, Clone, Copy)]
pub enum Gpu {}

/// No lane's part of it.
#[derive(Debug, Clone, Copy)]
pub enum CudaDevice {}

impl Gpu {
    pub fn open(_ordinal: usize, _cache: Option<&Path>) -> Result<Self, Unfit> {
        Err(Unfit::NotBuilt)
    }

    pub fn about(&self) -> &About {
        match *self {}
    }

    /// Bytes that lanes have taken on the device, and pinned on the host.
    pub fn taken(&self) -> (usize, usize) {
        match *self {}
    }

    pub fn device(&self, _resident: Resident) -> Result<CudaDevice, String> {
        match *self {}
    }
}

impl CudaDevice {
    pub fn gpu(&self) -> &Gpu {
        match *self {}
    }

    pub fn resident(&self) -> &Resident {
        match *self {}
    }

    pub fn compute_stream(&self) -> *mut () {
        match *self {}
    }

    pub fn places(&self, _rows: usize) -> (Vec<Placed>, Vec<Placed>) {
        match *self {}
    }

    pub fn begin(&mut self, _rows: usize) -> Result<()> {
        match *self {}
    }

    pub fn put(&mut self, _rows: usize, _payloads: &[Payload], _slot: Option<Slot>) -> Result<()> {
        match *self {}
    }

    pub fn upload(&mut self) -> Result<usize> {
        match *self {}
    }

    pub fn download(&mut self) -> Result<()> {
        match *self {}
    }

    pub fn abandon(&mut self) {
        match *self {}
    }

    pub fn landings(&self) -> &Receiver<()> {
        match *self {}
    }

    pub fn land(&mut self) -> Result<(BatchOutput, StageTimes)> {
        match *self {}
    }
}
