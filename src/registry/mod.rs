//! The model repository: `<folder>/<model>/[model.toml]` and `<folder>/<model>/<version>/model.onnx`.
//!
//! Loading joins what the model file says with what `model.toml` corrects, starts the lanes, and gives
//! connections a [`Served`] to look up. A model that is not right stops the start, with a sentence that names
//! the file, the field, what was found and what would be right.

mod constant;
mod convert;
mod derive;
pub mod file;
mod gpus;
mod instance;
mod labels;
mod load;
mod output;
mod profile;
mod reduce;
mod served;
mod sizes;
mod special;
mod state;
mod stream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use derive::{Derived, derive};
pub use gpus::{Gpus, Home};
pub use instance::Blueprint;
pub use labels::Labels;
pub use load::{Loader, find_model, is_model, model_folders, policy, read_model};
pub use output::{EventRule, Telling};
pub use profile::{Origin, PROFILE, Profile, Profiled, ProfiledRun, cpus};
pub use served::Served;
pub use special::{Opened, open, open_original, specialise};
pub use stream::{ByteStream, SignalStream, Stream};

use crate::device::Unfit;
use crate::engine::onnx::ModelError;
use crate::error::{Code, Error, Result};
use crate::specialise::SpecialiseError;

/// Something in `model.toml` that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub why: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{file}: {field}{}{why}", if field.is_empty() { "" } else { ": " }, file = file.display())]
pub struct ModelConfigError {
    pub file: PathBuf,
    pub field: String,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the model repository {0} cannot be read: {1}")]
    Repository(PathBuf, std::io::Error),
    #[error("there is no model in {0}; a model is a folder with a version in it, such as NAME/1/model.onnx")]
    Empty(String),
    #[error(
        "{0} has no version: it needs a folder named by a number with a model.onnx in it; if it is one of the \
         bundled models, run `thalweg models fetch`"
    )]
    NoVersion(PathBuf),
    #[error("there is no model '{0}'; there are {1}")]
    NoModel(String, String),
    #[error("there are two models named '{0}', in {1} and in {2}")]
    Twice(String, PathBuf, PathBuf),
    #[error(transparent)]
    Config(#[from] ModelConfigError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Specialise(#[from] SpecialiseError),
    #[error("model '{0}' is to run on a GPU, which cannot be used: {1}")]
    Gpu(String, Unfit),
    #[error("model '{0}' cannot be started: {1}")]
    Start(String, String),
    #[error("default_model is '{0}', but no model of that name is served")]
    NoDefault(String),
}

/// The models that are served.
#[derive(Default)]
pub struct Registry {
    models: BTreeMap<String, Versions>,
    default: Option<String>,
}

type Versions = BTreeMap<u64, Arc<Served>>;

impl Registry {
    /// Adds a version of a model.
    pub fn insert(&mut self, served: Served) {
        let versions = self.models.entry(served.name.clone()).or_default();
        versions.insert(served.version, Arc::new(served));
    }

    /// A version of a model; the newest if none is named.
    pub fn get(&self, model: &str, version: Option<&str>) -> Result<&Arc<Served>> {
        let unknown = || Error::new(Code::UnknownModel, format!("no model named '{model}' is served"));
        let versions = self.models.get(model).ok_or_else(unknown)?;
        match version {
            None => versions.last_key_value().map(|(_, served)| served).ok_or_else(unknown),
            Some(version) => {
                version.parse().ok().and_then(|number: u64| versions.get(&number)).ok_or_else(|| {
                    let served: Vec<_> = versions.keys().map(u64::to_string).collect();
                    let message =
                        format!("model '{model}' has no version '{version}'; it has {}", served.join(", "));
                    Error::new(Code::UnknownVersion, message)
                })
            }
        }
    }

    /// The model on `/`.
    pub fn default_model(&self) -> Result<&Arc<Served>> {
        match &self.default {
            Some(name) => self.get(name, None),
            None => {
                let message = "the server has no default model; name one as ?model=NAME";
                Err(Error::new(Code::UnknownModel, message))
            }
        }
    }

    pub fn versions(&self, model: &str) -> Vec<String> {
        self.models.get(model).into_iter().flat_map(BTreeMap::keys).map(u64::to_string).collect()
    }

    /// Every version of every model.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.models.values().flat_map(BTreeMap::values)
    }
}
