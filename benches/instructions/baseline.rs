//! Counts that were recorded, and how counts of now differ from them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Display, Formatter, Write as _};
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// More instructions than recorded that are no regression, in percent: unrelated code moves what is inlined, and with
/// it some instructions. One allocation, with its end, takes about a hundred.
const PERCENT: u64 = 3;
/// Of a small count a percentage is less than an instruction.
const LEAST: u64 = 20;

const PREFACE: &str = "# Instructions of each stage. `make instructions ARGS=--record` writes this file.\n\n";

/// What else decides over counts than this project's code.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Tools {
    rustc: String,
    libc: String,
    valgrind: String,
    cpu: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Baseline {
    pub tools: Tools,
    pub instructions: BTreeMap<String, u64>,
}

impl Tools {
    pub fn find() -> Result<Self, Box<dyn Error>> {
        let told = |command: &str, argument: &str| -> Result<String, Box<dyn Error>> {
            let output = Command::new(command)
                .arg(argument)
                .output()
                .map_err(|error| format!("{command}: {error}"))?;
            match output.status.success() {
                true => Ok(String::from_utf8(output.stdout)?.trim().into()),
                false => Err(format!("{command} does not tell its version").into()),
            }
        };
        Ok(Self {
            rustc: told("rustc", "--version")?,
            libc: told("getconf", "GNU_LIBC_VERSION")?,
            valgrind: told("valgrind", "--version")?,
            cpu: cpu(),
        })
    }
}

impl Display for Tools {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { rustc, libc, valgrind, cpu } = self;
        write!(f, "{rustc}, {libc}, {valgrind}, {cpu}")
    }
}

/// The CPU as far as libraries choose code by it under Valgrind, which knows nothing beyond AVX2.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        (is_x86_feature_detected!("avx"), " avx"),
        (is_x86_feature_detected!("avx2"), " avx2"),
        (is_x86_feature_detected!("fma"), " fma"),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(bool, &str); 0] = [];
    let has = features.into_iter().filter(|(has, _)| *has).map(|(_, name)| name);
    std::iter::once(std::env::consts::ARCH).chain(has).collect()
}

impl Baseline {
    pub fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(toml::from_str(&std::fs::read_to_string(file)?)?)
    }

    pub fn write(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        Ok(std::fs::write(file, format!("{PREFACE}{}", toml::to_string(self)?))?)
    }

    /// All stages, what is recorded beside what was measured.
    pub fn table(&self, measured: &Self) -> String {
        let mut table = format!("{:<16}{:>10}{:>10}", "stage", "recorded", "measured");
        for (stage, &now) in &measured.instructions {
            let recorded = self.instructions.get(stage);
            let before = recorded.map_or_else(|| "-".into(), u64::to_string);
            let change = recorded.map(|&before| percent(before, now)).unwrap_or_default();
            let _ = write!(table, "\n{stage:<16}{before:>10}{now:>10}{change:>10}");
        }
        table
    }

    /// What is to be said where nothing is wrong, or else what is.
    pub fn compare(&self, measured: &Self) -> Result<String, String> {
        if self.tools != measured.tools {
            return Ok(format!(
                "not compared: recorded with {}, measured with {}; take the recorded tools, or record again \
                 (make instructions ARGS=--record) on a commit that is known to be good",
                self.tools, measured.tools
            ));
        }
        let mut wrong = Vec::new();
        for (stage, &now) in &measured.instructions {
            match self.instructions.get(stage) {
                None => wrong.push(format!("{stage} is not recorded: make instructions ARGS=--record")),
                Some(&before) if now > before + allowed(before) => {
                    let change = percent(before, now);
                    wrong.push(format!(
                        "{stage} takes more: {before} instructions recorded, {now} measured, {change}"
                    ));
                }
                Some(_) => {}
            }
        }
        let gone = self.instructions.keys().filter(|stage| !measured.instructions.contains_key(*stage));
        wrong.extend(gone.map(|stage| {
            format!("{stage} is recorded and no longer measured: make instructions ARGS=--record")
        }));
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        let less = |(stage, &now): (&String, &u64)| {
            self.instructions.get(stage).is_some_and(|&before| before > now + allowed(before))
        };
        Ok(match measured.instructions.iter().any(less) {
            true => "some stage takes fewer than recorded: make instructions ARGS=--record keeps that".into(),
            false => "as recorded".into(),
        })
    }
}

/// By how many instructions a stage may take more.
fn allowed(recorded: u64) -> u64 {
    (recorded * PERCENT / 100).max(LEAST)
}

fn percent(before: u64, now: u64) -> String {
    let (before, now) = (before as f64, now as f64);
    format!("{:+.1} %", (now - before) * 100.0 / before)
}
