//! The model file that is served: the specialised one where it holds, else the original.

use std::path::Path;

use super::file::{InputFile, ModelFile};
use super::{Derived, FieldError, ModelConfigError, RegistryError, derive, sizes};
use crate::engine::onnx::{ModelError, OnnxModel, OnnxRuntime, SessionOptions};
use crate::specialise::{Found, Kept, Place};

/// A version's model, as it is to be run.
pub struct Opened {
    pub model: OnnxModel,
    /// What `model.toml` has still to say: the constants are a part of a specialised model.
    pub file: ModelFile,
    pub found: Found,
}

/// Reads the model file that is to be served of a version.
pub fn open(
    runtime: &OnnxRuntime,
    folder: &Path,
    version: u64,
    file: &ModelFile,
) -> Result<Opened, RegistryError> {
    let found = place(runtime, &folder.join(version.to_string()), file).find();
    let (model, file) = match &found {
        Found::Holds(Kept { path, .. }) => {
            let mut file = file.clone();
            file.inputs.retain(|_, input| input.constant.is_none());
            (runtime.open(path, options(&file))?, file)
        }
        Found::Stale | Found::Nothing => (open_original(runtime, folder, version, file)?, file.clone()),
    };
    Ok(Opened { model, file, found })
}

/// Reads a version's model file as it was brought here.
pub fn open_original(
    runtime: &OnnxRuntime,
    folder: &Path,
    version: u64,
    file: &ModelFile,
) -> Result<OnnxModel, ModelError> {
    runtime.open(&folder.join(version.to_string()).join("model.onnx"), options(file))
}

/// Makes a version's specialised model, unless there is one that holds; says whether there was.
pub fn specialise(
    runtime: &OnnxRuntime,
    folder: &Path,
    version: u64,
    file: &ModelFile,
) -> Result<(Kept, bool), RegistryError> {
    let home = folder.join(version.to_string());
    let place = place(runtime, &home, file);
    if let Found::Holds(kept) = place.find() {
        return Ok((kept, true));
    }
    let wrong = |FieldError { field, why }| ModelConfigError { file: folder.join("model.toml"), field, why };
    let original = place.original()?;
    let Derived { constants, .. } = derive(&original.graph, file).map_err(wrong)?;
    let graph = sizes::fix(&original.graph, file).map_err(wrong)?;
    Ok((place.make(&original, &graph, &constants)?, false))
}

fn options(file: &ModelFile) -> SessionOptions {
    SessionOptions {
        intra_op_threads: file.parameters.intra_op_thread_count,
        inter_op_threads: file.parameters.inter_op_thread_count,
    }
}

fn place<'a>(runtime: &'a OnnxRuntime, home: &'a Path, file: &ModelFile) -> Place<'a> {
    let convolutions_as_gemm = file.optimization.convolutions_as_gemm;
    Place { runtime, folder: home, fixed: fixed(file), convolutions_as_gemm }
}

/// What `model.toml` fixes, as it says it.
fn fixed(file: &ModelFile) -> toml::Table {
    let of_input = |InputFile { constant, dims, .. }: &InputFile| {
        let dims = dims.clone().map(toml::Value::from);
        let settings = [("constant", constant.clone()), ("dims", dims)];
        settings
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect::<toml::Table>()
    };
    let inputs = file.inputs.iter().map(|(name, input)| (name.clone(), of_input(input)));
    inputs.filter(|(_, settings)| !settings.is_empty()).map(|(name, table)| (name, table.into())).collect()
}
