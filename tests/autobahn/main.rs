//! The Autobahn suite's opinion of our WebSockets: every case that is about the base protocol, and the big messages.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod echo;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use serde::Deserialize;
use serde_json::json;

/// What the suite says of one case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    behavior: String,
    behavior_close: String,
}

impl Verdict {
    /// 6.4 wants text that is not UTF-8 to be refused before its message is complete, which it may be.
    fn is_good(&self, case: &str) -> bool {
        let is_lenient = case.starts_with("6.4.") && self.behavior == "NON-STRICT";
        let is_good = |behavior: &str| matches!(behavior, "OK" | "INFORMATIONAL");
        (is_good(&self.behavior) || is_lenient) && is_good(&self.behavior_close)
    }
}

/// Cases that take about as long as each other; the two halves run side by side. Group 8 is empty, and 11 to 13 are
/// about compression, which is never negotiated.
const HALVES: [(&str, &[&str]); 2] =
    [("rules", &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]), ("loads", &["9.*"])];

/// Runs some of the suite against a server and returns its verdicts by case.
fn verdicts(url: &str, cases: &[&str], folder: &Path) -> BTreeMap<String, Verdict> {
    let suite = suite();
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    let wanted =
        json!({ "outdir": "reports", "servers": [{ "agent": "thalweg", "url": url }], "cases": cases });
    std::fs::write(folder.join("fuzzingclient.json"), wanted.to_string()).unwrap();
    let run = Command::new("timeout")
        .args(["120", suite.join("bin/wstest").to_str().unwrap()])
        .args(["--mode", "fuzzingclient", "--spec", "fuzzingclient.json"])
        .env("PYTHONUSERBASE", suite)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let index = std::fs::read(folder.join("reports/index.json")).unwrap();
    let mut agents: BTreeMap<String, _> = serde_json::from_slice(&index).unwrap();
    agents.remove("thalweg").unwrap()
}

fn suite() -> &'static Path {
    static SUITE: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = Command::new(root.join("tests/find_autobahn")).output().unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        String::from_utf8(found.stdout).unwrap().trim_end().into()
    });
    &SUITE
}

#[test]
fn the_autobahn_suite_finds_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("ws://{}", runtime.block_on(echo::listen()).unwrap());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("autobahn");
    let halves = HALVES.map(|(name, cases)| {
        let (url, folder) = (url.clone(), folder.join(name));
        thread::spawn(move || verdicts(&url, cases, &folder))
    });
    let verdicts: BTreeMap<_, _> = halves.into_iter().flat_map(|half| half.join().unwrap()).collect();
    let bad: Vec<_> = verdicts
        .iter()
        .filter(|(case, verdict)| !verdict.is_good(case))
        .map(|(case, Verdict { behavior, behavior_close })| format!("{case}: {behavior}, {behavior_close}"))
        .collect();
    assert!(bad.is_empty(), "{}\nmore is in {}", bad.join("\n"), folder.display());
    assert_eq!(verdicts.len(), 301, "the suite has left out cases");
}
