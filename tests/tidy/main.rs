//! The rules that the sources keep among themselves, held on their text: who may use whom, who names which crate,
//! and what no file may hold. What clippy holds (`clippy.toml`: the clock, the environment) is not held here.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod source;

use std::path::Path;

use expect_test::{Expect, expect};
use source::Source;

/// The modules of the crate that each module may use, beside itself. The path of a request reads from top to
/// bottom; `net` and `protocol` meet `lane`, `engine` and `device` only in `queue`, `reply` and the vocabulary.
const MAY_USE: &[(&str, &str)] = &[
    ("main", "cli"),
    (
        "cli",
        "bench check checksum clock config device engine error fetch lane metrics net registry remote specialise streams tensor trace tune",
    ),
    // It drives what the registry joins, on a device of its own.
    ("check", "batcher clock device engine error lane metrics queue registry reply signal streams tensor"),
    // It times what it is handed, as the suite does, and edits text.
    ("tune", "check"),
    ("net", "checksum clock config error metrics protocol queue registry reply signal streams tensor trace"),
    ("protocol", "error tensor"),
    // It wires each model's queue, lanes and device together.
    (
        "registry",
        "batcher checksum clock device engine error lane metrics queue reply signal specialise streams tensor",
    ),
    ("queue", "clock error reply streams tensor"),
    ("lane", "batcher clock device engine error metrics queue reply streams tensor"),
    ("batcher", "clock tensor"),
    ("engine", "device error tensor"),
    ("device", "error signal streams tensor"),
    ("streams", "clock"),
    ("signal", "error"),
    ("reply", "error tensor"),
    ("config", ""),
    ("specialise", "checksum engine tensor"),
    ("fetch", "checksum"),
    // One HTTP client for all that is fetched.
    ("remote", "checksum fetch"),
    // A client: it knows the protocol from the outside.
    ("bench", "clock error protocol signal tensor"),
    ("metrics", "error"),
    ("trace", "clock error metrics tensor"),
    ("tensor", "clock error signal"),
    ("clock", ""),
    ("checksum", ""),
    ("error", ""),
];

/// The crates that only one module names.
const NAMED_ONLY_BY: &[(&str, &str)] = &[
    ("ort", "engine"),
    ("fastwebsockets", "net"),
    ("hyper", "net"),
    ("hyper_util", "net"),
    ("http_body_util", "net"),
    ("tokio_rustls", "net cli bench"),
    ("subtle", "net"),
    ("x509_parser", "net"),
    ("metrics", "metrics"),
    ("metrics_exporter_prometheus", "metrics"),
    ("crossbeam_channel", "queue lane device"),
    ("cudarc", "device"),
    ("libloading", "device"),
    ("nvml_wrapper", "device"),
    ("clap", "cli config"),
    ("fastrand", "bench"),
    ("hdrhistogram", "bench"),
    ("hound", "bench"),
    ("rustix", "bench cli clock metrics"),
    ("rustls_platform_verifier", "bench"),
    ("ureq", "fetch remote trace"),
    ("zip", "fetch remote"),
    ("object_store", "remote"),
    ("tar", "remote"),
    ("flate2", "remote"),
    ("ruzstd", "remote"),
    ("md5", "remote"),
    ("opentelemetry", "trace"),
    ("opentelemetry_http", "trace"),
    ("opentelemetry_otlp", "trace"),
    ("opentelemetry_sdk", "trace"),
    ("toml_edit", "tune"),
];

/// Where there is `unsafe` code, and so a proof for each block.
const UNSAFE: &[&str] = &[
    "src/device/cuda/compute.rs",
    "src/device/cuda/copying.rs",
    "src/device/cuda/device.rs",
    "src/device/cuda/gather.rs",
    "src/device/cuda/kernels.rs",
    "src/device/cuda/leg.rs",
    "src/device/cuda/memory.rs",
    "src/device/cuda/mod.rs",
    "src/device/cuda/preload.rs",
    "src/device/cuda/reduce.rs",
    "src/device/cuda/state.rs",
    "src/engine/onnx/bound.rs",
    "src/engine/onnx/strings.rs",
    "src/engine/onnx/values.rs",
    "src/lane/scheduling.rs",
    "src/main.rs",
];

