//! The documentation against the code: tables that list what there is, examples that must parse, links that
//! must lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use thalweg::config::RawSettings;
use thalweg::error::Code;
use thalweg::metrics::{GpuReading, Metrics, Outcome};
use thalweg::registry::file::ModelFile;

const README: &str = include_str!("../README.md");
const MODELS: &str = include_str!("../docs/MODELS.md");
const GPU: &str = include_str!("../docs/GPU.md");
const ARCHITECTURE: &str = include_str!("../docs/ARCHITECTURE.md");
const STREAMS: &str = include_str!("../docs/STREAMS.md");
const CONTAINERS: &str = include_str!("../docs/CONTAINERS.md");
const BENCH: &str = include_str!("../docs/BENCH.md");
const OPERATIONS: &str = include_str!("../docs/OPERATIONS.md");
const KUBERNETES: &str = include_str!("../docs/KUBERNETES.md");
const DEPLOY: &str = include_str!("../deploy/README.md");
const KSERVE: &str = include_str!("../deploy/kserve/README.md");
const MODELARTS: &str = include_str!("../docs/MODELARTS.md");
const RUNBOOK: &str = include_str!("../docs/RUNBOOK.md");

/// The cells of a table's rows whose first cell is code.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest)).collect()
}

/// What stands in backticks.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// What a setting's help says of its default.
fn default_of(argument: &clap::Arg) -> Option<String> {
    let help = argument.get_help()?.to_string();
    help.rsplit_once("[default: ").map(|(_, default)| default.trim_end_matches(']').to_owned())
}

/// Operators read of each setting why it is as it is. Where 0 stands for none, they read `none`.
#[test]
fn operations_give_a_reason_for_every_setting() {
    let command = RawSettings::augment_args(clap::Command::new("serve"));
    for argument in command.get_arguments() {
        let name = argument.get_id().as_str();
        let default = default_of(argument).expect("a default").replace('`', "");
        let explained: Vec<_> =
            rows(OPERATIONS).filter(|cells| cells.len() == 3 && codes(cells[0]).eq([name])).collect();
        assert_eq!(explained.len(), 1, "docs/OPERATIONS.md explains {name} so many times");
        let told = explained[0][1].replace('`', "");
        let told = told.strip_suffix(" s").unwrap_or(&told);
        assert!(told == default || (told == "none" && default == "0"), "{name}: {told} is told of {default}");
        assert!(explained[0][2].split_whitespace().count() > 5, "{name}: no reason is given");
    }
}

#[test]
fn the_readme_lists_every_setting() {
    let command = RawSettings::augment_args(clap::Command::new("serve"));
    let settings = command.get_arguments().map(|argument| {
        let default = default_of(argument);
        let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
        let flag = argument.get_long().unwrap_or_default();
        [format!("--{flag}"), variable.into(), argument.get_id().to_string(), default.expect("a default")]
    });
    let documented = rows(README).filter(|cells| cells[0].starts_with("`--"));
    // A default that is a sentence has code inside, one that is a value is code.
    let documented = documented.map(|cells| [0, 1, 2, 3].map(|cell| cells[cell].replace('`', "")));
    let settings: Vec<_> = settings.map(|row| row.map(|cell| cell.replace('`', ""))).collect();
    assert_eq!(settings.len(), RawSettings::VARIABLES.len());
    assert_eq!(documented.collect::<Vec<_>>(), settings);
}

#[test]
fn the_readme_lists_every_metric() {
    let is_metric = |cell: &str| ["`thalweg_", "`process_"].iter().any(|start| cell.starts_with(start));
    let documented = rows(README).filter(|cells| is_metric(cells[0]));
    let documented: BTreeMap<_, _> = documented
        .map(|cells| {
            (codes(cells[0]).collect(), (cells[1].to_owned(), codes(cells[2]).map(String::from).collect()))
        })
        .collect();
    assert_eq!(documented, exported(&Metrics::new().expect("metrics")));
    // Nor may a metric be left out of `exported`.
    let declared = include_str!("../src/metrics/mod.rs").matches("&str = \"thalweg_").count()
        + include_str!("../src/metrics/process.rs").matches("&str = \"process_").count();
    assert_eq!(documented.len(), declared);
}

/// Each metric's kind and labels, as a server shows them in which everything has happened.
fn exported(metrics: &Arc<Metrics>) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let model = metrics.model("m", "1");
    model.info(8, 1, "cpu", false);
    model.loaded(Duration::ZERO);
    model.encoded(Duration::ZERO);
    model.ready.set(1.0);
    model.queue_depth_limit.set(1.0);
    model.on_device().ran([Duration::ZERO; 3], [0; 2], 0, false);
    metrics.gpu(["0", "none", "9.0", "13.0"], GpuReading::default);
    model.streams(1.0, 1.0);
    model.queue_depth.set(1.0);
    model.queued(Duration::ZERO);
    model.ran(1, Duration::ZERO, Duration::ZERO);
    model.scattered(Duration::ZERO);
    model.answered(Outcome::Error(Code::QueueFull), Duration::ZERO);
    metrics.gpu_fallback("no_driver");
    metrics.limits(1, 1);
    metrics.certificate_expires(None);
    metrics.server.lags(Duration::ZERO);
    metrics.http_request("/", 200);
    let traces = metrics.traces();
    [&traces.exported, &traces.full].iter().for_each(|counter| counter.increment(1));
    metrics.http_error("/", Code::ModelNotReady);
    metrics.given_up("idle");
    metrics.tls_failed("gone");
    metrics.access_refused("no_key");
    metrics.key("k").connections(1);
    metrics.connection_opened("infer").close(1000);

    let text = metrics.render();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), labels(&text, name)))).collect()
}

