//! The model that is measured, as it would be served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::options::Shape;
use super::{Failure, Tune};
use crate::check::{self, Batch};
use crate::device::Cpu;
use crate::engine::Engine;
use crate::engine::onnx::{OnnxModel, OnnxRuntime};
use crate::lane::{Host, Pipeline};
use crate::registry::file::{ModelFile, Parameters};
use crate::registry::{self, Derived, FieldError, Opened, derive};
use crate::tensor::{Dim, TensorSpec};
use crate::tune::Layout;

/// Batches beyond this are measured only if asked for.
const LARGEST: usize = 64;

pub(super) struct Subject<'a> {
    runtime: &'a OnnxRuntime,
    folder: &'a Path,
    version: u64,
    file: &'a ModelFile,
    derived: Derived,
    /// The file that is served.
    pub(super) path: PathBuf,
    /// Inputs with sizes that nothing fixes.
    pub(super) free: Vec<String>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(
        runtime: &'a OnnxRuntime,
        folder: &'a Path,
        version: u64,
        file: &'a ModelFile,
        options: &Tune,
    ) -> Result<Self, Failure> {
        let Opened { model, file: mut of_model, .. } = registry::open(runtime, folder, version, file)?;
        let wrong = |FieldError { field, why }| format!("model.toml: {field}: {why}");
        let plain = derive(model.graph(), &of_model).map_err(wrong)?;
        let asked = options.max_batch.map(usize::from);
        if plain.model.max_batch_size > 0 {
            of_model.max_batch_size = asked.or(file.max_batch_size).or(Some(LARGEST));
        } else if asked.is_some() {
            return Err("--max-batch: the model runs each request alone".into());
        }
        for shape in &options.shapes {
            give(shape, &plain.model.inputs, &mut of_model)?;
        }
        let mut derived = derive(model.graph(), &of_model)
            .map_err(|FieldError { field, why }| format!("{field}: {why}"))?;
        check::fix(&mut derived.model, &of_model);
        check::fix(&mut derived.signature, &of_model);
        let free = derived.model.inputs.iter().filter(|spec| is_free(spec));
        let free = free.map(|spec| format!("{} {:?}", spec.name, spec.wire_shape())).collect();
        let path = model.path().to_owned();
        Ok(Self { runtime, folder, version, file, derived, path, free })
    }

    /// Rows of the largest batch.
    pub(super) fn limit(&self) -> usize {
        self.derived.signature.batch_limit()
    }

    pub(super) fn batches_requests(&self) -> bool {
        self.derived.signature.max_batch_size > 0
    }

    pub(super) fn batches(&self, sizes: &[usize], seed: u64) -> BTreeMap<usize, Batch> {
        sizes.iter().map(|&rows| (rows, Batch::seeded(&self.derived.signature, rows, seed))).collect()
    }

    /// The instances of a layout, with sessions and batch tensors of their own.
    pub(super) fn start(&self, layout: Layout) -> Result<Vec<Box<dyn Pipeline>>, String> {
        let file = with_threads(self.file, layout.threads);
        let opened = registry::open(self.runtime, self.folder, self.version, &file);
        let Opened { model, .. } = opened.map_err(|error| error.to_string())?;
        (0..layout.instances).map(|_| self.instance(&model)).collect()
    }

    fn instance(&self, onnx: &OnnxModel) -> Result<Box<dyn Pipeline>, String> {
        let Derived { model, conversions, reductions, constants, .. } = &self.derived;
        let running = onnx.start(model, constants).map_err(|error| error.to_string())?;
        Ok(Box::new(Host::new(Cpu::new(model, conversions, reductions), running)))
    }
}

fn with_threads(file: &ModelFile, threads: usize) -> ModelFile {
    let parameters = Parameters { intra_op_thread_count: threads, ..file.parameters.clone() };
    ModelFile { parameters, ..file.clone() }
}

/// Fixes the sizes of an input as its `dims` in `model.toml` would.
fn give(shape: &Shape, inputs: &[TensorSpec], file: &mut ModelFile) -> Result<(), String> {
    let Shape { input, sizes } = shape;
    let wrong = |why: String| Err(format!("--shape {input}: {why}"));
    let Some(spec) = inputs.iter().find(|spec| spec.name == *input) else {
        let names: Vec<_> = inputs.iter().map(|spec| spec.name.as_str()).collect();
        return wrong(format!("the model has no such input; it has {}", names.join(", ")));
    };
    if sizes.len() != spec.dims.len() {
        return wrong(format!("{} sizes were given, the input is {:?}", sizes.len(), spec.wire_shape()));
    }
    for (axis, (&size, fixed)) in sizes.iter().zip(spec.wire_shape()).enumerate() {
        if spec.batch_axis == Some(axis) && size != -1 {
            return wrong(format!("axis {axis} is the batch: write -1 there"));
        }
        if fixed != -1 && size != -1 && size != fixed {
            return wrong(format!("{size} was given, the size of axis {axis} is {fixed}"));
        }
    }
    let known = spec.wire_shape().into_iter().zip(sizes);
    let dims = known.map(|(fixed, &size)| if fixed == -1 { size } else { fixed });
    file.inputs.entry(input.clone()).or_default().dims = Some(dims.collect());
    Ok(())
}

fn is_free(spec: &TensorSpec) -> bool {
    let dims = spec.dims.iter().enumerate();
    dims.into_iter().any(|(axis, dim)| *dim == Dim::Dynamic && spec.batch_axis != Some(axis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_threads_are_others() {
        let text = "max_batch_size = 4\nparameters.inter_op_thread_count = 2\n";
        let wanted = format!("{text}parameters.intra_op_thread_count = 3\n");
        assert_eq!(with_threads(&toml::from_str(text).unwrap(), 3), toml::from_str(&wanted).unwrap());
    }
}
