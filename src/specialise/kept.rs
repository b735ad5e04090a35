//! Where a specialised model is kept, and when it still holds.
//!
//! Beside `model.onnx` lie `model.specialised.onnx` and `model.specialised.toml`, which says what the former was made
//! from. Both take their places only when they are complete. Where the two and the original do not agree in each
//! checksum and setting, there is no specialised model.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Original, SpecialiseError, Work, disk};
use crate::checksum::{sha256, sha256_of};
use crate::engine::onnx::OnnxRuntime;
use crate::engine::{Constant, Graph};

const ORIGINAL: &str = "model.onnx";
const RESULT: &str = "model.specialised.onnx";
const NOTE: &str = "model.specialised.toml";
const HEAD: &str =
    "# Made by `thalweg models specialise`, for this very file. Remove it to serve the original.\n";

/// What is written beside the result. Two are compared as text: a constant may be a NaN.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    source: String,
    source_sha256: String,
    thalweg: String,
    onnxruntime: String,
    result_sha256: String,
    /// The operators of control flow that are left.
    control_flow: Vec<String>,
    #[serde(default)]
    convolutions_as_gemm: bool,
    /// What `model.toml` fixes.
    fixed: toml::Table,
}

/// A specialised model that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub path: PathBuf,
    pub control_flow: Vec<String>,
}

/// What lies beside a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// It was made from another file, for other settings or by another version.
    Stale,
    Holds(Kept),
}

/// A version's folder, and what its specialised model would have to be made from.
pub struct Place<'a> {
    pub runtime: &'a OnnxRuntime,
    pub folder: &'a Path,
    pub fixed: toml::Table,
    /// Whether results may differ in their last bits, to be there sooner.
    pub convolutions_as_gemm: bool,
}

impl Place<'_> {
    /// Looks for a specialised model. What cannot be read does not hold.
    pub fn find(&self) -> Found {
        let path = self.folder.join(RESULT);
        let Ok(text) = fs::read_to_string(self.folder.join(NOTE)) else {
            return if path.exists() { Found::Stale } else { Found::Nothing };
        };
        let holds = || {
            let note: Note = toml::from_str(&text).ok()?;
            let source = sha256_of(&self.folder.join(ORIGINAL)).ok()?;
            let mut wanted = self.note(source, note.result_sha256.clone(), note.control_flow.clone());
            // Any build runs the file, such as that for a GPU, whichever has made it.
            wanted.onnxruntime.clone_from(&note.onnxruntime);
            let same = toml::to_string(&note).ok()? == toml::to_string(&wanted).ok()?;
            (same && sha256_of(&path).ok()? == note.result_sha256).then_some(note.control_flow)
        };
        holds().map_or(Found::Stale, |control_flow| Found::Holds(Kept { path: path.clone(), control_flow }))
    }

    /// Reads the original, to make a specialised model of.
    pub fn original(&self) -> Result<Original, SpecialiseError> {
        if self.fixed.is_empty() && !self.convolutions_as_gemm {
            return Err(SpecialiseError::Nothing);
        }
        Original::read(self.folder.join(ORIGINAL), self.runtime)
    }

    /// Makes the specialised model. `graph` and `constants` are what the settings make of the original.
    pub fn make(
        &self,
        original: &Original,
        graph: &Graph,
        constants: &[Constant],
    ) -> Result<Kept, SpecialiseError> {
        let [result, note] = [RESULT, NOTE].map(|name| self.folder.join(name));
        // Another process may be doing the same.
        let part = Part(self.folder.join(format!(".{RESULT}.{}", std::process::id())));
        let work = Work {
            runtime: self.runtime,
            original,
            scratch: &part.0,
            convolutions_as_gemm: self.convolutions_as_gemm,
        };
        let (model, control_flow) = work.run(graph, constants)?;
        let told = self.note(sha256(&original.bytes), sha256(&model), control_flow.clone());
        let text = toml::to_string(&told).map_err(io::Error::other).map_err(disk(&note))?;
        let place = |bytes: &[u8], place: &Path| {
            fs::write(&part.0, bytes).and_then(|()| fs::rename(&part.0, place)).map_err(disk(place))
        };
        place(&model, &result)?;
        // Until here the old note and the new result do not agree, which is as good as having neither.
        place(format!("{HEAD}{text}").as_bytes(), &note)?;
        Ok(Kept { path: result, control_flow })
    }

    fn note(&self, source_sha256: String, result_sha256: String, control_flow: Vec<String>) -> Note {
        Note {
            source: ORIGINAL.to_owned(),
            source_sha256,
            thalweg: env!("CARGO_PKG_VERSION").to_owned(),
            onnxruntime: self.runtime.build().to_owned(),
            result_sha256,
            control_flow,
            convolutions_as_gemm: self.convolutions_as_gemm,
            fixed: self.fixed.clone(),
        }
    }
}

/// A file on its way to its place, removed if it does not get there.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
