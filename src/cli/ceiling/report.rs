//! What was measured, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::timeline;
use crate::check::{Alone, Fed, Target};

#[derive(Serialize)]
pub(super) struct Report {
    name: String,
    version: u64,
    device: String,
    onnxruntime: String,
    alone: Vec<Run>,
    lanes: Vec<Row>,
    /// What could not be measured, and why.
    failures: Vec<String>,
}

/// Lanes that are fed from memory, and how they are set.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Lanes {
    pub(super) rows: usize,
    pub(super) graphs: bool,
    pub(super) in_flight: usize,
    pub(super) instances: usize,
}

#[derive(Serialize)]
struct Run {
    rows: usize,
    graphs: bool,
    runs: usize,
    run_us: f64,
    p95_us: f64,
    /// Of a run behind another.
    behind_us: f64,
    rows_per_second: f64,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    lanes: Lanes,
    rows_per_second: f64,
    /// Of what one instance of the model does alone, at the same batch size and with the same graphs.
    of_ceiling: Option<f64>,
    mean_batch: f64,
    cpu_us_per_row: f64,
    device_bytes: usize,
    pinned_bytes: usize,
    /// The share of the time for which the device computed, by its own events.
    #[serde(skip_serializing_if = "Option::is_none")]
    computing: Option<f64>,
    /// The share of the copies' time during which it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    copies_hidden: Option<f64>,
}

pub(super) fn with(graphs: bool) -> &'static str {
    if graphs { "with CUDA graphs" } else { "without CUDA graphs" }
}

#[allow(clippy::cast_precision_loss, reason = "no run takes years")]
fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

#[allow(clippy::cast_precision_loss, reason = "a rate is rounded")]
fn rate(rows: usize, time: Duration) -> f64 {
    rows as f64 / time.max(Duration::from_nanos(1)).as_secs_f64()
}

impl Report {
    pub(super) fn new(name: &str, version: u64, target: &Target, onnxruntime: &str) -> Self {
        let device = match target {
            Target::Cpu => "cpu".to_owned(),
            Target::Gpu(gpu) => format!("cuda:{} ({})", gpu.about().ordinal, gpu.about().name),
        };
        let (name, onnxruntime) = (name.to_owned(), onnxruntime.to_owned());
        let (alone, lanes, failures) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, version, device, onnxruntime, alone, lanes, failures }
    }

    pub(super) fn alone(&mut self, found: &[Alone]) {
        self.alone.extend(found.iter().map(|&Alone { rows, graphs, single, behind }| Run {
            rows,
            graphs,
            runs: single.runs,
            run_us: us(single.median),
            p95_us: us(single.p95),
            behind_us: us(behind),
            rows_per_second: rate(rows, behind),
        }));
    }

    pub(super) fn lanes(&mut self, asked: Lanes, fed: &Fed) {
        // Where graphs could not be captured, the lanes run without.
        let lanes = Lanes { graphs: fed.graphs, ..asked };
        let ceiling = self.alone.iter().find(|run| (run.rows, run.graphs) == (lanes.rows, lanes.graphs));
        let shares = timeline::shares(&fed.flown);
        self.lanes.push(Row {
            lanes,
            rows_per_second: fed.rows_per_second,
            of_ceiling: ceiling.map(|run| fed.rows_per_second / run.rows_per_second),
            mean_batch: fed.mean_batch,
            cpu_us_per_row: us(fed.cpu),
            device_bytes: fed.taken.0,
            pinned_bytes: fed.taken.1,
            computing: shares.map(|shares| shares.computing),
            copies_hidden: shares.map(|shares| shares.copies_hidden),
        });
    }

    pub(super) fn failed(&mut self, what: String) {
        self.failures.push(what);
    }

    pub(super) fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, graphs, in_flight, instances } = *self;
        write!(f, "{instances} instances, {in_flight} of {rows} rows in flight, {}", with(graphs))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, device, onnxruntime, alone, lanes, failures } = self;
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        writeln!(f, "{name} version {version} on {device}, {onnxruntime}\n")?;
        writeln!(f, "ONNX Runtime alone, inputs in their place")?;
        writeln!(
            f,
            "  {:>6} {:>6} {:>12} {:>12} {:>12}",
            "rows", "graphs", "µs a run", "back to back", "rows/s"
        )?;
        for Run { rows, graphs, run_us, behind_us, rows_per_second, .. } in alone {
            let graphs = yes(*graphs);
            writeln!(f, "  {rows:>6} {graphs:>6} {run_us:>12.1} {behind_us:>12.1} {rows_per_second:>12.0}")?;
        }
        if !lanes.is_empty() {
            writeln!(f, "\nlanes, fed from memory with requests of one row")?;
            let head =
                ["rows", "graphs", "in flight", "instances", "rows/s", "of ceiling", "batch", "CPU µs a row"];
            let [rows, graphs, in_flight, instances, rate, of, batch, cpu] = head;
            writeln!(
                f,
                "  {rows:>6} {graphs:>6} {in_flight:>9} {instances:>9} {rate:>12} {of:>10} {batch:>7} {cpu:>12}"
            )?;
        }
        for Row { lanes, rows_per_second, of_ceiling, mean_batch, cpu_us_per_row, .. } in lanes {
            let Lanes { rows, graphs, in_flight, instances } = lanes;
            let (graphs, of) = (yes(*graphs), of_ceiling.map_or(String::new(), |of| format!("{of:.3}")));
            writeln!(
                f,
                "  {rows:>6} {graphs:>6} {in_flight:>9} {instances:>9} {rows_per_second:>12.0} {of:>10} \
                 {mean_batch:>7.1} {cpu_us_per_row:>12.2}"
            )?;
        }
        failures.iter().try_for_each(|failure| writeln!(f, "\nFAILED: {failure}"))
    }
}
