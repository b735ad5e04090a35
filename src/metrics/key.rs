//! What is counted of keys, by their names: as many as the access file has.

use std::sync::Arc;

use ::metrics::{Counter, Gauge};

use super::{ACCESS_REFUSED, KEY_CONNECTIONS, KEY_REQUESTS, Metrics};

pub struct KeyMetrics {
    metrics: Arc<Metrics>,
    name: String,
    pub admitted: Counter,
    connections: Gauge,
}

impl KeyMetrics {
    pub fn connections(&self, open: usize) {
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        self.connections.set(open as f64);
    }

    pub fn refused(&self, outcome: &'static str) {
        let name = self.name.clone();
        let counter =
            self.metrics.make(|| ::metrics::counter!(KEY_REQUESTS, "key" => name, "outcome" => outcome));
        counter.increment(1);
    }
}

impl Metrics {
    pub fn key(self: &Arc<Self>, name: &str) -> KeyMetrics {
        let [key, other] = [name, name].map(str::to_owned);
        self.make(|| KeyMetrics {
            metrics: Arc::clone(self),
            name: name.to_owned(),
            admitted: ::metrics::counter!(KEY_REQUESTS, "key" => key, "outcome" => "admitted"),
            connections: ::metrics::gauge!(KEY_CONNECTIONS, "key" => other),
        })
    }

    /// Somebody without a key that is known; `reason` is one of a few.
    pub fn access_refused(&self, reason: &'static str) {
        self.make(|| ::metrics::counter!(ACCESS_REFUSED, "reason" => reason).increment(1));
    }
}
