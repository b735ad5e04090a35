//! `model.toml` as it is written.
//!
//! Names and meanings are Triton's where Triton has them. `[inputs.NAME]` and `[outputs.NAME]` correct what
//! is read from the model file, and say what clients send and get in its place; `[stream]` and `[output]` say how plain messages become an input, and what
//! is told of an output.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::ModelConfigError;
pub use super::convert::{ConvertFile, Layout};
pub use super::reduce::ReduceFile;
use crate::signal::Encoding;

#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelFile {
    /// Rows a run takes at the most; 0: the model has no batch axis.
    pub max_batch_size: Option<usize>,
    /// Whether `models fetch` makes a simpler model of what is fixed.
    pub specialise: bool,
    pub version_policy: VersionPolicy,
    pub dynamic_batching: DynamicBatching,
    pub sequence_batching: Option<SequenceBatching>,
    pub instance_group: Vec<InstanceGroup>,
    pub optimization: Optimization,
    pub parameters: Parameters,
    pub model_warmup: Vec<Warmup>,
    pub inputs: BTreeMap<String, InputFile>,
    pub outputs: BTreeMap<String, GivenFile>,
    pub stream: Option<StreamFile>,
    pub output: Option<OutputFile>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum VersionPolicy {
    All,
    Latest { num_versions: usize },
    Specific { versions: Vec<u64> },
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest { num_versions: 1 }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicBatching {
    /// Sizes worth running at once, while there is still time to wait for more.
    pub preferred_batch_size: Vec<usize>,
    /// How long a free instance may leave a request waiting for others to join it.
    pub max_queue_delay_microseconds: u64,
    /// Requests that may wait; one more is answered `queue_full`.
    pub max_queue_size: usize,
    /// The time-out of requests that name none; 0: none.
    pub default_timeout_microseconds: u64,
    /// Levels of `priority`, 1 the most urgent; 0: requests may not name one.
    pub priority_levels: usize,
    /// The level of requests that name none; 0: the middle one.
    pub default_priority_level: usize,
}

impl Default for DynamicBatching {
    fn default() -> Self {
        Self {
            preferred_batch_size: Vec::new(),
            max_queue_delay_microseconds: 0,
            // Holds one request of each of a few thousand connections; at 1 ms a batch of 32 the last of
            // them waits an eighth of a second.
            max_queue_size: 4096,
            default_timeout_microseconds: 0,
            priority_levels: 0,
            default_priority_level: 0,
        }
    }
}

/// A model with state: each stream, or sequence of requests, has a row of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceBatching {
    /// Streams that may be open at once.
    #[serde(default = "default_sequences")]
    pub max_candidate_sequences: usize,
    /// A sequence of requests that has had no step for so long may be ended.
    #[serde(default = "minute")]
    pub max_sequence_idle_microseconds: u64,
    pub state: Vec<StateFile>,
}

/// An input that takes, in each step, what an output gave in the one before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    pub input_name: String,
    pub output_name: String,
    /// A file beside `model.toml` with one row of little-endian elements; zeros if left out.
    pub initial_state: Option<String>,
}

/// Triton gives a sequence a second; a client that thinks for longer would lose its state.
fn minute() -> u64 {
    60_000_000
}

fn default_sequences() -> usize {
    4096
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceGroup {
    /// Where its instances run; what the setting `device` says if left out.
    #[serde(alias = "device")]
    pub kind: Option<InstanceKind>,
    /// Instances, on each of its GPUs if it runs on GPUs.
    pub count: usize,
    /// Ordinals; all that the driver shows if left out.
    pub gpus: Vec<usize>,
}

impl Default for InstanceGroup {
    fn default() -> Self {
        Self { kind: None, count: 1, gpus: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceKind {
    #[serde(alias = "KIND_CPU")]
    Cpu,
    /// A GPU that is missing is an error.
    #[serde(alias = "KIND_GPU", alias = "gpu")]
    Cuda,
    /// Without a GPU, the CPU.
    #[serde(alias = "KIND_AUTO")]
    Auto,
}

/// How a model is made faster, and uses a GPU.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimization {
    /// Whether its specialised model computes short convolutions as matrix products, which round otherwise.
    pub convolutions_as_gemm: bool,
    pub cuda: CudaFile,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CudaFile {
    /// Whether runs are captured as CUDA graphs, where the model allows.
    pub graphs: bool,
    /// The batch sizes to prepare; powers of two if none is given.
    pub graph_spec: Vec<GraphSpec>,
    /// Batches of an instance that may be under way at once.
    pub batches_in_flight: usize,
}

impl Default for CudaFile {
    fn default() -> Self {
        Self { graphs: true, graph_spec: Vec::new(), batches_in_flight: 2 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSpec {
    pub batch_size: usize,
}

/// Parameters of ONNX Runtime, named as Triton's backend for it names them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    pub intra_op_thread_count: usize,
    pub inter_op_thread_count: usize,
}

impl Default for Parameters {
    /// One thread: batching, not threads, is what makes small runs cheap; big models want more.
    fn default() -> Self {
        Self { intra_op_thread_count: 1, inter_op_thread_count: 1 }
    }
}

/// A run of zeros before the model reports ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    pub batch_size: usize,
}

/// An input of the model.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputFile {
    pub batch_axis: Option<BatchAxis>,
    /// The value of an input that clients do not give: a number, a boolean or a list of them.
    pub constant: Option<toml::Value>,
    /// Its sizes; -1 for what the model file says.
    pub dims: Option<Vec<i64>>,
    /// What clients send in its place.
    pub convert: Option<ConvertFile>,
}

/// An output of the model.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GivenFile {
    pub batch_axis: Option<BatchAxis>,
    /// What clients get in its place.
    pub reduce: Option<ReduceFile>,
}

/// An axis, or `false` for a tensor that belongs to the batch as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum BatchAxis {
    Axis(usize),
    None(bool),
}

/// How plain messages become the model's input.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum StreamFile {
    Bytes(BytesFile),
    Signal(SignalFile),
}

/// Each message, text or binary, is one request: its beginning and its end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BytesFile {
    pub head: usize,
    pub tail: usize,
    /// How many bytes at either end are looked at.
    pub block: Option<usize>,
    #[serde(default)]
    pub strip: bool,
    pub pad: i64,
    /// Messages whose stripped head is shorter are answered without the model.
    #[serde(default)]
    pub min_length: usize,
}