/// Vocabulary, which all may use.
const LEAVES: &[&str] = &["checksum", "clock", "error", "metrics", "tensor", "trace"];

/// A file carries one idea.
const LONGEST: usize = 400;

/// Tests that wait to be asked for.
const IGNORED: &[&str] = &["the_real_thing"];

// Cut, as this file keeps its own rules.
const FORBIDDEN: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// What is wrong with a file, a line each.
fn problems(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let line_count = source.text.lines().count();
    if let Some(module) = source.module() {
        match MAY_USE.iter().find(|(name, _)| *name == module) {
            None => problems.push(format!("module {module} is not in MAY_USE")),
            Some((_, allowed)) => {
                let used = source.modules_used();
                let strange = used.iter().filter(|used| **used != module && !has(allowed, used));
                problems.extend(strange.map(|used| format!("{module} may not use {used}")));
            }
        }
        for (name, owners) in NAMED_ONLY_BY {
            if !has(owners, module) && source.names_crate(name) {
                problems.push(format!("only {owners} may name the crate {name}"));
            }
        }
        if !UNSAFE.contains(&&*source.path) && source.text.contains("unsafe ") {
            problems.push("has unsafe code".into());
        }
        if line_count > LONGEST {
            problems.push(format!("has {line_count} lines, {LONGEST} are long"));
        }
    }
    if source.is_rust() && !source.text.starts_with("//!") {
        problems.push("does not begin with what it is, in a `//!`".into());
    }
    let ignored = source.ignored_tests();
    let strange = ignored.iter().filter(|test| !IGNORED.contains(&test.as_str()));
    problems.extend(strange.map(|test| format!("ignores the test {test}")));
    for (line, text) in (1..).zip(source.text.lines()) {
        let found = FORBIDDEN.iter().filter(|word| text.contains(**word));
        problems.extend(found.map(|word| format!("line {line} holds the word {word}")));
    }
    problems
}

fn has(words: &str, word: &str) -> bool {
    words.split(' ').any(|other| other == word)
}

#[test]
fn the_sources_keep_the_rules() {
    let sources = source::all(Path::new(env!("CARGO_MANIFEST_DIR")));
    let modules = sources.iter().filter_map(Source::module).collect::<std::collections::BTreeSet<_>>();
    assert!(modules.len() >= MAY_USE.len(), "MAY_USE names a module that is gone: there are {modules:?}");
    let told: Vec<_> = sources
        .iter()
        .flat_map(|source| {
            problems(source).into_iter().map(move |problem| format!("{}: {problem}", source.path))
        })
        .collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

/// The code map tells readers what this file tells the compiler.
#[test]
fn the_architecture_tells_the_same_rules() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).unwrap();
    let told: std::collections::BTreeMap<String, String> = text
        .lines()
        .filter(|line| line.starts_with("| `src/"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.len() == 3)
        .flat_map(|cells| {
            let uses = match cells[2] {
                "leaves" | "nothing" => String::new(),
                uses => uses.replace(", ", " "),
            };
            let modules = cells[0].split('`').skip(1).step_by(2);
            let name = |path: &str| path.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
            modules.map(move |path| (name(path), uses.clone())).collect::<Vec<_>>()
        })
        .collect();
    for (module, uses) in MAY_USE.iter().filter(|(module, _)| !LEAVES.contains(module)) {
        let Some(told) = told.get(*module) else { panic!("the code map lacks {module}: it has {told:?}") };
        let beyond = |uses: &str| -> std::collections::BTreeSet<String> {
            let uses = uses.split(' ').filter(|used| !used.is_empty() && !LEAVES.contains(used));
            uses.map(str::to_owned).collect()
        };
        assert!(
            told == "all" || beyond(told) == beyond(uses),
            "{module}: the code map says '{told}', the rules '{uses}'"
        );
    }
}

