//! `thalweg models tune` from its command line to a server that runs what it wrote. No time is asserted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use expect_test::{Expect, expect};
use serde_json::Value;
use support::{Client, TestServer};
use tempfile::TempDir;
use thalweg::config::RawSettings;
use thalweg::registry::{Profile, Registry};

/// A repository with one model.
struct Model(TempDir);

impl Model {
    fn new(of: &str, settings: &str) -> Self {
        let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/repository").join(of);
        let model = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(model.path("1")).unwrap();
        fs::copy(made.join("1/model.onnx"), model.path("1/model.onnx")).expect("`make test-models` makes it");
        fs::write(model.path("model.toml"), settings).unwrap();
        model
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("m").join(name)
    }

    fn settings(&self) -> String {
        fs::read_to_string(self.path("model.toml")).unwrap()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        let mut thalweg = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        thalweg.current_dir(env!("CARGO_MANIFEST_DIR")).args(["models", command]);
        thalweg.args(arguments).arg("--model-repository").arg(self.0.path()).output().unwrap()
    }

    /// With so little time, each point is a few runs.
    fn tune(&self, arguments: &[&str]) -> Output {
        self.run("tune", &[&["m", "--each", "1us"], arguments].concat())
    }

    fn report(&self, arguments: &[&str]) -> Value {
        let output = self.tune(&[&["--json"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn serve(&self) -> (TestServer, Registry) {
        let server = TestServer::start(RawSettings::default());
        let registry = server.load(self.0.path().to_owned());
        (server, registry)
    }

    /// What fails says so in a sentence, and changes nothing.
    fn refuses(&self, arguments: &[&str], expect: Expect) {
        let before = self.settings();
        let output = self.tune(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        // How busy the machine is, is not ours to say.
        let told = told.lines().filter(|line| !line.contains("something else was busy"));
        let told =
            told.collect::<Vec<_>>().join("\n").replace(&*self.0.path().to_string_lossy(), "REPOSITORY");
        expect.assert_eq(&told);
        assert_eq!(self.settings(), before);
    }
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn sizes(report: &Value) -> Vec<u64> {
    let of_one = |point: &&Value| point["instances"] == 1 && point["threads"] == 1;
    let points = report["points"].as_array().unwrap().iter().filter(of_one);
    points.map(|point| point["rows"].as_u64().unwrap()).collect()
}

/// `thalweg models ceiling`, which times the same runs.
#[test]
fn a_ceiling_has_lanes_below_it() {
    let model = Model::new("mlp64", "max_batch_size = 8\n");
    let ceiling = |each: &str, arguments: &[&str]| {
        model.run("ceiling", &[&["m", "--device", "cpu", "--each", each][..], arguments].concat())
    };
    let output = ceiling("200ms", &["--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = |key: &str| -> Vec<u64> {
        report[key].as_array().unwrap().iter().map(|one| one["rows"].as_u64().unwrap()).collect()
    };
    assert_eq!((rows("alone"), rows("lanes")), (vec![1, 8], vec![1, 8]));
    for lane in report["lanes"].as_array().unwrap() {
        assert!(lane["of_ceiling"].as_f64().unwrap() > 0.0, "{lane}");
        // Full, but for batches that began when whoever feeds the lane did not have the CPU.
        let (mean, rows) = (lane["mean_batch"].as_f64().unwrap(), lane["rows"].as_f64().unwrap());
        assert!(
            mean <= rows && (mean > 1.0 || rows < 2.0),
            "there is always enough for a full batch: {lane}"
        );
    }
    let alone = ceiling("1us", &["--alone"]);
    assert!(text(&alone).contains("back to back") && !text(&alone).contains("lanes"), "{alone:?}");

    // What cannot be measured is told, and what can all the same.
    let short = ceiling("1us", &["--batch", "8"]);
    assert_eq!(short.status.code(), Some(1), "{short:?}");
    let told =
        "FAILED: 1 instances, 1 of 8 rows in flight, without CUDA graphs: fewer than two batches landed";
    assert!(text(&short).contains("back to back") && text(&short).contains(told), "{short:?}");
    let large = ceiling("1us", &["--batch", "9"]);
    expect!["thalweg: --batch 9: the model's max_batch_size is 8\n"]
        .assert_eq(std::str::from_utf8(&large.stderr).unwrap());
}

const SETTINGS: &str = "# A model of four layers.\nmax_batch_size = 6 # a guess\n\n[dynamic_batching]\nmax_queue_size = 9 # short\n";

#[test]
fn the_table_can_be_read_by_people() {
    let model = Model::new("mlp64", SETTINGS);
    let output = model.tune(&[]);
    assert!(output.status.success(), "{output:?}");
    let table = text(&output);
    for part in [
        "m version 1, model.onnx, on ",
        "instances threads  rows   µs a run",
        "█",
        "recommended: batches of ",
        "expected: ",
    ] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
    assert_eq!(model.settings(), SETTINGS);
    assert!(!model.path("1/model.profile.toml").exists());
}

#[test]
fn what_is_written_is_served() {
    let model = Model::new("mlp64", SETTINGS);
    let report = model.report(&["--write", "--max-batch", "5"]);
    assert_eq!(sizes(&report), [1, 2, 4, 5]);
    let recommended = &report["recommended"];
    let [rows, instances, threads] = ["max_batch_size", "instances", "threads"]
        .map(|key| usize::try_from(recommended[key].as_u64().unwrap()).unwrap());
    assert!(rows <= 5 && report["written"] == true, "{report}");

    // Nothing but the settings has changed.
    let written = model.settings();
    assert!(
        written.starts_with(&format!("# A model of four layers.\nmax_batch_size = {rows} # a guess\n\n[dyn")),
        "{written}"
    );
    assert!(written.contains("\nmax_queue_size = 9 # short\n"), "{written}");

    let (server, registry) = model.serve();
    let served = registry.get("m", None).unwrap();
    assert_eq!(served.signature.max_batch_size, rows);
    assert_eq!((served.file.instances(), served.file.parameters.intra_op_thread_count), (instances, threads));
    let profile: &Profile = served.profile.as_ref().expect("a profile");
    assert_eq!(profile.runs.len(), report["points"].as_array().unwrap().len());
    // What is expected of the layout that is served, and what the statistics tell of it.
    let expected: Vec<_> = served.expected().map(|(rows, _)| rows).collect();
    assert_eq!(expected, [1, 2, 4, 5]);
    server.state.serve(registry);
    let stats =
        Client::connect(server.address).ask("GET /v2/models/m/stats HTTP/1.1\r\nHost: t\r\n\r\n").json();
    let told = stats["model_stats"][0]["batch_profile"].as_array().expect("a profile").iter();
    assert_eq!(told.map(|told| told["batch_size"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 4, 5]);

    let inspected = model.run("inspect", &["m"]);
    assert!(text(&inspected).contains("\nmeasured on "), "{inspected:?}");
    assert_eq!(text(&inspected).matches(" µs\n").count(), 4, "{inspected:?}");
}

#[test]
fn a_profile_holds_for_its_file_alone() {
    let model = Model::new("mlp64", SETTINGS);
    model.report(&["--keep", "--max-batch", "1"]);
    assert_eq!(model.settings(), SETTINGS);
    let other = Model::new("add_fp32", SETTINGS);
    fs::copy(model.path("1/model.profile.toml"), other.path("1/model.profile.toml")).unwrap();
    let (_server, registry) = other.serve();
    assert!(registry.get("m", None).unwrap().profile.is_none());
    let inspected = other.run("inspect", &["m"]);
    assert!(
        text(&inspected).ends_with("its profile does not hold: it was measured with another model file\n")
    );
}

#[test]
fn the_file_may_be_missing() {
    let model = Model::new("mlp64", "");
    fs::remove_file(model.path("model.toml")).unwrap();
    assert_eq!(sizes(&model.report(&["--write"])), [1, 2, 4, 8, 16, 32, 64]);
    assert!(model.settings().starts_with("max_batch_size = "));
    model.serve();
}

#[test]
fn models_of_every_kind_are_measured() {
    let state = "max_batch_size = 4\n[sequence_batching]\nstate = [{ input_name = 'state', output_name = 'state_out' }]\n[stream.signal]\nencodings = ['f32le']\nsample_rate = 1000\nwindow = 4\n";
    let image =
        "max_batch_size = 2\n[inputs.pixels.convert]\nlayout = 'HWC'\n[outputs.logits.reduce]\ntop_k = 3\n";
    for (of, settings, arguments, expected) in [
        ("accumulator", state, &[][..], &[1, 2, 4][..]),
        ("fixed_batch", "", &[], &[1]),
        ("dynamic_text", "max_batch_size = 2", &[], &[1, 2]),
        ("identity_all", "max_batch_size = 2", &[], &[1, 2]),
        ("choosy", "max_batch_size = 3\ninputs.mode.constant = 2\ninputs.x.dims = [-1, 4]", &[], &[1, 2, 3]),
        ("image", image, &["--shape", "pixels=-1,3,9,7"], &[1, 2]),
    ] {
        let model = Model::new(of, settings);
        let report = model.report(&[arguments, &["--write"]].concat());
        assert_eq!(sizes(&report), expected, "{of}");
        let batches = report["recommended"]["max_batch_size"].as_u64().unwrap();
        assert_eq!(batches == 0, of == "fixed_batch", "{report}");
        assert_eq!(model.settings().contains("max_batch_size"), of != "fixed_batch");
        model.serve();
    }
}

#[test]
fn the_specialised_model_is_measured() {
    let model = Model::new("choosy", "max_batch_size = 2\ninputs.mode.constant = 2\ninputs.x.dims = [-1, 4]");
    assert!(model.run("specialise", &["m"]).status.success());
    assert_eq!(model.report(&["--keep"])["model"], "model.specialised.onnx");
    let (_server, registry) = model.serve();
    assert!(registry.get("m", None).unwrap().profile.is_some());
}

#[test]
fn sizes_that_nothing_fixes_are_told() {
    let model = Model::new("sequence_length", "max_batch_size = 1");
    let free = "x [-1, -1] has sizes that nothing fixes, which are measured as 1; --shape gives others";
    let told = |arguments| String::from_utf8(model.tune(arguments).stderr).unwrap();
    assert!(told(&[]).contains(free));
    assert!(!told(&["--shape", "x=-1,100"]).contains(free));

    // A window of a signal has its size.
    let signal =
        "max_batch_size = 1\n[stream.signal]\nencodings = ['f32le']\nsample_rate = 1000\nwindow = 4\n";
    let output = Model::new("identity_fp32", signal).tune(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8(output.stderr).unwrap().contains("nothing fixes"));
}

#[test]
fn nothing_may_be_fast_enough() {
    let model = Model::new("mlp64", "max_batch_size = 2");
    let output = model.tune(&["--latency", "0.001us", "--write"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("rows/s"), "the table is told: {output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("thalweg: nothing keeps a latency of 1ns: the shortest run takes "), "{told}");
    assert_eq!(model.settings(), "max_batch_size = 2");
    assert!(model.path("1/model.profile.toml").exists(), "what was measured is true all the same");
}

#[test]
fn what_cannot_be_is_refused() {
    let model = Model::new("mlp64", "max_batch_size = 2");
    model.refuses(&["--version", "7"], expect!["thalweg: there is no file REPOSITORY/m/7/model.onnx"]);
    model.refuses(
        &["--shape", "y=-1,64"],
        expect!["thalweg: --shape y: the model has no such input; it has x"],
    );
    model.refuses(
        &["--shape", "x=-1"],
        expect!["thalweg: --shape x: 1 sizes were given, the input is [-1, 64]"],
    );
    model.refuses(&["--shape", "x=4,64"], expect!["thalweg: --shape x: axis 0 is the batch: write -1 there"]);
    model.refuses(
        &["--shape", "x=-1,65"],
        expect!["thalweg: --shape x: 65 was given, the size of axis 1 is 64"],
    );
    let output = model.run("tune", &["n"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "thalweg: there is no model 'n'; there are m\n");

    Model::new("fixed_batch", "")
        .refuses(&["--max-batch", "8"], expect!["thalweg: --max-batch: the model runs each request alone"]);
    Model::new("mlp64", "[[instance_group]]\nkind = 'cuda'")
        .refuses(&[], expect!["thalweg: model.toml has it run on a GPU, and only the CPU is tuned for"]);
    let settings = "max_batch_size = 64\ndynamic_batching.preferred_batch_size = [64]\n";
    Model::new("mlp64", settings).refuses(&["--write", "--max-batch", "1"], expect!["thalweg: model.toml stays as it is, for with what is recommended it would not load: REPOSITORY/m/model.toml: dynamic_batching.preferred_batch_size: 64 was given, a batch holds 1 to 1 rows (max_batch_size)"]);
    // The table is told, even if nobody knows where to write it.
    let model =
        Model::new("mlp64", "max_batch_size = 1\n[[instance_group]]\n[[instance_group]]\ncount = 3\n");
    let output = model.tune(&["--write"]);
    assert!(text(&output).contains("recommended: ") && !output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("model.toml has 2 groups of instances"), "{told}");
}
