//! The models of a repository, run on the device that is checked.

use std::path::Path;

use super::super::repositories::folders_only;
use super::report::{Model, Run};
use super::{DeviceCheck, Failure};
use crate::check::{self, Target, measure};
use crate::clock::Clock;
use crate::device::Buckets;
use crate::engine::onnx::{OnnxModel, OnnxRuntime};
use crate::registry::{Derived, Opened, derive, model_folders, open, read_model};

/// Larger batches are not timed.
const LARGEST: usize = 64;

/// Each model's times by batch size, and on a GPU whether it answers as the CPU does.
pub(super) fn run(
    options: &DeviceCheck,
    library: &Path,
    target: &Target,
    clock: Clock,
) -> Result<Vec<Model>, Failure> {
    let folders = model_folders(folders_only(&options.model_repository)?)?;
    let runtime = OnnxRuntime::load(library)?;
    let mut models = Vec::new();
    for (name, folder) in folders {
        let (file, versions) = read_model(&folder)?;
        for version in versions {
            let Opened { model, file, .. } = open(&runtime, &folder, version, &file)?;
            let derived = derive(model.graph(), &file);
            let mut derived = derived.map_err(|error| format!("{name}: {}: {}", error.field, error.why))?;
            check::fix(&mut derived.model, &file);
            let mut told = Model::new(&name, version);
            let graphs = file.optimization.cuda.graphs;
            if let Err(why) = one(&model, &derived, options, graphs, target, clock, &mut told) {
                told.error = Some(why);
            }
            models.push(told);
        }
    }
    Ok(models)
}

fn one(
    model: &OnnxModel,
    derived: &Derived,
    options: &DeviceCheck,
    graphs: bool,
    target: &Target,
    clock: Clock,
    told: &mut Model,
) -> Result<(), String> {
    let signature = &derived.model;
    let buckets = Buckets::new(signature.batch_limit().min(LARGEST), &[]);
    let mut pipeline = match check::start(target, model, derived, &buckets, graphs) {
        // As the server does.
        Err(_) if graphs => check::start(target, model, derived, &buckets, false)?,
        pipeline => pipeline?,
    };
    if let Target::Gpu(_) = target {
        let mut cpu = check::start(&Target::Cpu, model, derived, &buckets, false)?;
        let sizes = buckets.sizes();
        let difference = measure::difference(&mut *pipeline, &mut *cpu, signature, sizes, options.seed)?;
        told.difference = Some(difference);
        if difference > options.tolerance {
            told.error = Some(format!("its results differ from the CPU's by {difference:.1e}"));
        }
    }
    let times = measure::run_times(&mut *pipeline, signature, buckets.sizes(), options.seed, clock)?;
    told.runs = times.into_iter().map(|(rows, time)| Run::new(rows, time)).collect();
    Ok(())
}
