//! The line that tells how a step is going.

use std::time::Duration;

use super::plan::Load;
use super::table::ms;
use super::tally::{Span, Tally};
use crate::clock::Time;

/// A moment of a step.
pub struct Progress<'a> {
    pub load: &'a Load,
    pub now: Time,
    pub span: Span,
    pub tally: &'a Tally,
}

impl Progress<'_> {
    /// Whether nothing more is due, and only answers are waited for.
    pub fn is_over(&self) -> bool {
        self.now >= self.span.until
    }

    pub fn line(&self) -> String {
        let label = self.load.label();
        if self.now < self.span.from {
            return format!("{label}: warm-up, {} left", seconds(self.span.from - self.now));
        }
        let failures = self.tally.failures() + self.tally.wrong();
        let failures = if failures == 0 { String::new() } else { format!(", {failures} FAILURES") };
        if self.is_over() {
            return format!("{label}: waiting for the last answers{failures}");
        }
        // The second that is going on is not full yet.
        let full = usize::try_from((self.now - self.span.from).as_secs()).unwrap_or_default().checked_sub(1);
        let last = full.and_then(|at| self.tally.seconds.get(at));
        let figures = last.map_or(String::new(), |second| {
            let at = |quantile: f64| ms(second.latency.value_at_quantile(quantile) as f64 / 1000.0);
            format!(" {} a second, p50 {} ms, p99 {} ms,", second.answers, at(0.5), at(0.99))
        });
        format!("{label}:{figures} {} left{failures}", seconds(self.span.until - self.now))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.0} s", duration.as_secs_f64())
}
