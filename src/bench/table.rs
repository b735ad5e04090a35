//! Results for people: a line for each step.

use super::plan::Sought;
use super::report::{Report, Step};

/// The head of the table.
pub fn head() -> String {
    format!(
        "{:<24} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7} {:>7} {:>9}",
        "load",
        "answers",
        "a second",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "failures",
        "client",
        "batch",
        "CPU µs"
    )
}

pub fn line(step: &Step) -> String {
    let latency = &step.latency_ms;
    let failures = step.requests.failures() + step.requests.lost;
    let busy = step.client.busy.iter().copied().fold(0.0, f64::max) * 100.0;
    format!(
        "{:<24} {:>10} {:>10.0} {:>9} {:>9} {:>9} {:>9} {:>8} {:>6.0}% {:>7} {:>9}",
        step.label,
        step.requests.succeeded,
        step.rate,
        ms(latency.p50),
        ms(latency.p99),
        ms(latency.p999),
        ms(latency.max),
        failures,
        busy,
        optional(step.server.batch_size),
        optional(step.server.cpu_per_answer_us),
    )
}

/// What stands below a step's line.
pub fn notes(step: &Step) -> Vec<String> {
    let mut notes: Vec<_> = step.warnings.iter().map(|warning| format!("  ! {warning}")).collect();
    if let Some(complaint) = step.complaint() {
        notes.push(format!("  ! {complaint}"));
        notes.extend(step.example.iter().map(|example| format!("    for example: {example}")));
    }
    notes
}

/// What stands below the table: what a search found, and how an earlier run did.
pub fn summary(report: &Report, earlier: Option<&Report>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(found) = &report.search {
        let what = match found.sought {
            Sought::Connections => "connections",
            Sought::Streams => "streams",
            Sought::Rate => "requests a second",
        };
        let (percent, bound) = (found.quantile * 100.0, found.bound_ms);
        lines.push(match found.held {
            Some(held) => format!("{held:.0} {what} are held: p{percent} stays below {bound} ms"),
            None => format!("no number of {what} was held: p{percent} is not below {bound} ms"),
        });
    }
    let pairs = report.steps.iter().filter_map(|step| {
        let before = earlier?.steps.iter().find(|before| before.label == step.label)?;
        Some((step, before))
    });
    for (step, before) in pairs {
        let change = |now: f64, then: f64| format!("{:+.1} %", (now / then - 1.0) * 100.0);
        lines.push(format!(
            "{}: against the earlier run, a second {}, p50 {}, p99 {}",
            step.label,
            change(step.rate, before.rate),
            change(step.latency_ms.p50, before.latency_ms.p50),
            change(step.latency_ms.p99, before.latency_ms.p99),
        ));
    }
    lines
}

fn optional(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.1}"))
}

/// Digits enough to tell, and no more.
pub fn ms(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.3}"),
        value if value < 100.0 => format!("{value:.2}"),
        value => format!("{value:.1}"),
    }
}
