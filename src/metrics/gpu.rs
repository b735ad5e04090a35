//! What is counted of GPUs, and of models on them.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};

use super::{
    GPU_COPIED_BYTES, GPU_GRAPH_REPLAYS, GPU_INFO, GPU_MEMORY, GPU_PADDED_ROWS, GPU_STAGE_SECONDS,
    GPU_UTILIZATION, Metrics,
};

/// One model's use of GPUs.
pub struct OnDevice {
    stages: [Histogram; 3],
    copied: [Counter; 2],
    padded_rows: Counter,
    graph_replays: Counter,
}

impl OnDevice {
    pub(super) fn new(metrics: &Metrics, labels: &[(&'static str, String); 2]) -> Self {
        let with = |name: &'static str, value: &str| {
            let [model, version] = labels.clone();
            [model, version, (name, value.to_owned())]
        };
        metrics.make(|| Self {
            stages: ["upload", "compute", "download"]
                .map(|stage| ::metrics::histogram!(GPU_STAGE_SECONDS, &with("stage", stage))),
            copied: ["to_device", "to_host"]
                .map(|direction| ::metrics::counter!(GPU_COPIED_BYTES, &with("direction", direction))),
            padded_rows: ::metrics::counter!(GPU_PADDED_ROWS, labels),
            graph_replays: ::metrics::counter!(GPU_GRAPH_REPLAYS, labels),
        })
    }

    /// A batch was uploaded, computed and downloaded.
    pub fn ran(&self, stages: [Duration; 3], bytes: [usize; 2], padded_rows: usize, graph: bool) {
        for (histogram, time) in self.stages.iter().zip(stages) {
            histogram.record(time.as_secs_f64());
        }
        for (counter, bytes) in self.copied.iter().zip(bytes) {
            counter.increment(bytes as u64);
        }
        self.padded_rows.increment(padded_rows as u64);
        self.graph_replays.increment(u64::from(graph));
    }
}

/// What one GPU tells of itself.
pub struct GpuMetrics {
    memory: [Gauge; 4],
    utilization: Gauge,
}

/// A reading of a GPU; what it cannot tell is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuReading {
    pub memory_total: usize,
    pub memory_free: Option<usize>,
    /// Taken by lanes, beside what ONNX Runtime takes.
    pub memory_lanes: usize,
    /// Page-locked memory of the host.
    pub memory_pinned: usize,
    /// Of the last sampling period, from 0 to 1.
    pub utilization: Option<f64>,
}

impl GpuMetrics {
    pub(super) fn new(metrics: &Arc<Metrics>, gpu: &str, name: &str, capability: &str, driver: &str) -> Self {
        let gpu = || ("gpu", gpu.to_owned());
        metrics.make(|| {
            let told = [("name", name), ("compute_capability", capability), ("cuda_driver", driver)];
            let labels: Vec<_> =
                std::iter::once(gpu()).chain(told.map(|(label, value)| (label, value.to_owned()))).collect();
            ::metrics::gauge!(GPU_INFO, &labels).set(1.0);
            Self {
                memory: ["total", "free", "lanes", "pinned"]
                    .map(|kind| ::metrics::gauge!(GPU_MEMORY, &[gpu(), ("kind", kind.to_owned())])),
                utilization: ::metrics::gauge!(GPU_UTILIZATION, &[gpu()]),
            }
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "no memory has 2^53 bytes")]
    pub fn set(&self, reading: GpuReading) {
        let [total, free, lanes, pinned] = &self.memory;
        total.set(reading.memory_total as f64);
        free.set(reading.memory_free.map_or(f64::NAN, |bytes| bytes as f64));
        lanes.set(reading.memory_lanes as f64);
        pinned.set(reading.memory_pinned as f64);
        self.utilization.set(reading.utilization.unwrap_or(f64::NAN));
    }
}
