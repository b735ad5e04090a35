//! What was found, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::check::{Outcome, Target};
use crate::device::About;

#[derive(Serialize)]
pub(super) struct Report {
    device: String,
    seed: u64,
    gpus: Vec<Gpu>,
    /// Why none, or no more, can be used.
    no_gpu: Option<String>,
    checks: Vec<Check>,
    pub(super) copies: Vec<Copy>,
    /// Why none was timed.
    pub(super) no_copies: Option<String>,
    pub(super) models: Vec<Model>,
    /// Why none was run.
    pub(super) no_models: Option<String>,
}

#[derive(Serialize)]
struct Gpu {
    number: usize,
    name: String,
    compute_capability: String,
    memory_bytes: usize,
    driver: String,
}

#[derive(Serialize)]
struct Check {
    check: &'static str,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    seconds: f64,
}

#[derive(Serialize)]
pub(super) struct Copy {
    direction: &'static str,
    bytes: usize,
    seconds: f64,
}

#[derive(Serialize)]
pub(super) struct Model {
    name: String,
    version: u64,
    pub(super) runs: Vec<Run>,
    /// From the CPU's results; on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) difference: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Run {
    rows: usize,
    seconds: f64,
}

impl Report {
    pub(super) fn new(target: &Target, seed: u64, gpus: Vec<About>, no_gpu: Option<String>) -> Self {
        let device = match target {
            Target::Cpu => "cpu".to_owned(),
            Target::Gpu(gpu) => format!("cuda:{} ({})", gpu.about().ordinal, gpu.about().name),
        };
        let gpu = |about: About| Gpu {
            number: about.ordinal,
            name: about.name,
            compute_capability: format!("{}.{}", about.compute_capability.0, about.compute_capability.1),
            memory_bytes: about.memory,
            driver: format!("CUDA {}.{}", about.driver / 1000, about.driver % 1000 / 10),
        };
        let gpus = gpus.into_iter().map(gpu).collect();
        let (checks, copies, models) = (Vec::new(), Vec::new(), Vec::new());
        Self { device, seed, gpus, no_gpu, checks, copies, no_copies: None, models, no_models: None }
    }

    pub(super) fn checks(&mut self, outcomes: Vec<Outcome>) {
        let check = |Outcome { check, result, time }| Check {
            check,
            passed: result.is_ok(),
            why: result.err(),
            seconds: time.as_secs_f64(),
        };
        self.checks = outcomes.into_iter().map(check).collect();
    }

    pub(super) fn passed(&self) -> bool {
        let failed = |model: &Model| model.error.is_some();
        self.checks.iter().all(|check| check.passed)
            && self.no_copies.is_none()
            && !self.models.iter().any(failed)
    }
}

impl Copy {
    pub(super) fn new(direction: &'static str, bytes: usize, time: Duration) -> Self {
        Self { direction, bytes, seconds: time.as_secs_f64() }
    }
}

impl Model {
    pub(super) fn new(name: &str, version: u64) -> Self {
        Self { name: name.to_owned(), version, runs: Vec::new(), difference: None, error: None }
    }
}

impl Run {
    pub(super) fn new(rows: usize, time: Duration) -> Self {
        Self { rows, seconds: time.as_secs_f64() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss, reason = "a table rounds")]
        let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
        writeln!(f, "device  {}", self.device)?;
        for Gpu { number, name, compute_capability, memory_bytes, driver } in &self.gpus {
            let memory = gib(*memory_bytes);
            writeln!(
                f,
                "GPU {number}   {name}, compute capability {compute_capability}, {memory:.1} GiB, {driver}"
            )?;
        }
        if let Some(why) = &self.no_gpu {
            writeln!(f, "no GPU  {why}")?;
        }
        writeln!(f, "\nchecks, with seed {}", self.seed)?;
        for Check { check, why, seconds, .. } in &self.checks {
            let passed = if why.is_none() { "ok" } else { "FAILED" };
            writeln!(f, "  {check:<45} {passed:<6} {seconds:>9.3} s")?;
            if let Some(why) = why {
                writeln!(f, "      {why}")?;
            }
        }
        writeln!(f, "\ncopies")?;
        for Copy { direction, bytes, seconds } in &self.copies {
            let speed = gib(*bytes) / seconds.max(f64::MIN_POSITIVE);
            writeln!(f, "  {direction:<45} {speed:>9.2} GiB/s")?;
        }
        if let Some(why) = &self.no_copies {
            writeln!(f, "  FAILED: {why}")?;
        }
        writeln!(f, "\nmodels, from the rows of a batch to its answer")?;
        for model in &self.models {
            write!(f, "{model}")?;
        }
        match &self.no_models {
            Some(why) => writeln!(f, "  none: {why}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} {}", self.name, self.version)?;
        if let Some(difference) = self.difference {
            write!(f, "   differs from the CPU by {difference:.1e} at the most")?;
        }
        writeln!(f)?;
        if let Some(why) = &self.error {
            writeln!(f, "      FAILED: {why}")?;
        }
        for &Run { rows, seconds } in &self.runs {
            #[allow(clippy::cast_precision_loss, reason = "a table rounds")]
            let each = rows as f64 / seconds.max(f64::MIN_POSITIVE);
            writeln!(f, "    {rows:>5} rows {:>12.3} ms {each:>14.0} rows/s", seconds * 1e3)?;
        }
        Ok(())
    }
}
