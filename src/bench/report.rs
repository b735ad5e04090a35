//! What is told of a run: the result as JSON, which tables and plots are made from.
//!
//! The schema has a version. What could not be measured is absent, and never zero.

use std::collections::BTreeMap;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::meter::{Reading, ServerReport};
use super::plan::{Goal, Load, Plan, Sought};
use super::step::Outcome;
use super::tally::{Tally, WRONG_VALUE};
use crate::clock::Clock;

/// What a result calls itself; a change that readers notice has another number.
pub const SCHEMA: &str = "thalweg-bench/1";

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: String,
    /// The version of the client.
    pub version: String,
    /// Seconds since 1970.
    pub date: u64,
    /// Whatever the user called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    pub target: TargetReport,
    pub plan: PlanReport,
    pub steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Found>,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub sought: Sought,
    pub quantile: f64,
    pub bound_ms: f64,
    /// Absent if not even the least was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<f64>,
}

/// An earlier result.
pub fn read(path: &Path) -> Result<Report, Failure> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let report: Report = serde_json::from_slice(&text)
        .map_err(|error| format!("{}: no result of a run: {error}", path.display()))?;
    if report.schema != SCHEMA {
        return Err(format!("{}: its schema is {}, not {SCHEMA}", path.display(), report.schema).into());
    }
    Ok(report)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    pub address: String,
    pub tls: bool,
    pub model: String,
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    pub warm_up_s: f64,
    pub duration_s: f64,
    pub drain_s: f64,
    pub threads: usize,
    pub seed: u64,
}

/// One load, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub label: String,
    pub load: Load,
    pub connections: Connections,
    pub requests: Requests,
    /// Right answers in a second.
    pub rate: f64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub latency_ms: Latency,
    /// The quantile that a search looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sought_ms: Option<f64>,
    /// How late the client itself was.
    pub lateness_ms: Latency,
    pub client: ClientReport,
    /// What the server says of itself.
    pub server: ServerReport,
    pub series: Vec<SecondReport>,
    /// What stands between these figures and belief.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// One of the answers that were wrong, or a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    pub asked: usize,
    pub opened: usize,
    pub refused: BTreeMap<String, u64>,
    pub broken: BTreeMap<String, u64>,
}

/// Of those that were scheduled in the span, each is in one of the first three counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    pub scheduled: u64,
    pub succeeded: u64,
    pub failed: BTreeMap<String, u64>,
    pub lost: u64,
    /// Of the lost, those that were never sent.
    pub unsent: u64,
    pub out_of_order: u64,
    pub wrong_values: u64,
    pub strange: u64,
}

impl Requests {
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Whether each request has its right answer.
    pub fn all_right(&self) -> bool {
        self.failures() + self.lost + self.out_of_order + self.wrong_values + self.strange == 0
    }
}

/// Milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    #[serde(rename = "p99.99")]
    pub p9999: f64,
    pub max: f64,
    /// Pairs of a quantile and its value, ever nearer to 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientReport {
    /// How busy each thread was, of 1.
    pub busy: Vec<f64>,
}

/// What came in one second of the span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecondReport {
    pub second: usize,
    pub answers: u64,
    pub failed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    #[serde(flatten)]
    pub server: ServerReport,
}

impl Report {
    pub fn new(plan: &Plan, clock: Clock) -> Self {
        let host = &plan.address.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let times = plan.times;
        Self {
            schema: SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            date: clock.date(),
            label: plan.label.clone(),
            target: TargetReport {
                address: format!("{host}:{}", plan.address.port),
                tls: plan.address.trust.is_some(),
                model: plan.model.clone(),
                kind: plan.target.to_string(),
            },
            plan: PlanReport {
                warm_up_s: times.warm_up.as_secs_f64(),
                duration_s: times.duration.as_secs_f64(),
                drain_s: times.drain.as_secs_f64(),
                threads: plan.threads,
                seed: plan.seed,
            },
            steps: Vec::new(),
            search: None,
        }
    }

    /// Why the run is no success, if it is none.
    pub fn complaint(&self) -> Option<String> {
        // A search goes too far on purpose.
        if let Some(found) = &self.search {
            return found.held.is_none().then(|| "nothing that was tried was held".to_owned());
        }
        self.steps.iter().find_map(|step| Some(format!("{}: {}", step.label, step.complaint()?)))
    }
}

