//! A model of a repository on a device, as a lane would have it but for conversions and reductions.

use super::alone::{Meter, Metered};
use super::{Target, Wrong};
use crate::device::{Buckets, Cpu, Resident};
use crate::engine::onnx::OnnxModel;
use crate::engine::{Engine, Site};
use crate::lane::{Cuda, Host, Pipeline, WarmUp};
use crate::registry::Derived;

/// Streams that keep a state, if the model has any.
const STREAMS: usize = 64;

/// Without conversions and reductions: of two numbers that nearly tie, each device may find another one the greatest.
pub fn start(
    target: &Target,
    model: &OnnxModel,
    derived: &Derived,
    buckets: &Buckets,
    graphs: bool,
) -> Result<Box<dyn Pipeline>, String> {
    metered(target, model, derived, buckets, graphs, None).map_err(|Wrong(why)| why)
}

/// The same, with a meter on the model itself.
pub(super) fn metered(
    target: &Target,
    model: &OnnxModel,
    Derived { model: signature, constants, .. }: &Derived,
    buckets: &Buckets,
    graphs: bool,
    meter: Option<&Meter>,
) -> Result<Box<dyn Pipeline>, Wrong> {
    match target {
        Target::Cpu => {
            let mut running = model.start(signature, constants)?;
            if let Some(meter) = meter {
                running = Box::new(Metered { model: running, device: (), meter: meter.clone() });
            }
            Ok(Box::new(Host::new(Cpu::new(signature, &[], &[]), running)))
        }
        Target::Gpu(gpu) => {
            let limit = buckets.sizes().last().copied().unwrap_or(1);
            let capacity = if signature.states.is_empty() { 0 } else { STREAMS.max(limit) };
            let resident = Resident::new(signature, &[], &[], buckets.clone(), 2, capacity)?;
            let device = gpu.device(resident)?;
            let places: Vec<_> = buckets.sizes().iter().map(|&rows| device.places(rows)).collect();
            let site = Site::Cuda { ordinal: gpu.about().ordinal, stream: device.compute_stream(), graphs };
            let mut bound = model.bind(site, signature, constants, &places)?;
            if let Some(meter) = meter {
                bound = Box::new(Metered { model: bound, device: device.compute(), meter: meter.clone() });
            }
            let mut pipeline = Cuda::new(device, bound);
            WarmUp::new(signature, pipeline.rehearsal()).run(&mut pipeline)?;
            Ok(Box::new(pipeline))
        }
    }
}
