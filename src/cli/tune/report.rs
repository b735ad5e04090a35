//! What was measured and what is recommended, as a table and as JSON.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Tune;
use super::subject::Subject;
use crate::registry::Origin;
use crate::tune::{self, Change, Layout, Point, Recommendation, Tuned};

/// Of the longest bar, in characters.
const WIDTH: f64 = 24.0;
/// Below so much more, batches are not worth their name.
const GAIN: f64 = 1.0 / tune::AS_GOOD;

#[derive(Serialize)]
pub(super) struct Report {
    name: String,
    version: u64,
    #[serde(flatten)]
    origin: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<f64>,
    points: Vec<Row>,
    recommended: Option<Recommended>,
    /// Why nothing is recommended.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Lines of `model.toml`; `None` if it cannot be said where they go.
    changes: Option<Vec<String>>,
    written: bool,
    #[serde(skip)]
    config: String,
}

#[derive(Serialize)]
struct Row {
    instances: usize,
    threads: usize,
    rows: usize,
    runs: usize,
    median_us: f64,
    p95_us: f64,
    row_us: f64,
    row_cpu_us: f64,
    rows_per_second: f64,
}

#[derive(Serialize)]
struct Recommended {
    /// 0 for a model that runs each request alone.
    max_batch_size: usize,
    instances: usize,
    threads: usize,
    rows_per_second: f64,
    median_us: f64,
    worst_us: f64,
    gain: f64,
}

impl Report {
    #[allow(clippy::too_many_arguments, reason = "it tells of all of them")]
    pub(super) fn new(
        options: &Tune,
        version: u64,
        subject: &Subject<'_>,
        origin: Origin,
        points: &[Point],
        tuned: &Tuned,
        changes: Option<&[Change]>,
        config: &Path,
    ) -> Self {
        let recommended = |&Recommendation { point, gain }: &Recommendation| Recommended {
            max_batch_size: if subject.batches_requests() { point.rows } else { 0 },
            instances: point.layout.instances,
            threads: point.layout.threads,
            rows_per_second: point.rows_per_second(),
            median_us: us(point.times.median),
            worst_us: us(point.worst()),
            gain,
        };
        Self {
            name: options.model.clone(),
            version,
            origin,
            latency_us: options.latency.map(us),
            points: points.iter().map(Row::new).collect(),
            recommended: tuned.as_ref().ok().map(recommended),
            why: tuned.as_ref().err().map(ToString::to_string),
            changes: changes.map(|changes| changes.iter().map(ToString::to_string).collect()),
            written: options.write && changes.is_some_and(|changes| !changes.is_empty()),
            config: config.display().to_string(),
        }
    }
}

impl Row {
    fn new(point: &Point) -> Self {
        let Point { layout: Layout { instances, threads }, rows, times } = *point;
        Self {
            instances,
            threads,
            rows,
            runs: times.runs,
            median_us: us(times.median),
            p95_us: us(times.p95),
            row_us: us(point.each(times.median)),
            row_cpu_us: us(point.each(times.cpu)),
            rows_per_second: point.rows_per_second(),
        }
    }
}

/// Microseconds, with no more digits than there are.
#[allow(clippy::cast_precision_loss, reason = "no run takes years")]
pub(super) fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { model, cpu, cpus, .. } = &self.origin;
        writeln!(f, "{} version {}, {model}, on {cpus} CPU(s): {cpu}\n", self.name, self.version)?;
        let head = ["instances", "threads", "rows", "µs a run", "p95", "µs a row", "CPU µs a row", "rows/s"];
        let [instances, threads, rows, run, p95, row, cpu, rate] = head;
        writeln!(
            f,
            "{instances:>9} {threads:>7} {rows:>5} {run:>10} {p95:>10} {row:>9} {cpu:>12} {rate:>10}"
        )?;
        let most = self.points.iter().map(|row| row.rows_per_second).fold(0.0, f64::max);
        let mut before = None;
        for row in &self.points {
            let layout = (row.instances, row.threads);
            if before.replace(layout).is_some_and(|before| before != layout) {
                writeln!(f)?;
            }
            let Row {
                instances, threads, rows, median_us, p95_us, row_us, row_cpu_us, rows_per_second, ..
            } = row;
            let bar = bar(rows_per_second / most);
            writeln!(
                f,
                "{instances:>9} {threads:>7} {rows:>5} {median_us:>10.1} {p95_us:>10.1} {row_us:>9.2} \
                 {row_cpu_us:>12.2} {rows_per_second:>10.0} {bar}"
            )?;
        }
        writeln!(f)?;
        if let Some(recommended) = &self.recommended {
            recommended.tell(f, self.latency_us)?;
            self.tell_changes(f)?;
        }
        Ok(())
    }
}

impl Report {
    fn tell_changes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(changes) = &self.changes else { return Ok(()) };
        match (&changes[..], self.written) {
            ([], _) => return writeln!(f, "\n{} says so already", self.config),
            (_, true) => writeln!(f, "\n{} was changed:\n", self.config)?,
            (_, false) => writeln!(f, "\nfor {}, or --write does it:\n", self.config)?,
        }
        changes.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl Recommended {
    fn tell(&self, f: &mut fmt::Formatter<'_>, latency_us: Option<f64>) -> fmt::Result {
        let Self { max_batch_size, instances, threads, rows_per_second, median_us, worst_us, gain } = self;
        let bound = latency_us.map_or(String::new(), |us| format!(" within {us:.0} µs"));
        let batches = match max_batch_size {
            0 => "each request alone".to_owned(),
            rows => format!("batches of {rows}"),
        };
        writeln!(f, "recommended{bound}: {batches}, {instances} instance(s) of {threads} thread(s)")?;
        writeln!(
            f,
            "expected: {rows_per_second:.0} rows/s; a full batch takes {median_us:.0} µs, a request at the worst \
             {worst_us:.0} µs (p95, with the batch before its own)"
        )?;
        match max_batch_size {
            0 => Ok(()),
            rows if *gain < GAIN => writeln!(
                f,
                "batches gain nothing: n rows take n times as long as one. Requests of more than {rows} row(s) are \
                 refused; a larger max_batch_size costs others latency, and no rows/s"
            ),
            _ => writeln!(f, "batches gain: {gain:.1} times the rows/s of rows one by one"),
        }
    }
}

/// A part of the longest, in eighths of a character.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 0 and a few hundred"
)]
fn bar(part: f64) -> String {
    let eighths = (part.clamp(0.0, 1.0) * WIDTH * 8.0).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied().unwrap_or_default();
    format!("{}{rest}", "█".repeat(eighths / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_part() {
        assert_eq!(bar(1.0), "█".repeat(24));
        assert_eq!(bar(0.5), "█".repeat(12));
        assert_eq!(bar(1.0 / 64.0), "▍");
        assert_eq!((bar(0.0), bar(f64::NAN)), (String::new(), String::new()));
    }
}
