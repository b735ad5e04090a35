//! From folders to models that are served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::file::{ModelFile, VersionPolicy};
use super::gpus::{Gpus, Home};
use super::instance::Blueprint;
use super::{
    FieldError, ModelConfigError, Opened, Profile, Profiled, Registry, RegistryError, Served, Stream,
    Telling, Versions, derive, open, state,
};
use crate::batcher::Policy;
use crate::clock::Clock;
use crate::engine::onnx::{OnnxModel, OnnxRuntime};
use crate::lane::{Cores, Feed};
use crate::metrics::Metrics;
use crate::queue::{self, Memory, Places};
use crate::specialise::{Found, Kept};
use crate::streams::{Sequences, Streams};

/// A place in a queue takes about 256 bytes from the start: this many take 256 MiB.
const MAX_QUEUE_SIZE: usize = 1 << 20;
/// A device works on one batch, copies one in and one out; each more only makes requests wait there.
const MAX_BATCHES_IN_FLIGHT: usize = 4;

/// What it takes to load models.
pub struct Loader {
    pub runtime: OnnxRuntime,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub memory: Memory,
    pub cores: Arc<Cores>,
    pub gpus: Gpus,
}

/// The models in some folders, by name.
pub fn model_folders(repositories: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, RegistryError> {
    let mut found = BTreeMap::new();
    for repository in repositories {
        let unreadable = |why| RegistryError::Repository(repository.clone(), why);
        for entry in std::fs::read_dir(repository).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.starts_with('.') || !is_model(&path) {
                continue;
            }
            let name = name.to_owned();
            if let Some(other) = found.insert(name.clone(), path.clone()) {
                return Err(RegistryError::Twice(name, other, path));
            }
        }
    }
    if found.is_empty() {
        let folders: Vec<_> = repositories.iter().map(|path| path.display().to_string()).collect();
        return Err(RegistryError::Empty(folders.join(", ")));
    }
    Ok(found)
}

/// Whether a folder is one of a model.
pub fn is_model(folder: &Path) -> bool {
    folder.join("model.toml").exists() || !versions(folder).is_empty()
}

/// The folder of a model.
pub fn find_model(repositories: &[PathBuf], name: &str) -> Result<PathBuf, RegistryError> {
    let mut folders = model_folders(repositories)?;
    folders.remove(name).ok_or_else(|| {
        let names: Vec<_> = folders.keys().map(String::as_str).collect();
        RegistryError::NoModel(name.to_owned(), names.join(", "))
    })
}

/// The versions in a model's folder, oldest first.
fn versions(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut versions: Vec<u64> = entries
        .filter(|entry| entry.path().join("model.onnx").is_file())
        // `01` would be looked for as `1`.
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .parse()
                .ok()
                .filter(|number: &u64| *entry.file_name() == *number.to_string())
        })
        .collect();
    versions.sort_unstable();
    versions
}

/// A model's `model.toml` and the versions that its policy serves.
pub fn read_model(folder: &Path) -> Result<(ModelFile, Vec<u64>), RegistryError> {
    let path = folder.join("model.toml");
    let file = ModelFile::read(&path)?;
    let mut versions = versions(folder);
    if versions.is_empty() {
        return Err(RegistryError::NoVersion(folder.to_owned()));
    }
    match &file.version_policy {
        VersionPolicy::All => {}
        VersionPolicy::Latest { num_versions: 0 } => {
            let why = "0 was given, at least 1 is needed";
            return Err(at(&path, FieldError::new("version_policy.latest.num_versions", why)).into());
        }
        VersionPolicy::Latest { num_versions } => {
            versions.drain(..versions.len().saturating_sub(*num_versions));
        }
        VersionPolicy::Specific { versions: wanted } if wanted.is_empty() => {
            let why = "none was given, at least one is needed";
            return Err(at(&path, FieldError::new("version_policy.specific.versions", why)).into());
        }
        VersionPolicy::Specific { versions: wanted } => {
            if let Some(missing) = wanted.iter().find(|version| !versions.contains(version)) {
                let why = format!("version {missing} was given, the folder has {versions:?}");
                return Err(at(&path, FieldError::new("version_policy.specific.versions", why)).into());
            }
            versions.retain(|version| wanted.contains(version));
        }
    }
    Ok((file, versions))
}

fn at(path: &Path, FieldError { field, why }: FieldError) -> ModelConfigError {
    ModelConfigError { file: path.to_owned(), field, why }
}

