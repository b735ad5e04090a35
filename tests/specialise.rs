//! Specialised models, made by ONNX Runtime and kept beside their originals.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use expect_test::{Expect, expect};
use tempfile::TempDir;
use thalweg::engine::onnx::OnnxRuntime;
use thalweg::registry::{self, Derived, derive};
use thalweg::specialise::{Found, Kept};
use thalweg::tensor::Dim;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A process can load one.
fn runtime() -> &'static OnnxRuntime {
    static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let library = project("runtime/libonnxruntime.so.1.32.0");
        OnnxRuntime::load(&library).unwrap_or_else(|error| panic!("{error}; `make models` fetches it"))
    })
}

/// A folder of its own with a model of the tests or of the server.
struct Model(TempDir);

impl Model {
    fn new(name: &str) -> Self {
        let folders = [project("tests/models/repository").join(name), project("models").join(name)];
        let folder = folders.iter().find(|folder| folder.join("1/model.onnx").is_file());
        let folder =
            folder.unwrap_or_else(|| panic!("there is no model {name}: run `make test-models models`"));
        let copy = Self(tempfile::tempdir().unwrap());
        fs::create_dir(copy.version()).unwrap();
        fs::copy(folder.join("1/model.onnx"), copy.version().join("model.onnx")).unwrap();
        if let Ok(settings) = fs::read(folder.join("model.toml")) {
            fs::write(copy.settings(), settings).unwrap();
        }
        copy
    }

    fn version(&self) -> PathBuf {
        self.0.path().join("1")
    }

    fn settings(&self) -> PathBuf {
        self.0.path().join("model.toml")
    }

    fn configure(&self, settings: &str) {
        fs::write(self.settings(), settings).unwrap();
    }

    fn specialise(&self) -> Result<(Kept, bool), String> {
        let (file, _) = registry::read_model(self.0.path()).unwrap();
        let made = registry::specialise(runtime(), self.0.path(), 1, &file);
        made.map_err(|error| error.to_string().replace(self.0.path().to_str().unwrap(), "m"))
    }

    /// What is served: which file, and what clients see of it.
    fn served(&self) -> (Found, String) {
        let (file, _) = registry::read_model(self.0.path()).unwrap();
        let opened = registry::open(runtime(), self.0.path(), 1, &file).unwrap();
        let Derived { signature, constants, .. } = derive(opened.model.graph(), &opened.file).unwrap();
        let specs = signature.inputs.iter().chain(signature.states.iter().map(|state| &state.input));
        let dim = |dim: &Dim| if let Dim::Fixed(size) = dim { size.to_string() } else { "?".into() };
        let show = |spec: &thalweg::tensor::TensorSpec| {
            format!("{}[{}]", spec.name, spec.dims.iter().map(dim).collect::<Vec<_>>().join(","))
        };
        let constants = constants.iter().map(|constant| format!("{} given", constant.name));
        (opened.found, specs.map(show).chain(constants).collect::<Vec<_>>().join(" "))
    }

    fn files(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(self.version()).unwrap().map(name).collect();
        names.sort();
        names
    }
}

const ALL: [&str; 3] = ["model.onnx", "model.specialised.onnx", "model.specialised.toml"];

#[test]
fn silero_has_no_control_flow_left() {
    let model = Model::new("silero_vad");
    assert_eq!(model.served(), (Found::Nothing, "input[?,576] state[2,?,128] sr given".into()));
    let (kept, was_there) = model.specialise().unwrap();
    assert_eq!((&kept.control_flow[..], was_there), (&[][..], false));
    assert_eq!(model.files(), ALL);
    assert_eq!(model.served(), (Found::Holds(kept.clone()), "input[?,576] state[2,?,128]".into()));
    assert_eq!(model.specialise(), Ok((kept, true)));
}

#[test]
fn conditions_on_what_is_fixed_are_decided() {
    let left = |name: &str| {
        let (kept, _) = Model::new(name).specialise().unwrap();
        kept.control_flow
    };
    assert_eq!(left("choosy"), [""; 0]);
    assert_eq!(left("moody"), ["If"]);
    let model = Model::new("choosy");
    model.configure("max_batch_size = 8\ninputs.mode.constant = 2");
    assert_eq!(model.specialise().unwrap().0.control_flow, ["If"]);
    model.configure("inputs.x.dims = [-1, 4]");
    assert_eq!(model.specialise().unwrap().0.control_flow, ["If"]);
}

