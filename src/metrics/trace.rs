//! What is counted of spans.

use ::metrics::Counter;

use super::{Metrics, SPANS_DROPPED, SPANS_EXPORTED};

pub struct TraceMetrics {
    pub exported: Counter,
    /// Dropped, since too many waited already.
    pub full: Counter,
    /// Dropped, since the collector did not take them.
    pub failed: Counter,
}

impl Metrics {
    pub fn traces(&self) -> TraceMetrics {
        self.make(|| TraceMetrics {
            exported: ::metrics::counter!(SPANS_EXPORTED),
            full: ::metrics::counter!(SPANS_DROPPED, "reason" => "queue_full"),
            failed: ::metrics::counter!(SPANS_DROPPED, "reason" => "export_failed"),
        })
    }
}
