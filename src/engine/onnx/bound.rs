//! A session whose tensors have their places on a device, bound once for each batch size.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use ort::AsPointer;
use ort::ep::{CUDA, ExecutionProviderDispatch};
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::ortsys;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{DynValue, Value};

use super::{one_line, values};
use crate::device::{Placed, TensorView};
use crate::engine::{Bound, Constant, Halt, Site};
use crate::error::{Code, Error, Result};
use crate::tensor::Signature;

pub(super) struct BoundSession {
    session: Session,
    buckets: Vec<(IoBinding, Arc<RunOptions>)>,
    graphs: bool,
}

/// CUDA, or no session at all: a fallback to the CPU in silence helps nobody.
pub(super) fn provider(site: Site) -> ExecutionProviderDispatch {
    let cuda = CUDA::default();
    let cuda = match site {
        Site::Host => cuda,
        Site::Cuda { ordinal, stream, graphs } => {
            let cuda = cuda.with_device_id(i32::try_from(ordinal).unwrap_or(0)).with_cuda_graph(graphs);
            if stream.is_null() {
                cuda
            } else {
                // SAFETY: the lane drops the session before the device that owns the stream.
                unsafe { cuda.with_compute_stream(stream) }
            }
        }
    };
    cuda.build().error_on_failure()
}

impl BoundSession {
    pub(super) fn new(
        session: Session,
        site: Site,
        signature: &Signature,
        constants: &[Constant],
        buckets: &[(Vec<Placed>, Vec<Placed>)],
    ) -> Result<Self> {
        let states = &signature.states;
        let inputs = signature.inputs.iter().chain(states.iter().map(|state| &state.input));
        let outputs = signature.outputs.iter().chain(states.iter().map(|state| &state.output));
        let inputs: Vec<_> = inputs.map(|spec| spec.name.as_str()).collect();
        let outputs: Vec<_> = outputs.map(|spec| spec.name.as_str()).collect();
        let internal = |error: ort::Error| Error::new(Code::Internal, one_line(&error));
        let mut bound = Vec::with_capacity(buckets.len());
        for (index, (places_in, places_out)) in buckets.iter().enumerate() {
            let mut binding = session.create_binding().map_err(internal)?;
            for (name, place) in inputs.iter().zip(places_in) {
                binding.bind_input(*name, &value(site, place).map_err(internal)?).map_err(internal)?;
            }
            for (name, place) in outputs.iter().zip(places_out) {
                binding.bind_output(*name, value(site, place).map_err(internal)?).map_err(internal)?;
            }
            for Constant { name, datatype, shape, data } in constants {
                let view = TensorView { datatype: *datatype, shape: shape.clone(), data };
                binding.bind_input(name.as_str(), &values::owned(&view)?).map_err(internal)?;
            }
            bound.push((binding, Arc::new(options(site, index).map_err(internal)?)));
        }
        let graphs = matches!(site, Site::Cuda { graphs: true, .. });
        Ok(Self { session, buckets: bound, graphs })
    }
}

impl Bound for BoundSession {
    fn launch(&mut self, bucket: usize) -> Result<()> {
        let unknown = || Error::new(Code::Internal, "there is no such bucket");
        let (binding, options) = self.buckets.get(bucket).ok_or_else(unknown)?;
        let outputs = self.session.run_binding_with_options(binding, options);
        outputs.map(drop).map_err(|error| Error::new(Code::InferenceFailed, one_line(&error)))
    }

    fn replays_graphs(&self) -> bool {
        self.graphs
    }

    /// Ends a launch between two operators. What is on the device already goes on, and a graph that is replayed is one
    /// operation there.
    fn halt(&self) -> Option<Halt> {
        let options: Vec<_> = self.buckets.iter().map(|(_, options)| Arc::clone(options)).collect();
        Some(Arc::new(move || options.iter().for_each(|options| drop(options.terminate()))))
    }
}

fn options(site: Site, bucket: usize) -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    if let Site::Cuda { graphs, .. } = site {
        // The stream's order and its events tell when a run is done.
        options.disable_device_sync()?;
        if graphs {
            // Each bucket has a graph of its own; 0 is ONNX Runtime's default for all.
            options.set("gpu_graph_id", (bucket + 1).to_string())?;
        }
    }
    Ok(options)
}

/// A value at a place, which ONNX Runtime neither owns nor frees.
fn value(site: Site, place: &Placed) -> ort::Result<DynValue> {
    let memory = match site {
        Site::Host => MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default),
        Site::Cuda { ordinal, .. } => {
            let ordinal = i32::try_from(ordinal).unwrap_or(0);
            MemoryInfo::new(AllocationDevice::CUDA, ordinal, AllocatorType::Device, MemoryType::Default)
        }
    }?;
    let shape: Vec<i64> = place.shape.iter().map(|&dim| i64::try_from(dim).unwrap_or(0)).collect();
    let bytes = place.shape.iter().product::<usize>() * place.datatype.size().unwrap_or(0);
    let (element, mut value) = (values::element_type(place.datatype), ptr::null_mut());
    // SAFETY: `place` is memory of that device with so many bytes, which the lane keeps until the session is dropped;
    // `shape` is read before the call returns.
    ortsys![unsafe CreateTensorWithDataAsOrtValue(
        memory.ptr(),
        ptr::with_exposed_provenance_mut(usize::try_from(place.address).unwrap_or(0)),
        bytes,
        shape.as_ptr(),
        shape.len(),
        element.into(),
        &mut value
    )?];
    let value = NonNull::new(value).ok_or_else(|| ort::Error::new("ONNX Runtime made no value"))?;
    // SAFETY: the value has just been made and is ours. The allocator is only named: the value owns no memory.
    Ok(unsafe { Value::from_ptr(value, Some(&Allocator::default())) })
}
