//! The load tester against a real server, whose own counts must be the same, and against servers that are wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

#[path = "bench/wrong.rs"]
mod wrong;

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use expect_test::expect;
use support::{Certificate, Engine, Fake, TestServer};
use thalweg::bench::{
    Address, Check, Form, Load, Metering, Pace, Payload, Plan, Progress, Reference, Report, Step, Target,
    Times, Trust, page, read_report,
};
use thalweg::checksum::sha256;
use thalweg::clock::Clock;
use thalweg::config::{ByteSize, RawSettings};
use thalweg::registry::Registry;
use wrong::Wrong;

/// Long enough for some requests, whatever the machine does beside.
const SHORT: Duration = Duration::from_millis(500);
/// Waiting so long is a failure, and costs nothing otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Four connections with two requests each, all of which count.
fn plan(address: SocketAddr, model: &str, target: Target) -> Plan {
    let depth = if matches!(target, Target::Http(_)) { 1 } else { 2 };
    Plan {
        label: None,
        address: Address {
            host: address.ip().to_string(),
            port: address.port(),
            trust: None,
            headers: vec![],
        },
        model: model.into(),
        version: None,
        target,
        loads: vec![Load { connections: 4, pace: Pace::Closed { depth } }],
        search: None,
        at_once: false,
        recorded: false,
        times: Times { warm_up: Duration::ZERO, duration: SHORT, drain: PATIENCE },
        threads: 2,
        seed: 1,
        payload: Payload::Made { count: 3, shapes: vec![] },
        check: Check { reference: Reference::None, tolerance: 0.0 },
        metrics: Metering { address: None, path: "/metrics".into(), pid: None },
    }
}

fn run(plan: &Plan) -> Result<Report, String> {
    run_and(plan, |_| {})
}