impl Loader {
    /// Loads all models; `default` is the one on `/`, or empty for the obvious one.
    pub fn load(&self, repositories: &[PathBuf], default: &str) -> Result<Registry, RegistryError> {
        let mut registry = Registry::default();
        for (name, folder) in model_folders(repositories)? {
            let (file, numbers) = read_model(&folder)?;
            for version in numbers {
                let served = self.start(&name, &folder, version, &file)?;
                tracing::info!(
                    model = name,
                    version,
                    max_batch_size = served.signature.max_batch_size,
                    "model is ready"
                );
                registry.insert(served);
            }
        }
        registry.default = pick_default(&registry.models, default)?;
        Ok(registry)
    }

    fn start(
        &self,
        name: &str,
        folder: &Path,
        version: u64,
        file: &ModelFile,
    ) -> Result<Served, RegistryError> {
        let begun = self.clock.now();
        let config = folder.join("model.toml");
        let wrong = |error: FieldError| RegistryError::from(at(&config, error));
        let cannot = |why: String| RegistryError::Start(name.to_owned(), why);

        let Opened { model, file: of_model, found } = open(&self.runtime, folder, version, file)?;
        tell(name, version, file, &found);
        let profile = profile(name, version, &self.runtime, &model);
        let mut derived = derive(model.graph(), &of_model).map_err(wrong)?;
        if let Some(sequences) = &file.sequence_batching {
            state::read_initial(&mut derived.model.states, sequences, folder).map_err(wrong)?;
        }
        let signature = Arc::new(derived.signature.clone());
        let policy = policy(file, signature.batch_limit()).map_err(wrong)?;
        let stream = file.stream.as_ref().map(|stream| Stream::new(stream, &signature));
        let stream = stream.transpose().map_err(wrong)?;
        if let (Some(stream), [conversion]) = (&stream, &mut derived.conversions[..]) {
            *conversion = stream.conversion();
        }
        let output = file.output.as_ref().map(|output| Telling::load(output, &signature, folder));
        let output = output.transpose().map_err(wrong)?;

        let version_text = version.to_string();
        let metrics = self.metrics.model(name, &version_text);
        let homes = self.gpus.homes(&file.instance_group);
        let homes = homes.map_err(|unfit| RegistryError::Gpu(name.to_owned(), unfit))?;
        let instances = homes.len();
        // A stream that lost a step would lose the thread, so a step of each has a place of its own.
        let seats = file.sequence_batching.as_ref().map_or(0, |file| file.max_candidate_sequences);
        let queue = || {
            let places = Places::new(file.dynamic_batching.max_queue_size + seats.div_ceil(instances));
            let (producer, requests) = queue::channel(places, self.memory.clone());
            (producer, Feed::new(requests, policy.clone(), self.clock, Arc::clone(&metrics)))
        };
        // Lanes share a queue, unless each keeps the state of its own streams.
        let keeps_state = !signature.states.is_empty();
        let (producers, feeds): (Vec<_>, Vec<_>) =
            (0..if keeps_state { instances } else { 1 }).map(|_| queue()).unzip();
        let blueprint = Arc::new(Blueprint {
            name: name.to_owned(),
            file: file.clone(),
            model: Arc::new(model),
            derived,
            capacity: seats.div_ceil(instances),
            cores: Arc::clone(&self.cores),
        });
        let mut graphs = false;
        let watched = feeds.iter().map(Arc::downgrade).collect();
        for (index, (home, feed)) in homes.iter().zip(feeds.iter().cycle()).enumerate() {
            let started = blueprint.start(index, home, feed, self.clock, &metrics);
            graphs |= started.map_err(|error| cannot(error.to_string()))?;
        }
        let on_gpus = homes.iter().filter(|home| matches!(home, Home::Gpu(_))).count();
        let device = match on_gpus {
            0 => "cpu",
            count if count == instances => "cuda",
            _ => "cpu and cuda",
        };
        metrics.info(signature.max_batch_size, instances, device, graphs);
        metrics.loaded(self.clock.now() - begun);
        let sequences = file.sequence_batching.as_ref();
        let streams = sequences.map(|file| Streams::new(instances, file.max_candidate_sequences));
        let sequences = sequences.zip(streams.as_ref()).map(|(file, streams)| {
            let idle = Duration::from_micros(file.max_sequence_idle_microseconds);
            Sequences::new(Arc::clone(streams), idle)
        });
        let (name, file) = (name.to_owned(), file.clone());
        Ok(Served {
            name,
            version,
            version_text,
            signature,
            stream,
            output,
            file,
            producers,
            feeds: watched,
            streams,
            sequences,
            metrics,
            profile,
        })
    }
}

