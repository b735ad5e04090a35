//! What runs of a model were measured to take on this machine, kept beside it.
//!
//! `thalweg models tune` writes it. It says what it was measured with, and holds for nothing else.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checksum::sha256_of;

/// Its name, in a version's folder.
pub const PROFILE: &str = "model.profile.toml";

const HEAD: &str =
    "# Measured by `thalweg models tune`, for this very file on this machine. Nothing is lost with it.\n";

/// What a batch takes, by its size and by how many run at the same time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub origin: Origin,
    #[serde(default, rename = "run")]
    pub runs: Vec<ProfiledRun>,
}

/// What was measured, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The file that is served: the specialised model, where there is one.
    pub model: String,
    pub model_sha256: String,
    pub onnxruntime: String,
    pub cpu: String,
    /// How many of them the process might use.
    pub cpus: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfiledRun {
    pub instances: usize,
    /// Of each instance.
    pub threads: usize,
    pub rows: usize,
    /// Of a batch, from its rows to its answer.
    pub median_us: f64,
    pub p95_us: f64,
}

/// What lies beside a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Profiled {
    Nothing,
    /// Why it does not hold.
    Stale(String),
    Holds(Profile),
}

impl Origin {
    /// Of a model's file, on this machine.
    pub fn here(model: &Path, onnxruntime: &str) -> io::Result<Self> {
        Ok(Self {
            model: model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            model_sha256: sha256_of(model)?,
            onnxruntime: onnxruntime.to_owned(),
            cpu: cpu(),
            cpus: cpus(),
        })
    }
}

impl Profile {
    /// Looks for the profile of a model's file, which is run by this build of ONNX Runtime.
    pub fn find(model: &Path, onnxruntime: &str) -> Profiled {
        let text = match fs::read_to_string(model.with_file_name(PROFILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Profiled::Nothing,
            Err(error) => return Profiled::Stale(format!("it cannot be read: {error}")),
        };
        let profile: Self = match toml::from_str(&text) {
            Ok(profile) => profile,
            Err(error) => return Profiled::Stale(format!("it cannot be read: {}", error.message())),
        };
        match Origin::here(model, onnxruntime) {
            Ok(here) => match profile.origin.differs(&here) {
                None => Profiled::Holds(profile),
                Some(what) => Profiled::Stale(format!("it was measured with another {what}")),
            },
            Err(error) => Profiled::Stale(format!("{} cannot be read: {error}", model.display())),
        }
    }

    /// As it is written beside the model.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEAD}{}", toml::to_string(self)?))
    }

    /// What batches are expected to take, by their size, where so many instances have so many threads each.
    pub fn expected(&self, instances: usize, threads: usize) -> impl Iterator<Item = (usize, Duration)> {
        let runs = self.runs.iter().filter(move |run| (run.instances, run.threads) == (instances, threads));
        runs.map(|run| (run.rows, Duration::try_from_secs_f64(run.median_us / 1e6).unwrap_or_default()))
    }
}

impl Origin {
    /// How many CPUs there are does not change what one run takes.
    fn differs(&self, here: &Self) -> Option<&'static str> {
        if self.model_sha256 != here.model_sha256 {
            Some("model file")
        } else if self.onnxruntime != here.onnxruntime {
            Some("build of ONNX Runtime")
        } else if self.cpu != here.cpu {
            Some("CPU")
        } else {
            None
        }
    }
}

/// The CPUs that the process may use, by its affinity and its control group.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// A profile that is changed before it is looked for.
    fn check(change: impl Fn(String) -> String, expect: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        fs::write(&model, "a model").unwrap();
        let run = ProfiledRun { instances: 2, threads: 1, rows: 8, median_us: 12.345, p95_us: 20.0 };
        let runs = vec![run, ProfiledRun { instances: 1, ..run }];
        let profile = Profile { origin: Origin::here(&model, "1.2.3").unwrap(), runs };
        let text = change(profile.text().unwrap());
        if !text.is_empty() {
            fs::write(folder.path().join(PROFILE), text).unwrap();
        }
        let told = match Profile::find(&model, "1.2.3") {
            Profiled::Nothing => "nothing".to_owned(),
            Profiled::Stale(why) => why,
            Profiled::Holds(found) => {
                assert_eq!(found, profile);
                format!("{:?}", found.expected(2, 1).collect::<Vec<_>>())
            }
        };
        expect.assert_eq(&told);
    }

    #[test]
    fn it_holds_for_what_it_was_measured_with() {
        check(|text| text, expect!["[(8, 12.345µs)]"]);
        check(|_| String::new(), expect!["nothing"]);
        let other = |key: &'static str| {
            move |text: String| {
                let line = |line: &str| match line.split_once(" = ") {
                    Some((found, _)) if found == key => format!("{key} = 'other'\n"),
                    _ => format!("{line}\n"),
                };
                text.lines().map(line).collect()
            }
        };
        check(other("model_sha256"), expect!["it was measured with another model file"]);
        check(other("onnxruntime"), expect!["it was measured with another build of ONNX Runtime"]);
        check(other("cpu"), expect!["it was measured with another CPU"]);
        check(other("rows"), expect![[r#"it cannot be read: invalid type: string "other", expected usize"#]]);
        check(
            |text| text + "novel = 1\n",
            expect![
                "it cannot be read: unknown field `novel`, expected one of `instances`, `threads`, `rows`, `median_us`, `p95_us`"
            ],
        );
    }
}