fn run_and(plan: &Plan, progress: impl FnMut(Progress<'_>)) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = thalweg::bench::run(plan, Clock::start(), progress, |_| {});
    runtime.block_on(running).map_err(|failure| failure.to_string())
}

fn only_step(report: &Report) -> &Step {
    let [step] = &report.steps[..] else { panic!("one step: {report:?}") };
    step
}

/// A server with real models, and their folder.
fn real(settings: RawSettings) -> (TestServer, tempfile::TempDir) {
    let folder = support::repository();
    let server = TestServer::start(settings);
    server.state.serve(server.load(folder.path().to_owned()));
    (server, folder)
}

/// A server with a model that doubles.
fn doubling(settings: RawSettings, engine: Engine) -> TestServer {
    let server = TestServer::start(settings);
    let mut registry = Registry::default();
    registry.insert(Fake::start(&server.state, "model", 4096, engine).served);
    server.state.serve(registry);
    server
}

/// What the server counts of a model's successes.
fn counted(server: &TestServer, model: &str) -> u64 {
    let start = format!("thalweg_requests_total{{model=\"{model}\"");
    let text = server.state.exposition();
    let lines = text.lines().filter(|line| line.starts_with(&start) && line.contains("outcome=\"success\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn every_target_counts_what_the_server_counts() {
    let (server, _folder) = real(RawSettings::default());
    let mut before = 0;
    for target in [
        Target::Infer(Form::Binary),
        Target::Infer(Form::Text),
        Target::Http(Form::Binary),
        Target::Http(Form::Text),
        Target::Stream,
    ] {
        for threads in [1, 3] {
            let report = run(&Plan { threads, ..plan(server.address, "poison", target) }).unwrap();
            let step = only_step(&report);
            assert_eq!(report.complaint(), None, "{target}");
            assert_eq!(step.requests.scheduled, step.requests.succeeded, "{target}");
            let after = counted(&server, "poison");
            assert_eq!(step.requests.succeeded, after - before, "{target}");
            assert_eq!(step.client.busy.len(), threads);
            assert!(step.server.batch_size.is_some_and(|rows| rows >= 1.0), "{:?}", step.server);
            before = after;
        }
    }
}

#[test]
fn a_signal_has_a_result_for_each_window_and_the_same_ones_each_time() {
    let (server, folder) = real(RawSettings::default());
    let file = folder.path().join("answers.json");
    let mut before = 0;
    for (at_once, reference) in [
        (false, Reference::None),
        (true, Reference::Record(file.clone())),
        (false, Reference::File(file.clone())),
    ] {
        let check = Check { reference, tolerance: 0.0 };
        let plan = Plan { at_once, check, ..plan(server.address, "accumulator", Target::Stream) };
        let report = run(&plan).unwrap();
        let step = only_step(&report);
        assert_eq!((report.complaint(), step.load.pace), (None, Pace::RealTime { at_once }));
        // A window of 4 ms each, from the first on.
        let least = if at_once { 4 * 125 } else { 4 * 124 };
        assert!((least..=4 * 125).contains(&step.requests.scheduled), "{step:?}");
        let after = counted(&server, "accumulator");
        if plan.check.reference == Reference::None {
            assert_eq!(step.requests.succeeded, after - before);
        }
        before = after;
    }
    // A recording comes faster than it was spoken, and has the same results.
    let check = Check { reference: Reference::File(file.clone()), tolerance: 0.0 };
    let recorded = Plan { recorded: true, check, ..plan(server.address, "accumulator", Target::Stream) };
    let report = run(&recorded).unwrap();
    let step = only_step(&report);
    assert_eq!((report.complaint(), step.load), (None, recorded.loads[0]));
    assert!(step.requests.succeeded > 0, "{step:?}");
    // Another signal has other sums.
    let check = Check { reference: Reference::File(file), tolerance: 0.0 };
    let other = Plan { seed: 2, check, ..plan(server.address, "accumulator", Target::Stream) };
    let report = run(&other).unwrap();
    assert!(only_step(&report).requests.wrong_values > 0, "{report:?}");
}

#[test]
fn large_answers_come_in_fragments_and_are_compared() {
    let small = RawSettings { max_frame_size: Some(ByteSize(1024)), ..RawSettings::default() };
    let (server, _folder) = real(small);
    for form in [Form::Binary, Form::Text] {
        let payload = Payload::Made { count: 2, shapes: vec![("INPUT0".into(), vec![7, 1000])] };
        let check = Check { reference: Reference::Now, tolerance: 0.0 };
        let report =
            run(&Plan { payload, check, ..plan(server.address, "identity_fp32", Target::Infer(form)) });
        assert_eq!(report.unwrap().complaint(), None);
    }
}

#[test]
fn messages_of_a_stream_are_compared_whatever_their_seq() {
    let (server, _folder) = real(RawSettings::default());
    let check = Check { reference: Reference::Now, tolerance: 0.0 };
    let report = run(&Plan { check, ..plan(server.address, "poison", Target::Stream) }).unwrap();
    assert_eq!(report.complaint(), None);
}

#[test]
fn tls_and_keys_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make();
    certificate.write(folder.path());
    let access = folder.path().join("access.toml");
    let key = "a key that is long enough";
    std::fs::write(&access, format!("[[key]]\nname = 'a'\nsha256 = '{}'\n", sha256(key.as_bytes()))).unwrap();
    let settings = RawSettings { access_file: Some(access), ..Certificate::settings(folder.path()) };
    let server = doubling(settings, Engine::Doubles);
    let with = |trust: Trust, headers: Vec<String>, target| {
        let mut plan = plan(server.address, "model", target);
        plan.address.host = "localhost".into();
        (plan.address.trust, plan.address.headers) = (Some(trust), headers);
        run(&plan).map(|report| report.complaint())
    };
    let file: PathBuf = folder.path().join("tls.crt");
    for target in [Target::Infer(Form::Binary), Target::Http(Form::Text), Target::Stream] {
        for trust in [Trust::Anyone, Trust::File(file.clone())] {
            assert_eq!(with(trust, vec![format!("Authorization: Bearer {key}")], target), Ok(None));
        }
        let refused = with(Trust::Anyone, vec![], target).unwrap_err();
        assert!(refused.contains("401"), "{refused}");
        let strange = with(Trust::System, vec![], target).unwrap_err();
        assert!(strange.contains("certificate"), "{strange}");
    }
}

/// The model answers nothing until the step is over: the requests of the whole step waited, those that were never
/// sent because the window was full among them.
#[test]
fn a_stalled_server_is_charged_for_every_request_that_was_due() {
    for depth in [1, 1000] {
        let (engine, gate) = Engine::gated();
        let server = doubling(RawSettings::default(), engine);
        let loads = vec![Load { connections: 2, pace: Pace::Open { rate: 200.0, poisson: false, depth } }];
        let mut gate = Some(gate);
        let times = Times { warm_up: Duration::ZERO, duration: Duration::from_secs(1), drain: PATIENCE };
        let plan = Plan { loads, times, ..plan(server.address, "model", Target::Infer(Form::Binary)) };
        let report = run_and(&plan, |progress| {
            if progress.is_over() {
                gate.take();
            }
        })
        .unwrap();
        let step = only_step(&report);
        assert_eq!((report.complaint(), step.requests.succeeded), (None, 200));
        // They were due in the course of a second, behind which all were answered.
        let latency = &step.latency_ms;
        assert!(latency.p50 >= 499.0 && latency.p99 >= 989.0, "{latency:?}");
    }
}

#[test]
fn servers_that_are_wrong_are_caught() {
    let check = |wrong: Wrong, check: Reference, expect: expect_test::Expect| {
        let folder = tempfile::tempdir().unwrap();
        let request = folder.path().join("request.json");
        std::fs::write(&request, support::GOOD).unwrap();
        let times = Times { warm_up: Duration::ZERO, duration: SHORT, drain: SHORT };
        let plan = Plan {
            // One of them is enough, and tells the same each time.
            loads: vec![Load { connections: 1, pace: Pace::Closed { depth: 4 } }],
            payload: Payload::Files(vec![request]),
            check: Check { reference: check, tolerance: 0.0 },
            times,
            ..plan(wrong.serve(), "model", Target::Infer(Form::Text))
        };
        let told = match run(&plan) {
            Ok(report) => report.complaint().unwrap_or("all is right".into()),
            Err(failure) => failure,
        };
        // Behind it may stand what was lost with it, which depends on the moment.
        expect.assert_eq(told.split("; ").next().unwrap());
    };
    check(Wrong::Nothing, Reference::Now, expect!["all is right"]);
    check(Wrong::Swaps, Reference::None, expect!["1 × 4: answers out of order: 1"]);
    check(
        Wrong::Drops,
        Reference::None,
        expect!["1 × 4: answers that did not come in time: 1 (0 of their requests were never sent)"],
    );
    check(Wrong::Repeats, Reference::None, expect!["1 × 4: answers to nothing that was asked: 1"]);
    check(Wrong::Value, Reference::Now, expect!["1 × 4: answers with a wrong value: 1"]);
    check(Wrong::Errors, Reference::None, expect!["1 × 4: errors: 1 queue_full"]);
    check(Wrong::Closes, Reference::None, expect!["1 × 4: connections that ended early: 1 closed with 1001"]);
    check(Wrong::Refuses, Reference::None, expect!["1 × 4: connections refused: 1 streams_full"]);
}

#[test]
fn a_result_is_a_page_that_needs_nothing_and_json_that_can_be_read_again() {
    let server = doubling(RawSettings::default(), Engine::Doubles);
    let loads = [1, 2].map(|connections| Load { connections, pace: Pace::Closed { depth: 1 } }).to_vec();
    let label = Some("<b>\"mine\"</b>".to_owned());
    let report =
        run(&Plan { loads, label, ..plan(server.address, "model", Target::Infer(Form::Binary)) }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    std::fs::write(&file, serde_json::to_string(&report).unwrap()).unwrap();
    let again = read_report(&file).unwrap();
    assert_eq!(again, report);

    let told = include_str!("../docs/BENCH.md");
    for key in keys(&serde_json::to_value(&report).unwrap()) {
        assert!(told.contains(&format!("`{key}`")), "docs/BENCH.md does not explain {key}");
    }

    let page = page(&report, Some(&again));
    for loads in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(loads), "the page loads something: {loads}");
    }
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "a label is text");
    for title in [
        "Latency by percentile",
        "Throughput against latency",
        "Answers in each second",
        "Latency of the answers of each second",
        "Rows of a batch",
        "Time in the server's queue and in the model",
    ] {
        assert!(page.contains(&format!("<figcaption>{title}</figcaption>")), "{title}");
    }
    // Of each step, and of the earlier run.
    assert_eq!(page.matches("<figcaption>Answers in each second</figcaption>").count(), 2);
    assert!(page.matches("class=\"line a old\"").count() >= 4, "{page}");

    std::fs::write(&file, "{}").unwrap();
    assert!(read_report(&file).is_err());
}

