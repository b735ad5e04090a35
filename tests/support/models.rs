//! A repository of real models, some of them with a stream that the test models do not have.

use std::path::Path;

use tempfile::TempDir;

const MADE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/repository");

/// `[stream]` of models from `x`, FP32 `[-1, 4]`: what is too short is padded with the value that `poison`
/// fails on.
const STREAM: &str = "[stream.bytes]\nhead = 2\ntail = 2\npad = 666\n";

/// A model with state: windows of four floats.
const STATE: &str = "
[sequence_batching]
state = [{ input_name = 'state', output_name = 'state_out' }]
[stream.signal]
encodings = ['f32le']
sample_rate = 1000
window = 4
";

/// Copies test models, each with a `model.toml` of its own; remove with the folder.
pub fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let slow = "max_batch_size = 1\n[dynamic_batching]\nmax_queue_size = 4\n";
    let late = "[dynamic_batching]\ndefault_timeout_microseconds = 1\n";
    for (name, of, toml) in [
        ("accumulator", "accumulator", STATE.to_owned()),
        ("one_stream", "accumulator", STATE.replace("state = [", "max_candidate_sequences = 1\nstate = [")),
        ("add_fp32", "add_fp32", String::new()),
        ("dynamic_text", "dynamic_text", String::new()),
        ("identity_bool", "identity_bool", String::new()),
        ("identity_fp32", "identity_fp32", String::new()),
        ("nan", "nan", STREAM.to_owned()),
        ("poison", "poison", format!("max_batch_size = 64\n{STREAM}")),
        ("late", "poison", format!("{late}{STREAM}")),
        ("slow", "slow", format!("{slow}{STREAM}")),
    ] {
        let version = folder.path().join(name).join("1");
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(folder.path().join(name).join("model.toml"), toml).unwrap();
        let model = Path::new(MADE).join(of).join("1/model.onnx");
        let copied = std::fs::copy(&model, version.join("model.onnx"));
        copied.unwrap_or_else(|error| panic!("{}: {error}; `make test-models` makes it", model.display()));
    }
    folder
}