/// Binary messages are pieces of one signal, cut anywhere; windows of it are the steps of a stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalFile {
    /// What clients may send; the first is what they send if they say nothing.
    pub encodings: Vec<Encoding>,
    /// Samples a second, as the model takes them.
    pub sample_rate: u32,
    /// Whether clients may send other rates.
    #[serde(default = "yes")]
    pub resample: bool,
    /// Samples of a window.
    pub window: usize,
    /// Samples from one window to the next; as many as a window has, if left out.
    pub hop: Option<usize>,
    /// Samples before each window that the model takes with it.
    #[serde(default)]
    pub context: usize,
}

/// What is told of an output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum OutputFile {
    Classes(ClassesFile),
    Events(EventsFile),
}

/// The best labels of a classifier.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassesFile {
    /// The output to tell of; may be left out if the model has one.
    pub tensor: Option<String>,
    /// A JSON array of labels: a file beside `model.toml`, with a JSON pointer behind `#`.
    pub labels: String,
    /// A JSON object of what else is known of each label.
    pub attributes: Option<String>,
    #[serde(default = "three")]
    pub top_k: usize,
    /// The output holds logits, not probabilities.
    #[serde(default)]
    pub softmax: bool,
    /// Below it the label is replaced by a fallback.
    #[serde(default)]
    pub threshold: f32,
    /// A JSON object of thresholds for single labels.
    pub thresholds: Option<String>,
    /// A JSON object of labels to rename.
    pub rename: Option<String>,
    #[serde(default)]
    pub fallback: Fallback,
}

/// Where a probability says that something begins and ends, as Silero's own iterator finds it for speech.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsFile {
    /// The output that holds the probability; may be left out if the model has one.
    pub tensor: Option<String>,
    /// What begins and ends: its events are `NAME_start` and `NAME_end`.
    pub name: String,
    /// From this probability on it has begun.
    pub threshold: f64,
    /// Below this one it may have ended; 0.15 less than the threshold, if left out.
    pub lower_threshold: Option<f64>,
    /// What lasts less is not told.
    #[serde(default)]
    pub min_speech_ms: u32,
    /// It has ended when the probability stays low for so long.
    pub min_silence_ms: u32,
    /// Moves starts back and ends on, so that nothing is cut off.
    #[serde(default)]
    pub speech_pad_ms: u32,
}

/// Labels for what the model cannot tell.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    pub text: String,
    pub binary: String,
    pub empty: String,
}

fn yes() -> bool {
    true
}

fn three() -> usize {
    3
}

impl ModelFile {
    /// Its instances, on each GPU if it is on GPUs.
    pub fn instances(&self) -> usize {
        self.instance_group.iter().map(|group| group.count).sum::<usize>().max(1)
    }

    /// The batch axis that is given of an input.
    pub fn input_axis(&self, name: &str) -> Option<BatchAxis> {
        self.inputs.get(name)?.batch_axis
    }

    /// The batch axis that is given of an output.
    pub fn output_axis(&self, name: &str) -> Option<BatchAxis> {
        self.outputs.get(name)?.batch_axis
    }

    /// Reads `model.toml`; a model without one has all defaults.
    pub fn read(path: &Path) -> Result<Self, ModelConfigError> {
        let error = |why: String| ModelConfigError { file: path.to_owned(), field: String::new(), why };
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|why| error(why.to_string().trim_end().to_owned())),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(why) => Err(error(format!("cannot be read: {why}"))),
        }
    }
}