/// The names of all members.
fn keys(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(members) => {
            members.iter().flat_map(|(key, value)| [vec![key.clone()], keys(value)].concat()).collect()
        }
        serde_json::Value::Array(values) => values.iter().flat_map(keys).collect(),
        _ => vec![],
    }
}

#[test]
fn the_command_says_by_its_exit_code_whether_all_was_right() {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("request.json");
    std::fs::write(&request, support::GOOD).unwrap();
    let run = |wrong: Wrong, more: &[&str]| {
        let url = format!("ws://{}", wrong.serve());
        let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(["bench", &url, "--model", "model", "--form", "text", "--connections", "1", "--depth", "4"])
            .args(["--duration", "200ms", "--warm-up", "0", "--drain", "200ms", "--payload"])
            .arg(&request)
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text, String::from_utf8(output.stdout).unwrap())
    };
    let (code, complaint, table) = run(Wrong::Nothing, &[]);
    assert_eq!((code, &*complaint), (Some(0), ""), "{table}");
    assert!(table.contains("1 × 4"), "{table}");
    let (code, complaint, _) = run(Wrong::Swaps, &[]);
    assert_eq!(code, Some(1));
    assert!(complaint.starts_with("thalweg: 1 × 4: ") && complaint.contains("out of order"), "{complaint}");
    let (code, _, json) = run(Wrong::Swaps, &["--allow-errors", "--json", "-"]);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["schema"], &json["steps"][0]["server"]),
        (&"thalweg-bench/1".into(), &serde_json::json!({}))
    );
}