/// The labels of a metric's series; those of a histogram's buckets are Prometheus' own.
fn labels(text: &str, name: &str) -> BTreeSet<String> {
    let of_it = |series: &str| [name.to_owned(), format!("{name}_sum")].contains(&series.to_owned());
    let series = text.lines().filter_map(|line| line.split_once('{')).filter(|(series, _)| of_it(series));
    let labels =
        series.flat_map(|(_, labels)| labels.split("=\"").map(|part| part.rsplit([',', '"']).next()));
    labels.flatten().filter(|label| !label.is_empty() && !label.contains('}')).map(String::from).collect()
}

#[test]
fn examples_of_configuration_parse() {
    for example in blocks(MODELS, "toml") {
        assert!(!example.is_empty());
        if let Err(error) = toml::from_str::<ModelFile>(example) {
            panic!("docs/MODELS.md: {error}");
        }
    }
    for example in blocks(README, "toml") {
        let settings =
            toml::from_str::<RawSettings>(example).map(|settings| settings.validate().expect("valid"));
        if let (Err(settings), Err(model)) = (settings, toml::from_str::<ModelFile>(example)) {
            panic!("README.md: an example is neither settings nor a model's: {settings}{model}");
        }
    }
    assert_eq!((blocks(README, "toml").len(), blocks(MODELS, "toml").len()), (2, 15));
}

#[test]
fn the_worked_example_of_a_stream_is_the_model_that_is_bundled() {
    let bundled = toml::from_str(include_str!("../models/silero_vad/model.toml"));
    let shown: Vec<_> = blocks(STREAMS, "toml").into_iter().map(toml::from_str::<ModelFile>).collect();
    assert_eq!(shown, [bundled]);
}

#[test]
fn every_key_of_a_model_file_is_explained() {
    let documented: BTreeSet<_> =
        rows(MODELS).flat_map(|cells| codes(cells[0]).collect::<Vec<_>>()).collect();
    let sections = [
        ("", ""),
        ("[dynamic_batching]", "dynamic_batching."),
        ("[[instance_group]]", "instance_group[]."),
        ("[optimization]", "optimization."),
        ("[optimization.cuda]", "optimization.cuda."),
        ("[[optimization.cuda.graph_spec]]", "optimization.cuda.graph_spec[]."),
        ("[parameters]", "parameters."),
        ("[[model_warmup]]", "model_warmup[]."),
        ("[inputs.NAME]", "inputs.NAME."),
        ("[inputs.NAME.convert]", "inputs.NAME.convert."),
        ("[outputs.NAME]", "outputs.NAME."),
        ("[outputs.NAME.reduce]", "outputs.NAME.reduce."),
        ("[sequence_batching]", "sequence_batching."),
        ("[[sequence_batching.state]]", "sequence_batching.state[]."),
        ("[stream.bytes]", "stream.bytes."),
        ("[stream.signal]", "stream.signal."),
        ("[output.events]", "output.events."),
        ("[output.classes]", "output.classes."),
        ("[output.classes.fallback]", "output.classes.fallback."),
    ];
    for (section, prefix) in sections {
        let error = toml::from_str::<ModelFile>(&format!("{section}\nno_such_key = 1")).expect_err("unknown");
        let keys: Vec<_> = codes(error.message()).filter(|key| *key != "no_such_key").collect();
        assert!(!keys.is_empty(), "{error}");
        for key in keys {
            let key = format!("{prefix}{key}");
            let below = [".", "["].map(|joint| format!("{key}{joint}"));
            let explained = documented
                .iter()
                .any(|name| *name == key || below.iter().any(|below| name.starts_with(below)));
            assert!(explained, "docs/MODELS.md does not explain {key}");
        }
    }
}

#[test]
fn links_and_paths_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, text) in [
        ("README.md", README),
        ("docs/STREAMS.md", STREAMS),
        ("docs/CONTAINERS.md", CONTAINERS),
        ("docs/MODELS.md", MODELS),
        ("docs/ARCHITECTURE.md", ARCHITECTURE),
        ("docs/GPU.md", GPU),
        ("docs/OPERATIONS.md", OPERATIONS),
        ("docs/MODELARTS.md", MODELARTS),
        ("docs/BENCH.md", BENCH),
        ("docs/KUBERNETES.md", KUBERNETES),
        ("deploy/README.md", DEPLOY),
        ("deploy/kserve/README.md", KSERVE),
        ("docs/RUNBOOK.md", RUNBOOK),
    ] {
        let folder = root.join(file).parent().expect("a folder").to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let path = link.split('#').next().unwrap_or(link);
            assert!(folder.join(path).exists(), "{file} links to {link}");
        }
        let paths = codes(text).filter(|code| code.starts_with("src/") || code.starts_with("tests/"));
        for path in paths.filter(|path| path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)))
        {
            assert!(root.join(path).exists(), "{file} speaks of {path}");
        }
    }
}
