//! What is told of the server as a whole: how far it is in its life, its limits, and how late its timers are.

use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};

use super::{
    ACCEPT_FAILURES, CONNECTIONS_LIMIT, DRAIN_DEADLINE, DRAINING, EVENT_LOOP_LAG, READY,
    REQUEST_MEMORY_LIMIT, TLS_CERTIFICATE_EXPIRES,
};

pub struct ServerMetrics {
    ready: Gauge,
    draining: Gauge,
    drain_deadline: Gauge,
    lag: Histogram,
    accept_failures: Counter,
}

impl ServerMetrics {
    pub(super) fn new() -> Self {
        Self {
            ready: ::metrics::gauge!(READY),
            draining: ::metrics::gauge!(DRAINING),
            drain_deadline: ::metrics::gauge!(DRAIN_DEADLINE),
            lag: ::metrics::histogram!(EVENT_LOOP_LAG),
            accept_failures: ::metrics::counter!(ACCEPT_FAILURES),
        }
    }

    pub fn ready(&self, ready: bool) {
        self.ready.set(f64::from(u8::from(ready)));
    }

    /// The server drains; what is open then is cut off at `deadline`, in seconds since 1970.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub fn drains(&self, deadline: u64) {
        self.draining.set(1.0);
        self.drain_deadline.set(deadline as f64);
    }

    /// A timer rang so late.
    pub fn lags(&self, late: Duration) {
        self.lag.record(late.as_secs_f64());
    }

    pub fn accept_failed(&self) {
        self.accept_failures.increment(1);
    }
}

impl super::Metrics {
    /// Until when the certificate is good, in seconds since 1970, if it says so.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub fn certificate_expires(&self, at: Option<u64>) {
        let at = at.map_or(f64::NAN, |at| at as f64);
        self.make(|| ::metrics::gauge!(TLS_CERTIFICATE_EXPIRES).set(at));
    }

    /// What a server never has more of.
    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub fn limits(&self, connections: usize, request_memory: usize) {
        self.make(|| {
            ::metrics::gauge!(CONNECTIONS_LIMIT).set(connections as f64);
            ::metrics::gauge!(REQUEST_MEMORY_LIMIT).set(request_memory as f64);
        });
    }
}
