//! `thalweg device-check` on the CPU, as every machine can run it.

use std::process::{Command, Output};

use serde_json::Value;

fn device_check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command.args(["device-check", "--model-repository", "/nowhere"]).args(arguments).output().unwrap()
}

#[test]
fn the_report_can_be_read_by_programs() {
    let output = device_check(&["--device", "cpu", "--seed", "5", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["device"], &report["seed"]), (&"cpu".into(), &5.into()));
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 5 && checks.iter().all(|check| check["passed"] == true), "{report}");
    assert!(report["copies"][0]["seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["no_models"].as_str().unwrap().contains("/nowhere"), "{report}");
}

#[test]
fn the_report_can_be_read_by_people() {
    let output = device_check(&["--device", "cpu"]);
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    for part in ["device  cpu\n", "checks, with seed 1\n", "states of streams", " ok ", "GiB/s\n"] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_gpus_says_so() {
    let output = device_check(&["--device", "cuda"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    expect_test::expect![[r"
        thalweg: this build has no GPU support: build it with `cargo build --release --features cuda`
    "]]
    .assert_eq(&String::from_utf8(output.stderr).unwrap());
}
