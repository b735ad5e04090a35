//! Runs that hang, over real sockets: their clients are answered, the server says how it stands, and it comes back, or
//! ends when it is told to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::{Client, Engine, Fake, GOOD, OpCode, TestServer, is_good};
use tempfile::TempDir;
use thalweg::config::RawSettings;
use thalweg::registry::Registry;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn post(address: SocketAddr, model: &str, body: &str) -> (u16, String) {
    let path = format!("/v2/models/{model}/infer");
    let reply = Client::connect(address).post(&path, "", body.as_bytes());
    let json = reply.json();
    (reply.status, if is_good(&json) { "good".to_owned() } else { json["code"].to_string() })
}

fn get(address: SocketAddr, path: &str) -> u16 {
    Client::connect(address).ask(&format!("GET {path} HTTP/1.1\r\n\r\n")).status
}

/// The value of a metric of the only model.
fn metric(address: SocketAddr, name: &str) -> String {
    let mut client = Client::connect(address);
    let reply = client.ask("GET /metrics HTTP/1.1\r\n\r\n");
    let text = String::from_utf8(reply.body.clone()).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// A repository of one model, which runs for years if it is asked for [`FOR_EVER`].
fn endless() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("endless/1");
    std::fs::create_dir_all(&version).unwrap();
    let model = Path::new(ROOT).join("tests/models/repository/endless/1/model.onnx");
    std::fs::copy(model, version.join("model.onnx")).expect("`make test-models` makes it");
    folder
}

const FOR_EVER: &str = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,1e15]}]}"#;

#[test]
fn a_model_that_stalls_is_not_ready_until_it_is_back() {
    let server = TestServer::start(RawSettings::default());
    let (engine, gate) = Engine::gated();
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 8, engine).served);
    server.state.serve(registry);
    let address = server.address;
    let mut client = Client::open(address, "/v2/models/model/infer");
    client.message(OpCode::Text, GOOD);
    gate.wait_for_run();
    assert_eq!(get(address, "/v2/health/ready"), 200, "a run that takes its time is no fault");
    client.message(OpCode::Text, GOOD);

    server.watch();
    assert_eq!(client.receive().json()["code"], "run_timed_out");
    assert_eq!(client.receive().json()["code"], "model_not_ready", "it waited behind the other");
    for path in ["/health", "/v2/health/ready", "/v2/models/model/ready"] {
        assert_eq!(get(address, path), 503);
    }
    assert_eq!(get(address, "/v2/health/live"), 200);
    assert_eq!(post(address, "model", GOOD), (503, r#""model_not_ready""#.to_owned()));
    assert_eq!(metric(address, "thalweg_lanes"), "0");
    assert_eq!(metric(address, "thalweg_runs_given_up_total"), "1");
    assert_eq!(metric(address, "thalweg_lane_failures_total"), "1");
    server.watch();
    assert_eq!(metric(address, "thalweg_runs_given_up_total"), "1", "once");

    drop(gate);
    server.wait_until_ready();
    client.message(OpCode::Text, GOOD);
    assert!(is_good(&client.receive().json()));
    assert_eq!(get(address, "/health"), 200);
    assert_eq!(metric(address, "thalweg_lanes"), "1");
}

#[test]
fn without_a_time_out_nothing_is_given_up() {
    let server = TestServer::start(RawSettings { run_timeout: Some(0), ..RawSettings::default() });
    let (engine, gate) = Engine::gated();
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 8, engine).served);
    server.state.serve(registry);
    let mut client = Client::open(server.address, "/v2/models/model/infer");
    client.message(OpCode::Text, GOOD);
    gate.wait_for_run();
    server.watch();
    drop(gate);
    assert!(is_good(&client.receive().json()));
}

/// The server's own clock steps the watchdog here.
#[test]
fn a_run_that_would_take_years_is_ended_and_the_model_serves_again() {
    let models = endless();
    let server = TestServer::start(RawSettings { run_timeout: Some(1), ..RawSettings::default() });
    server.state.serve(server.load(models.path().to_owned()));
    let address = server.address;
    for round in 1..=2 {
        assert_eq!(post(address, "endless", GOOD), (200, "good".to_owned()));
        assert_eq!(post(address, "endless", FOR_EVER), (504, r#""run_timed_out""#.to_owned()));
        // ONNX Runtime ends the run, and the lane has another session.
        server.wait_until_ready();
        assert_eq!(metric(address, "thalweg_runs_given_up_total"), round.to_string());
    }
    assert_eq!(post(address, "endless", GOOD), (200, "good".to_owned()));
    assert_eq!(metric(address, "thalweg_failed_runs_total"), "0", "it is no run that failed");
}

/// A server's process, which does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_that_hangs_does_not_keep_the_process() {
    let models = endless();
    let runtime = PathBuf::from(ROOT).join("runtime/libonnxruntime.so.1.32.0");
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--grace-period", "1", "--run-timeout", "0"]);
    command.arg("--model-repository").arg(models.path()).arg("--onnxruntime").arg(runtime);
    let mut server = Process(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
    while get(address, "/health") != 200 {
        std::thread::yield_now();
    }
    let mut client = Client::open(address, "/v2/models/endless/infer");
    client.message(OpCode::Text, FOR_EVER);
    while metric(address, "thalweg_queue_duration_seconds_count") != "1" {
        std::thread::yield_now();
    }
    let told = Command::new("kill").arg(server.0.id().to_string()).status().unwrap();
    assert!(told.success());
    let status = server.0.wait().unwrap();
    let mut log = String::new();
    server.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(status.success() && log.contains("connections are cut off"), "{status}: {log}");
}
