//! `thalweg models`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::ceiling::Ceiling;
use super::specialise::{self, Specialise};
use super::tune::Tune;
use super::{Failure, repositories, runtime};
use crate::config::RawSettings;
use crate::engine::{Graph, Port};
use crate::fetch::{self, Choice};
use crate::registry::{self, Opened, Origin, Profile, Profiled, derive};
use crate::tensor::{Signature, TensorSpec};

#[derive(Subcommand)]
pub enum Models {
    /// Fetch ONNX Runtime and the bundled models, as pinned in models/fetch.lock
    Fetch(Fetch),
    /// List the models of the repository
    List(Repository),
    /// Show what a model takes and gives, and the configuration derived from it
    Inspect(Inspect),
    /// Make a simpler model of what model.toml fixes, to be served in place of the original
    Specialise(Specialise),
    /// Measure a model on this machine, and recommend batch size, instances and threads
    Tune(Box<Tune>),
    /// Measure what a model does on a device by itself, and what lanes that are fed from memory get out of it
    Ceiling(Box<Ceiling>),
}

#[derive(Args)]
pub struct Fetch {
    /// Only these packages of the lock file
    #[arg(conflicts_with = "cuda")]
    packages: Vec<String>,
    /// Also the CUDA runtime: all that a GPU needs beside its driver, 1.4 GB, in part under NVIDIA's licences
    #[arg(long)]
    cuda: bool,
    /// Where `models` and `runtime` are, or will be
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    root: PathBuf,
}

/// The settings that matter without a server.
#[derive(Args)]
pub struct Repository {
    #[command(flatten)]
    settings: RawSettings,
}

#[derive(Args)]
pub struct Inspect {
    /// A model of the repository, or a path to an ONNX file
    model: String,
    #[command(flatten)]
    repository: Repository,
}

impl Models {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Fetch(fetch) => fetch.run(),
            Self::List(repository) => repository.list(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Specialise(specialise) => specialise.run(),
            Self::Tune(tune) => tune.run(),
            Self::Ceiling(ceiling) => ceiling.run(),
        }
    }
}

impl Fetch {
    fn run(self) -> Result<(), Failure> {
        let root = self.root;
        let mut options = fetch::Options::new(&root);
        options.choice = if self.cuda {
            Choice::With("cuda".to_owned())
        } else if self.packages.is_empty() {
            Choice::Plain
        } else {
            Choice::Only(self.packages)
        };
        let summary = fetch::run(&options, &mut fetch::Lines::stderr())?;
        for unsupported in &summary.unsupported {
            eprintln!("thalweg: {unsupported}");
        }
        println!("{} files fetched, {} were there", summary.placed.len(), summary.present);
        specialise::after_fetch(&root)
    }
}

impl Repository {
    fn list(self) -> Result<(), Failure> {
        let settings = self.settings.validate()?;
        let repositories = repositories::bring(&settings)?;
        for (name, folder) in registry::model_folders(&repositories.folders)? {
            let versions = match registry::read_model(&folder) {
                Ok((_, versions)) => versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
                Err(error) => error.to_string(),
            };
            println!("{name}  {versions}  {}", folder.display());
        }
        Ok(())
    }
}

impl Inspect {
    fn run(self) -> Result<(), Failure> {
        let settings = self.repository.settings.validate()?;
        let runtime = runtime::for_cpu(&settings)?;
        let path = Path::new(&self.model);
        if path.is_file() {
            let one = crate::engine::onnx::SessionOptions { intra_op_threads: 1, inter_op_threads: 1 };
            let model = runtime.open(path, one)?;
            return show(model.graph(), &registry::file::ModelFile::default());
        }
        let repositories = repositories::bring(&settings)?;
        let folder = registry::find_model(&repositories.folders, &self.model)?;
        let (file, versions) = registry::read_model(&folder)?;
        for version in versions {
            println!("{} version {version}", self.model);
            let model = registry::open_original(&runtime, &folder, version, &file)?;
            show(model.graph(), &file)?;
            let Opened { model: served, .. } = registry::open(&runtime, &folder, version, &file)?;
            show_profile(&Profile::find(served.path(), runtime.build()), &file);
        }
        Ok(())
    }
}

/// What `thalweg models tune` has kept.
fn show_profile(profiled: &Profiled, file: &registry::file::ModelFile) {
    let profile = match profiled {
        Profiled::Nothing => return,
        Profiled::Stale(why) => return println!("its profile does not hold: {why}"),
        Profiled::Holds(profile) => profile,
    };
    let Origin { cpu, cpus, .. } = &profile.origin;
    let (instances, threads) = (file.instances(), file.parameters.intra_op_thread_count);
    println!("measured on {cpu}, {cpus} CPU(s), with {instances} instance(s) of {threads} thread(s)");
    for (rows, time) in profile.expected(instances, threads) {
        println!("  {rows:>5} rows {:>12.1} µs", time.as_secs_f64() * 1e6);
    }
}

fn show(graph: &Graph, file: &registry::file::ModelFile) -> Result<(), Failure> {
    for (title, ports) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
        println!("{title} of the file");
        for port in ports {
            println!("  {}", port_line(port));
        }
    }
    println!("derived configuration");
    let derived =
        derive(graph, file).map_err(|error| format!("model.toml: {}: {}", error.field, error.why))?;
    let Signature { inputs, outputs, states, max_batch_size } = &derived.model;
    match max_batch_size {
        0 => println!("  max_batch_size = 0   # no batch axis was found: each request runs alone"),
        _ => println!("  max_batch_size = {max_batch_size}"),
    }
    for (section, specs) in [("inputs", inputs), ("outputs", outputs)] {
        for spec in specs {
            println!("  {}", axis_line(section, spec));
        }
    }
    for state in states {
        println!("  state: {} -> {}", axis_line("inputs", &state.input), axis_line("outputs", &state.output));
    }
    for constant in &derived.constants {
        println!(
            "  inputs.{}.constant = (given)   # {} {:?}",
            constant.name, constant.datatype, constant.shape
        );
    }
    if derived.signature != derived.model {
        let Signature { inputs, outputs, .. } = &derived.signature;
        for (title, specs) in [("clients send", inputs), ("clients get", outputs)] {
            println!("{title}");
            for spec in specs {
                println!("  {}  {}  {:?}", spec.name, spec.datatype, spec.wire_shape());
            }
        }
    }
    Ok(())
}

fn port_line(port: &Port) -> String {
    let dims: Vec<_> = port.dims.iter().map(ToString::to_string).collect();
    let datatype = port.datatype.map_or("(not a tensor of the protocol)", crate::tensor::DataType::as_str);
    format!("{}  {datatype}  [{}]", port.name, dims.join(", "))
}

fn axis_line(section: &str, spec: &TensorSpec) -> String {
    match spec.batch_axis {
        Some(axis) => format!("{section}.{}.batch_axis = {axis}", spec.name),
        None => format!("{section}.{}.batch_axis = false", spec.name),
    }
}