fn check(path: &str, text: &str, expect: Expect) {
    let source = Source { path: path.into(), text: text.into() };
    expect.assert_eq(&problems(&source).join("\n"));
}

#[test]
fn a_module_that_uses_what_it_may_not_is_seen() {
    check(
        "src/net/a.rs",
        "//! A.\nuse crate::{\n    error::Code,\n    lane::{Feed, Lane}, // crate::device\n    batcher,\n};",
        expect![[r#"
            net may not use batcher
            net may not use lane"#]],
    );
    check(
        "src/batcher/mod.rs",
        "//! B.\nfn f() -> crate::error::Error {}",
        expect!["batcher may not use error"],
    );
    check("src/reply/a.rs", "//! C.\nuse super::super::net;", expect!["reply may not use net"]);
    check("src/reply/mod.rs", "//! D.\nuse super::{tensor, net::Server};", expect!["reply may not use net"]);
    check("src/queue.rs", "//! E.\nuse thalweg::net;", expect!["queue may not use net"]);
    check("src/novel/mod.rs", "//! F.", expect!["module novel is not in MAY_USE"]);
}

#[test]
fn words_that_are_no_code_are_not_seen() {
    check("src/net/a.rs", "//! A crate::lane.\n/* crate::lane /* ort::x */ */ // ort::x", expect![""]);
    check(
        "src/net/a.rs",
        "//! A.\nlet s = \"crate::lane\"; let c = '\"'; let r = r#\"ort::x \" \"#;",
        expect![""],
    );
    check("src/net/a.rs", "//! A.\n#[cfg(test)]\nmod tests {\n    use crate::lane::Feed;\n}", expect![""]);
    check("src/net/a.rs", "//! A.\nfn f<'a>(x: &'a str) { crate::lane::y }", expect!["net may not use lane"]);
    check(
        "src/net/a.rs",
        "//! A.\n#[cfg(test)]\nfn f(x: [u8; 2]) { crate::lane::f(x) }\n#[cfg(test)]\nuse crate::lane;\nuse crate::device;",
        expect!["net may not use device"],
    );
    check("src/net/tests/a.rs", "//! Tests use what they need.\nuse crate::lane::Feed;", expect![""]);
}

#[test]
fn a_crate_that_is_named_elsewhere_is_seen() {
    check("src/lane/a.rs", "//! A.\nuse ort::Session;", expect!["only engine may name the crate ort"]);
    check(
        "src/lane/a.rs",
        "//! A.\nuse {std::fmt, ort::Session};",
        expect!["only engine may name the crate ort"],
    );
    check("src/lane/a.rs", "//! A.\nlet x = ::hyper::body();", expect!["only net may name the crate hyper"]);
    check(
        "src/lane/a.rs",
        "//! A.\nuse fastwebsockets as ws;",
        expect!["only net may name the crate fastwebsockets"],
    );
    check(
        "src/lane/a.rs",
        "//! A.\nuse crate::metrics::Stage;\n::metrics::counter!(\"x\");",
        expect!["only metrics may name the crate metrics"],
    );
    check("src/engine/a.rs", "//! A.\nuse ort::Session;", expect![""]);
}

#[test]
fn what_no_file_may_hold_is_seen() {
    check("src/net/a.rs", "use std::fmt;", expect!["does not begin with what it is, in a `//!`"]);
    check("src/net/a.rs", &format!("//! A.\n{}", "\n".repeat(400)), expect!["has 401 lines, 400 are long"]);
    check(
        "tests/a.rs",
        "//! A.\n#[test]\n#[ignore = \"slow\"]\nfn never() {}\n#[ignore]\nasync fn the_real_thing() {}",
        expect!["ignores the test never"],
    );
    for word in FORBIDDEN {
        check("Makefile", &format!("one\ntwo {word}"), expect_line(word));
    }
}

fn expect_line(word: &str) -> Expect {
    let line: &'static str = format!("line 2 holds the word {word}").leak();
    Expect { data: line, ..expect![""] }
}
