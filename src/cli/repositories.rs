//! The repositories of the settings as folders: those that are elsewhere are fetched first.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Failure;
use crate::config::{Addressing, Settings};
use crate::registry;
use crate::remote::{self, Address, Brought};

/// Folders with models in them. While it is kept, nobody else changes what was fetched.
pub(super) struct Repositories {
    pub folders: Vec<PathBuf>,
    _brought: Vec<Brought>,
}

/// Brings what is elsewhere; it blocks until all is here.
pub(super) fn bring(settings: &Settings) -> Result<Repositories, Failure> {
    let addresses = settings.model_repository.iter().map(|given| Address::parse(given));
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    let mut repositories = Repositories { folders: Vec::new(), _brought: Vec::new() };
    if addresses.iter().all(Address::is_folder) {
        repositories.folders.clone_from(&settings.model_repository);
        return Ok(repositories);
    }
    let places: BTreeSet<_> = addresses.iter().map(Address::place).collect();
    if places.len() < addresses.len() {
        return Err("model_repository: the same address was given twice".into());
    }
    let options = remote::Options {
        cache: settings.model_cache.clone(),
        limit: settings.max_repository_size.0 as u64,
        silence: Duration::from_secs(settings.fetch_timeout),
        s3: remote::S3 {
            endpoint: settings.s3_endpoint.clone(),
            virtual_hosted: match settings.s3_addressing {
                Addressing::Auto => None,
                Addressing::Path => Some(false),
                Addressing::Virtual => Some(true),
            },
            variables: settings.aws()?,
        },
    };
    for (address, given) in addresses.iter().zip(&settings.model_repository) {
        match remote::bring(address, &options)? {
            None => repositories.folders.push(given.clone()),
            Some(brought) => {
                repositories.folders.push(inner(&brought.folder));
                repositories._brought.push(brought);
            }
        }
    }
    Ok(repositories)
}

/// The folders of a command that changes models, or is not given all settings: what is elsewhere has to be here.
pub(super) fn folders_only(repositories: &[PathBuf]) -> Result<&[PathBuf], Failure> {
    for given in repositories {
        if !Address::parse(given)?.is_folder() {
            return Err(
                "this command needs a folder of models; serve, models list and models inspect fetch them"
                    .into(),
            );
        }
    }
    Ok(repositories)
}

/// The repository itself, where an archive has it in a folder of its own.
fn inner(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    match &entries.collect::<Vec<_>>()[..] {
        [only] if only.is_dir() && !registry::is_model(only) => only.clone(),
        _ => folder.to_owned(),
    }
}