/// Whatever changes, the original is served until the other one is made anew.
#[test]
fn what_it_was_made_from_is_held_against_it() {
    type Change = fn(&Model);
    let in_note = |model: &Model, from: &str, to: &str| {
        let path = model.version().join("model.specialised.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    };
    let cases: [(&str, Change); 9] = [
        ("another original", |model| {
            let other = Model::new("moody");
            fs::copy(other.version().join("model.onnx"), model.version().join("model.onnx")).unwrap();
        }),
        ("another constant", |model| {
            model.configure("max_batch_size = 64\ninputs = { mode.constant = 3, x.dims = [-1, 4] }")
        }),
        ("another size", |model| {
            model.configure("max_batch_size = 64\ninputs = { mode.constant = 2, x.dims = [-1, 5] }")
        }),
        ("a size less", |model| model.configure("max_batch_size = 64\ninputs = { mode.constant = 2 }")),
        ("a result that is cut", |model| fs::write(model.version().join(ALL[1]), "x").unwrap()),
        ("no result", |model| fs::remove_file(model.version().join(ALL[1])).unwrap()),
        ("no note", |model| fs::remove_file(model.version().join(ALL[2])).unwrap()),
        ("half a note", |model| fs::write(model.version().join(ALL[2]), "source = ").unwrap()),
        ("a note with more in it", |model| {
            let path = model.version().join(ALL[2]);
            fs::write(&path, format!("later = 1\n{}", fs::read_to_string(&path).unwrap())).unwrap();
        }),
    ];
    for (what, change) in cases {
        let model = Model::new("choosy");
        model.specialise().unwrap();
        assert!(matches!(model.served().0, Found::Holds(_)), "{what}");
        change(&model);
        assert_eq!(model.served().0, Found::Stale, "{what}");
        assert!(!model.specialise().unwrap().1, "{what}");
        assert!(matches!(model.served().0, Found::Holds(_)), "{what}");
        assert_eq!(model.files(), ALL, "{what}");
    }
    let (build, version) = (runtime().build(), env!("CARGO_PKG_VERSION"));
    // Any build of ONNX Runtime runs what another has made.
    for (key, value, holds) in [("onnxruntime", build, true), ("thalweg", version, false)] {
        let model = Model::new("choosy");
        model.specialise().unwrap();
        in_note(&model, &format!("{key} = \"{value}\""), &format!("{key} = \"another\""));
        assert_eq!(matches!(model.served().0, Found::Holds(_)), holds, "{key}");
    }
    // What fixes nothing may change.
    let model = Model::new("choosy");
    model.specialise().unwrap();
    model.configure("max_batch_size = 2\ninputs = { x.dims = [-1, 4], mode.constant = 2 }");
    assert!(matches!(model.served().0, Found::Holds(_)));
}

#[test]
fn what_cannot_be_done_is_said() {
    let check = |settings: &str, original: Option<&[u8]>, expect: Expect| {
        let model = Model::new("choosy");
        model.configure(settings);
        if let Some(original) = original {
            fs::write(model.version().join("model.onnx"), original).unwrap();
        }
        expect.assert_eq(&model.specialise().unwrap_err());
        assert_eq!(model.files().len(), 1, "{settings}");
    };
    check("", None, expect!["model.toml fixes nothing: give an input a `constant`, or `dims`"]);
    check(
        "inputs.z.constant = 1",
        None,
        expect![["m/model.toml: inputs.z: the model has no such tensor; it has x, mode"]],
    );
    check(
        "inputs.mode.constant = 1.5",
        None,
        expect!["m/model.toml: inputs.mode.constant: 1.5 was given, the input takes INT64"],
    );
    check(
        "inputs.mode.constant = [1, 2]",
        None,
        expect!["m/model.toml: inputs.mode.constant: 2 elements were given, the input takes 1"],
    );
    check(
        "inputs.x.dims = [4]",
        None,
        expect!["m/model.toml: inputs.x.dims: 1 were given, the tensor has 2 dimensions"],
    );
    check(
        "inputs.x.dims = [-1, 4]",
        Some(b"no model"),
        expect!["m/1/model.onnx: the file is damaged, or is no ONNX model"],
    );
    check(
        "inputs.x.dims = [-1, 4]",
        Some(b""),
        expect!["m/1/model.onnx: the file is damaged, or is no ONNX model"],
    );
}