/// What was measured of the file that is served.
fn profile(model: &str, version: u64, runtime: &OnnxRuntime, onnx: &OnnxModel) -> Option<Profile> {
    match Profile::find(onnx.path(), runtime.build()) {
        Profiled::Holds(profile) => Some(profile),
        Profiled::Nothing => None,
        Profiled::Stale(why) => {
            tracing::info!(
                model,
                version,
                why,
                "the profile is not used; `thalweg models tune` makes another"
            );
            None
        }
    }
}

/// Which file is served, where there is a choice.
fn tell(model: &str, version: u64, file: &ModelFile, found: &Found) {
    match found {
        Found::Holds(Kept { control_flow, .. }) => {
            let control_flow = control_flow.join(" ");
            tracing::info!(model, version, control_flow, "the specialised model is served");
        }
        Found::Stale => tracing::warn!(
            model,
            version,
            "the specialised model was made from another file, for other settings or by another version, so the \
             original is served; run `thalweg models specialise {model}`"
        ),
        Found::Nothing if file.specialise => tracing::warn!(
            model,
            version,
            "there is no specialised model, so the original is served; run `thalweg models specialise {model}`"
        ),
        Found::Nothing => {}
    }
}

/// When to run what; whatever it says of batches and instances that cannot be is an error.
pub fn policy(file: &ModelFile, limit: usize) -> Result<Policy, FieldError> {
    let batching = &file.dynamic_batching;
    let field = |name: &str| format!("dynamic_batching.{name}");
    if let Some(size) = batching.preferred_batch_size.iter().find(|&&size| size == 0 || size > limit) {
        let why = format!("{size} was given, a batch holds 1 to {limit} rows (max_batch_size)");
        return Err(FieldError::new(field("preferred_batch_size"), why));
    }
    if !(1..=MAX_QUEUE_SIZE).contains(&batching.max_queue_size) {
        let why = format!(
            "{} was given, 1 to {MAX_QUEUE_SIZE} are possible; a queue without bound is not offered",
            batching.max_queue_size
        );
        return Err(FieldError::new(field("max_queue_size"), why));
    }
    if batching.default_priority_level > batching.priority_levels {
        let why = format!(
            "{} was given, there are {} priority_levels",
            batching.default_priority_level, batching.priority_levels
        );
        return Err(FieldError::new(field("default_priority_level"), why));
    }
    if file.instance_group.iter().any(|group| group.count == 0) {
        return Err(FieldError::new("instance_group.count", "0 was given, at least 1 is needed"));
    }
    let cuda = &file.optimization.cuda;
    if let Some(spec) = cuda.graph_spec.iter().find(|spec| !(1..=limit).contains(&spec.batch_size)) {
        let why = format!("{} was given, a batch holds 1 to {limit} rows (max_batch_size)", spec.batch_size);
        return Err(FieldError::new("optimization.cuda.graph_spec.batch_size", why));
    }
    if !(1..=MAX_BATCHES_IN_FLIGHT).contains(&cuda.batches_in_flight) {
        let why = format!("{} was given, 1 to {MAX_BATCHES_IN_FLIGHT} are possible", cuda.batches_in_flight);
        return Err(FieldError::new("optimization.cuda.batches_in_flight", why));
    }
    Ok(Policy {
        max_batch_size: limit,
        preferred_batch_size: batching.preferred_batch_size.clone(),
        max_queue_delay: Duration::from_micros(batching.max_queue_delay_microseconds),
        priority_levels: batching.priority_levels.max(1),
    })
}

/// The named model, else the only one, else the only one that takes any message, else the only one with a
/// stream.
fn pick_default(models: &BTreeMap<String, Versions>, named: &str) -> Result<Option<String>, RegistryError> {
    if !named.is_empty() {
        return match models.contains_key(named) {
            true => Ok(Some(named.to_owned())),
            false => Err(RegistryError::NoDefault(named.to_owned())),
        };
    }
    let only = |fits: &dyn Fn(&Served) -> bool| {
        let mut found = models.iter().filter(|(_, versions)| versions.values().any(|served| fits(served)));
        found.next().filter(|_| found.next().is_none()).map(|(name, _)| name.clone())
    };
    let takes_any = |served: &Served| matches!(served.stream, Some(Stream::Bytes(_)));
    Ok(only(&|_| true).or_else(|| only(&takes_any)).or_else(|| only(&|served| served.stream.is_some())))
}
