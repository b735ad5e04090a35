//! The server's own figures, read each second: batches, queueing and CPU time.
//!
//! They are counters, of which differences tell what happened between two readings. What a server does not tell is
//! absent.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::report::round;
use super::socket::Dialer;
use super::tally::Span;
use super::{Failure, cpu};
use crate::clock::{Clock, Time};

/// Metrics that do not come by then are missing for once.
const PATIENCE: Duration = Duration::from_millis(800);

/// A sum, and of how many.
type Counter = (f64, f64);

/// Counters at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    pub at: Time,
    /// Rows, of batches.
    pub batches: Option<Counter>,
    /// Seconds, of requests.
    pub queue: Option<Counter>,
    /// Seconds, of batches.
    pub run: Option<Counter>,
    /// Seconds.
    pub cpu: Option<f64>,
}

/// What the server did between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerReport {
    /// Mean rows of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<f64>,
    /// Mean time in the queue, and of a batch in the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ms: Option<f64>,
    /// CPU time by time; 2 is two cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_per_answer_us: Option<f64>,
}

impl Reading {
    /// Reads Prometheus' text: the names are those of Thalweg, and of Triton.
    pub fn parse(text: &str, model: &str) -> Self {
        let sum = |name: &str, label: &str| {
            let of_model = format!("model=\"{}\"", model.replace('\\', r"\\").replace('"', "\\\""));
            let values = text.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (labels, value) = match rest.strip_prefix('{') {
                    Some(rest) => rest.rsplit_once('}')?,
                    None => ("", rest.strip_prefix(' ')?),
                };
                let wanted = label.is_empty() || labels.contains(&of_model) && labels.contains(label);
                let value = value.split_whitespace().next()?;
                wanted.then(|| value.parse::<f64>().ok()).flatten()
            });
            values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
        };
        let of_model = |name: &str| sum(name, "model=");
        let histogram = |name: &str, label: &str| {
            Some((sum(&format!("{name}_sum"), label)?, sum(&format!("{name}_count"), label)?))
        };
        let triton = |total: &str, count: &str, unit: f64| Some((of_model(total)? * unit, of_model(count)?));
        Self {
            at: Time::default(),
            batches: histogram("thalweg_batch_size", "model=")
                .or_else(|| triton("nv_inference_count", "nv_inference_exec_count", 1.0)),
            queue: histogram("thalweg_queue_duration_seconds", "model=")
                .or_else(|| triton("nv_inference_queue_duration_us", "nv_inference_request_success", 1e-6)),
            run: histogram("thalweg_compute_duration_seconds", "stage=\"run\"").or_else(|| {
                triton("nv_inference_compute_infer_duration_us", "nv_inference_exec_count", 1e-6)
            }),
            cpu: sum("process_cpu_seconds_total", ""),
        }
    }
}

impl ServerReport {
    /// Between two readings, in which so many right answers came.
    pub fn between(before: &Reading, after: &Reading, answers: u64) -> Self {
        let mean = |before: Option<Counter>, after: Option<Counter>| {
            let (before, after) = (before?, after?);
            let count = after.1 - before.1;
            (count > 0.0).then(|| (after.0 - before.0) / count)
        };
        let seconds = (after.at - before.at).as_secs_f64();
        let used = before.cpu.zip(after.cpu).map(|(before, after)| after - before);
        Self {
            batch_size: mean(before.batches, after.batches).map(round),
            queue_ms: mean(before.queue, after.queue).map(|mean| round(mean * 1e3)),
            run_ms: mean(before.run, after.run).map(|mean| round(mean * 1e3)),
            cpu: used.filter(|_| seconds > 0.0).map(|used| round(used / seconds)),
            cpu_per_answer_us: used.filter(|_| answers > 0).map(|used| round(used * 1e6 / answers as f64)),
        }
    }
}

/// Reads the counters of one server.
pub struct Meter {
    dialer: Dialer,
    path: String,
    model: String,
    pid: Option<u32>,
    clock: Clock,
}