impl Step {
    pub fn new(outcome: &Outcome, goal: Option<&Goal>) -> Self {
        let Outcome { load, tally, opened, refused, why, busy, readings } = outcome;
        let length = tally.span.length().as_secs_f64();
        let mut step = Self {
            label: load.label(),
            load: *load,
            connections: Connections {
                asked: load.connections,
                opened: *opened,
                refused: refused.clone(),
                broken: tally.broken.clone(),
            },
            requests: Requests {
                scheduled: tally.requests,
                succeeded: tally.succeeded,
                failed: tally.failed.clone(),
                lost: tally.lost,
                unsent: tally.unsent,
                out_of_order: tally.out_of_order,
                wrong_values: tally.wrong_values,
                strange: tally.strange,
            },
            rate: round(tally.in_time as f64 / length.max(1e-9)),
            sent_bytes: tally.sent_bytes,
            received_bytes: tally.received_bytes,
            latency_ms: Latency::of(&tally.latency, true),
            sought_ms: goal.map(|goal| tally.latency.value_at_quantile(goal.quantile) as f64 / 1000.0),
            lateness_ms: Latency::of(&tally.lateness, false),
            client: ClientReport { busy: busy.iter().copied().map(round).collect() },
            server: match &readings[..] {
                [first, .., last] => ServerReport::between(first, last, tally.in_time),
                _ => ServerReport::default(),
            },
            series: series(tally, readings),
            warnings: Vec::new(),
            example: tally.example.clone().or_else(|| why.clone()),
        };
        step.warnings = step.doubts();
        step
    }

    /// Whether a search takes it for held.
    pub fn holds(&self, goal: &Goal) -> bool {
        let bound = goal.bound.as_secs_f64() * 1000.0;
        self.complaint().is_none() && self.sought_ms.is_some_and(|latency| latency < bound)
    }

    /// What was wrong, in a sentence.
    pub fn complaint(&self) -> Option<String> {
        let Requests { scheduled, lost, unsent, out_of_order, wrong_values, strange, .. } = self.requests;
        let mut told = Vec::new();
        let reasons = |counts: &BTreeMap<String, u64>| {
            let reasons = counts.iter().filter(|(code, _)| *code != WRONG_VALUE);
            reasons.map(|(code, count)| format!("{count} {code}")).collect::<Vec<_>>().join(", ")
        };
        let Connections { refused, broken, .. } = &self.connections;
        for (what, counts) in [
            ("connections refused", refused),
            ("connections that ended early", broken),
            ("errors", &self.requests.failed),
        ] {
            let reasons = reasons(counts);
            if !reasons.is_empty() {
                told.push(format!("{what}: {reasons}"));
            }
        }
        if scheduled == 0 {
            told.push("nothing was asked".to_owned());
        }
        if lost > 0 {
            told.push(format!(
                "answers that did not come in time: {lost} ({unsent} of their requests were never sent)"
            ));
        }
        for (count, what) in [
            (out_of_order, "answers out of order"),
            (wrong_values, "answers with a wrong value"),
            (strange, "answers to nothing that was asked"),
        ] {
            if count > 0 {
                told.push(format!("{what}: {count}"));
            }
        }
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Whether the client measured itself.
    fn doubts(&self) -> Vec<String> {
        const BUSY: f64 = 0.9;
        const LATE: f64 = 1.0;
        let mut doubts = Vec::new();
        let busiest = self.client.busy.iter().copied().fold(0.0, f64::max);
        if busiest > BUSY {
            let busiest = busiest * 100.0;
            doubts.push(format!("the client is the limit: a thread of it was busy for {busiest:.0} % of the time; more --threads may help"));
        }
        let late = self.lateness_ms.p99;
        if late > LATE {
            doubts.push(format!("the client is late: 1 % of the requests were sent {late:.1} ms or more behind their time, for which the server is not to blame"));
        }
        doubts
    }
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>, with_curve: bool) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile: f64| ms(histogram.value_at_quantile(quantile));
        let curve = with_curve.then(|| {
            let points = histogram
                .iter_quantiles(10)
                .map(|point| (round(point.quantile_iterated_to()), ms(point.value_iterated_to())));
            points.collect()
        });
        Self {
            count: histogram.len(),
            mean: round(histogram.mean() / 1000.0),
            min: ms(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: ms(histogram.max()),
            curve: curve.unwrap_or_default(),
        }
    }
}

/// To six digits behind the point: as many as mean something, and are read again as they were written.
pub fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A line for each second of the span: a server that was silent has its seconds as well.
fn series(tally: &Tally, readings: &[Reading]) -> Vec<SecondReport> {
    let length = tally.span.length();
    let count = usize::try_from(length.as_secs()).unwrap_or(0) + usize::from(length.subsec_nanos() > 0);
    let told = |at: usize| {
        let second = tally.seconds.get(at);
        let latency = |value: fn(&Histogram<u32>) -> u64| {
            second.map_or(0.0, |second| value(&second.latency) as f64 / 1000.0)
        };
        let answers = second.map_or(0, |second| second.answers);
        SecondReport {
            second: at,
            answers,
            failed: second.map_or(0, |second| second.failed),
            p50_ms: latency(|latency| latency.value_at_quantile(0.5)),
            p99_ms: latency(|latency| latency.value_at_quantile(0.99)),
            max_ms: latency(Histogram::max),
            server: match readings.get(at..at + 2) {
                Some([before, after]) => ServerReport::between(before, after, answers),
                _ => ServerReport::default(),
            },
        }
    };
    (0..count.max(tally.seconds.len())).map(told).collect()
}
