//! ONNX Runtime.

mod bound;
mod session;
mod strings;
mod values;

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, ValueType};
use parking_lot::Mutex;

use super::{Bound, Constant, Engine, Graph, Port, PortDim, Running, Site};
use crate::device::Placed;
use crate::error::{Code, Error, Result};
use crate::tensor::Signature;

/// ONNX Runtime's library, loaded; a process can load one.
#[derive(Clone)]
pub struct OnnxRuntime {
    environment: Environment,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("ONNX Runtime is not at {0}: run `thalweg models fetch`, or name its library with --onnxruntime")]
    Missing(PathBuf),
    #[error("ONNX Runtime at {path} cannot be loaded: {why}")]
    Broken { path: PathBuf, why: String },
}

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("there is no file {0}")]
    Missing(PathBuf),
    #[error("ONNX Runtime cannot load {path}: {why}")]
    Broken { path: PathBuf, why: String },
}

/// What ONNX Runtime says of a model that it does not take.
#[derive(Debug, thiserror::Error)]
#[error("ONNX Runtime refuses it: {0}")]
pub struct Refused(String);

/// How ONNX Runtime runs a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads inside one operator; 1 runs on the lane's own thread.
    pub intra_op_threads: usize,
    /// Threads for operators that do not depend on each other; 1 runs them one by one.
    pub inter_op_threads: usize,
}

impl OnnxRuntime {
    pub fn load(library: &Path) -> Result<Self, LoadError> {
        if !library.exists() {
            return Err(LoadError::Missing(library.to_owned()));
        }
        let broken = |why: String| LoadError::Broken { path: library.to_owned(), why };
        // A relative path without a folder would be looked up in the system's library path.
        let path = library.canonicalize().map_err(|error| broken(error.to_string()))?;
        let builder = ort::init_from(path).map_err(|error| broken(error.to_string()))?;
        let environment = builder
            .with_name("thalweg")
            .with_telemetry(false)
            .build()
            .map_err(|error| broken(error.to_string()))?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        Ok(Self { environment })
    }

    /// Loads a model and reads what it takes and gives.
    pub fn open(&self, path: &Path, options: SessionOptions) -> Result<OnnxModel, ModelError> {
        if !path.is_file() {
            return Err(ModelError::Missing(path.to_owned()));
        }
        let broken = |why: String| ModelError::Broken { path: path.to_owned(), why };
        let session = self.session(path, options, Site::Host).map_err(|error| broken(one_line(&error)))?;
        let graph = graph_of(&session);
        let first = Mutex::new(Some(session));
        Ok(OnnxModel { runtime: self.clone(), path: path.to_owned(), options, graph, first })
    }

    /// Which build it is; what two builds make of a model may differ.
    pub fn build(&self) -> &'static str {
        let build = ort::info();
        build.strip_prefix("ORT Build Info: ").unwrap_or(build)
    }

    /// Reads what a model in memory takes and gives.
    pub fn graph_of(&self, model: &[u8]) -> Result<Graph, Refused> {
        let session = || self.bare(GraphOptimizationLevel::Disable)?.commit_from_memory(model);
        session().map(|session| graph_of(&session)).map_err(|error| Refused(one_line(&error)))
    }

    /// Writes what the basic optimisations make of a model in memory: constants are computed, conditions that are
    /// constant are decided, and nothing is put in that only some devices know.
    pub fn fold(&self, model: &[u8], to: &Path) -> Result<(), Refused> {
        let session = || {
            let builder = self.bare(GraphOptimizationLevel::Level1)?;
            builder.with_optimized_model_path(to)?.commit_from_memory(model)
        };
        session().map(drop).map_err(|error| Refused(one_line(&error)))
    }

    /// For a session that nobody runs.
    fn bare(&self, level: GraphOptimizationLevel) -> ort::Result<SessionBuilder> {
        Ok(Session::builder(&self.environment)?
            .with_optimization_level(level)?
            .with_intra_threads(1)?
            .with_log_level(ort::logging::LogLevel::Fatal)?)
    }

    fn session(&self, path: &Path, options: SessionOptions, site: Site) -> ort::Result<Session> {
        let builder = Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(options.intra_op_threads)?
            .with_inter_threads(options.inter_op_threads)?
            // A thread that spins for work takes a core from connections and other lanes.
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            // What goes wrong comes back as a result. Lines on standard error beside it would let a client fill
            // the log with requests that fail.
            .with_log_level(ort::logging::LogLevel::Fatal)?;
        match site {
            Site::Host => builder,
            Site::Cuda { .. } => builder.with_execution_providers([bound::provider(site)])?,
        }
        .commit_from_file(path)
    }
}

/// A model that ONNX Runtime has read.
pub struct OnnxModel {
    runtime: OnnxRuntime,
    path: PathBuf,
    options: SessionOptions,
    graph: Graph,
    /// The session that read the graph; the first lane takes it.
    first: Mutex<Option<Session>>,
}

impl OnnxModel {
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A running half on a GPU whose inputs and outputs are in the host's memory: ONNX Runtime copies them.
    pub fn start_on(
        &self,
        site: Site,
        signature: &Signature,
        constants: &[Constant],
    ) -> Result<Box<dyn Running>> {
        let session = self.session_on(site)?;
        Ok(Box::new(session::OnnxSession::new(session, signature, constants)?))
    }

    /// A running half whose tensors have their places: for each bucket those of the inputs, then states, and of the
    /// outputs, then states.
    pub fn bind(
        &self,
        site: Site,
        signature: &Signature,
        constants: &[Constant],
        buckets: &[(Vec<Placed>, Vec<Placed>)],
    ) -> Result<Box<dyn Bound>> {
        let session = self.session_on(site)?;
        Ok(Box::new(bound::BoundSession::new(session, site, signature, constants, buckets)?))
    }

    fn session_on(&self, site: Site) -> Result<Session> {
        let session = self.runtime.session(&self.path, self.options, site);
        session.map_err(|error| Error::new(Code::Internal, one_line(&error)))
    }
}

impl Engine for OnnxModel {
    fn start(&self, signature: &Signature, constants: &[Constant]) -> Result<Box<dyn Running>> {
        let internal = |error: ort::Error| Error::new(Code::Internal, one_line(&error));
        let first = self.first.lock().take();
        let session = match first {
            Some(session) => session,
            None => self.runtime.session(&self.path, self.options, Site::Host).map_err(internal)?,
        };
        Ok(Box::new(session::OnnxSession::new(session, signature, constants)?))
    }
}

fn graph_of(session: &Session) -> Graph {
    Graph {
        inputs: session.inputs().iter().map(port).collect(),
        outputs: session.outputs().iter().map(port).collect(),
    }
}

fn port(outlet: &Outlet) -> Port {
    let name = outlet.name().to_owned();
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, dimension_symbols } => {
            let dims = shape.iter().zip(dimension_symbols.iter()).map(|(&size, symbol)| {
                match (usize::try_from(size), symbol.as_str()) {
                    (Ok(size), _) => PortDim::Fixed(size),
                    (Err(_), "") => PortDim::Unknown,
                    (Err(_), symbol) => PortDim::Symbol(symbol.to_owned()),
                }
            });
            Port { name, datatype: values::datatype(*ty), dims: dims.collect() }
        }
        _ => Port { name, datatype: None, dims: Vec::new() },
    }
}

/// ONNX Runtime's messages run over several lines and end in a newline.
fn one_line<R>(error: &ort::Error<R>) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
