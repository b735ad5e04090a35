//! `thalweg models specialise`, and what `models fetch` does of it.

use std::path::Path;

use clap::Args;

use super::repositories::folders_only;
use super::{Failure, runtime};
use crate::config::RawSettings;
use crate::engine::onnx::OnnxRuntime;
use crate::registry::file::ModelFile;
use crate::registry::{self, RegistryError};
use crate::specialise::Kept;

#[derive(Args)]
pub struct Specialise {
    /// A model of the repository
    model: String,
    /// Only this version [default: all that are served]
    #[arg(long = "version", value_name = "N")]
    number: Option<u64>,
    #[command(flatten)]
    settings: RawSettings,
}

impl Specialise {
    pub fn run(self) -> Result<(), Failure> {
        let settings = self.settings.validate()?;
        let folder = registry::find_model(folders_only(&settings.model_repository)?, &self.model)?;
        let runtime = runtime::for_cpu(&settings)?;
        let (file, versions) = registry::read_model(&folder)?;
        for version in self.number.map_or(versions, |number| vec![number]) {
            specialise(&runtime, &self.model, &folder, version, &file)?;
        }
        Ok(())
    }
}

/// Specialises the models below `root` that ask for it. Their originals serve as well, so a model that cannot be
/// specialised is told and no more.
pub fn after_fetch(root: &Path) -> Result<(), Failure> {
    let models = match registry::model_folders(&[root.join("models")]) {
        Err(RegistryError::Empty(_)) => return Ok(()),
        models => models?,
    };
    let mut asking = Vec::new();
    for (name, folder) in models {
        match registry::read_model(&folder) {
            Ok((file, versions)) if file.specialise => asking.push((name, folder, file, versions)),
            Ok(_) | Err(RegistryError::NoVersion(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if asking.is_empty() {
        return Ok(());
    }
    let runtime = match OnnxRuntime::load(&root.join(runtime::FOR_CPU)) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("thalweg: no model was specialised: {error}");
            return Ok(());
        }
    };
    for (name, folder, file, versions) in asking {
        for version in versions {
            if let Err(failure) = specialise(&runtime, &name, &folder, version, &file) {
                eprintln!("thalweg: {name} version {version} was not specialised: {failure}");
            }
        }
    }
    Ok(())
}

fn specialise(
    runtime: &OnnxRuntime,
    name: &str,
    folder: &Path,
    version: u64,
    file: &ModelFile,
) -> Result<(), RegistryError> {
    let (Kept { path, control_flow }, was_there) = registry::specialise(runtime, folder, version, file)?;
    let what = if was_there { "is specialised already" } else { "was specialised" };
    println!("{name} version {version} {what}: {}", path.display());
    if !control_flow.is_empty() {
        let operators = control_flow.join(", ");
        eprintln!(
            "thalweg: {name} version {version} still has control flow ({operators}): it depends on what is not fixed"
        );
    }
    Ok(())
}
