//! One version of a model, as connections see it.

use std::sync::Arc;
use std::time::Duration;

use super::file::ModelFile;
use super::labels::Labels;
use super::stream::Stream;
use crate::metrics::ModelMetrics;
use crate::queue::Producer;
use crate::tensor::Signature;

pub struct Served {
    pub name: String,
    pub version: u64,
    /// The version as the wire writes it.
    pub version_text: String,
    pub signature: Arc<Signature>,
    pub stream: Option<Stream>,
    pub labels: Option<Labels>,
    pub file: ModelFile,
    pub producer: Producer,
    pub metrics: Arc<ModelMetrics>,
}

impl Served {
    /// The time-out of requests that name none.
    pub fn default_timeout(&self) -> Option<Duration> {
        let micros = self.file.dynamic_batching.default_timeout_microseconds;
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// The queue's level for a request's `priority` (1 the most urgent, 0 the default); `None` if the model
    /// has no such level.
    pub fn level(&self, priority: u64) -> Option<usize> {
        let batching = &self.file.dynamic_batching;
        let levels = batching.priority_levels;
        let default = match batching.default_priority_level {
            0 => levels.div_ceil(2),
            level => level,
        };
        match usize::try_from(priority).ok()? {
            0 => Some(default.saturating_sub(1)),
            level => (level <= levels).then(|| level - 1),
        }
    }
}