impl Meter {
    pub async fn new(plan: &Plan, clock: Clock) -> Result<Self, Failure> {
        let metering = &plan.metrics;
        let dialer = Dialer::new(metering.address.as_ref().unwrap_or(&plan.address)).await?;
        if let Some(pid) = metering.pid.filter(|pid| cpu::of_process(*pid).is_none()) {
            return Err(format!("--server-pid: there is no process {pid}").into());
        }
        let (path, model) = (metering.path.clone(), plan.model.clone());
        Ok(Self { dialer, path, model, pid: metering.pid, clock })
    }

    pub async fn read(&self) -> Reading {
        let (at, cpu) = (self.clock.now(), self.pid.and_then(cpu::of_process));
        let text = match tokio::time::timeout(PATIENCE, self.dialer.get(&self.path)).await {
            Ok(Ok((200, body))) => String::from_utf8_lossy(&body).into_owned(),
            _ => String::new(),
        };
        let reading = Reading::parse(&text, &self.model);
        Reading { at, cpu: cpu.map(|cpu| cpu.as_secs_f64()).or(reading.cpu), ..reading }
    }

    /// Reads at the beginning of the span, each second, and at its end.
    pub async fn watch(self: Arc<Self>, span: Span, readings: Arc<Mutex<Vec<Reading>>>) {
        for second in 0.. {
            let at = (span.from + Duration::from_secs(second)).min(span.until);
            tokio::time::sleep_until(self.clock.instant(at).into()).await;
            let reading = self.read().await;
            readings.lock().push(reading);
            if at == span.until {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expect: Expect) {
        let Reading { batches, queue, run, cpu, .. } = Reading::parse(text, "m");
        expect.assert_eq(&format!("{batches:?} {queue:?} {run:?} {cpu:?}"));
    }

    #[test]
    fn counters_of_the_model_are_found() {
        check(
            "# TYPE thalweg_batch_size histogram\n\
             thalweg_batch_size_sum{model=\"m\",version=\"1\"} 12\nthalweg_batch_size_count{model=\"m\",version=\"1\"} 3\n\
             thalweg_batch_size_sum{model=\"m\",version=\"2\"} 1\nthalweg_batch_size_count{model=\"m\",version=\"2\"} 1\n\
             thalweg_batch_size_sum{model=\"mm\",version=\"1\"} 99\n\
             thalweg_queue_duration_seconds_sum{model=\"m\",version=\"1\"} 0.5\nthalweg_queue_duration_seconds_count{model=\"m\",version=\"1\"} 10\n\
             thalweg_compute_duration_seconds_sum{model=\"m\",version=\"1\",stage=\"gather\"} 9\n\
             thalweg_compute_duration_seconds_sum{model=\"m\",version=\"1\",stage=\"run\"} 0.25\n\
             thalweg_compute_duration_seconds_count{model=\"m\",version=\"1\",stage=\"run\"} 4\n",
            expect!["Some((13.0, 4.0)) Some((0.5, 10.0)) Some((0.25, 4.0)) None"],
        );
        check(
            "nv_inference_count{model=\"m\",version=\"1\"} 12\nnv_inference_exec_count{model=\"m\",version=\"1\"} 4\n\
             process_cpu_seconds_total 1.5\n",
            expect!["Some((12.0, 4.0)) None None Some(1.5)"],
        );
        check("", expect!["None None None None"]);
    }

    #[test]
    fn differences_are_means_and_what_is_not_told_is_absent() {
        let reading = |seconds: u64, rows: f64, batches: f64, cpu: Option<f64>| Reading {
            at: Time::from_nanos(seconds * 1_000_000_000),
            batches: Some((rows, batches)),
            queue: None,
            run: Some((batches / 1000.0, batches)),
            cpu,
        };
        let (before, after) = (reading(1, 10.0, 10.0, Some(1.0)), reading(3, 50.0, 20.0, Some(2.0)));
        let told = ServerReport::between(&before, &after, 1000);
        expect![[r#"{"batch_size":4.0,"run_ms":1.0,"cpu":0.5,"cpu_per_answer_us":1000.0}"#]]
            .assert_eq(&serde_json::to_string(&told).unwrap());
        let silent = ServerReport::between(&Reading::default(), &Reading::default(), 0);
        expect!["{}"].assert_eq(&serde_json::to_string(&silent).unwrap());
    }
}
