//! What is counted of sockets.

use std::sync::Arc;

use ::metrics::{Counter, Gauge};

use super::{
    CONNECTIONS, CONNECTIONS_CLOSED, CONNECTIONS_GIVEN_UP, CONNECTIONS_OPENED, HTTP_ERRORS, HTTP_REQUESTS,
    MESSAGE_BYTES, MESSAGES, Metrics, TLS_FAILED,
};
use crate::error::Code;

/// One direction of a connection.
pub struct Side {
    messages: Counter,
    bytes: Counter,
}

impl Side {
    fn new(direction: &'static str) -> Self {
        Self {
            messages: ::metrics::counter!(MESSAGES, "direction" => direction),
            bytes: ::metrics::counter!(MESSAGE_BYTES, "direction" => direction),
        }
    }

    pub fn count(&self, messages: u64, bytes: usize) {
        self.messages.increment(messages);
        self.bytes.increment(bytes as u64);
    }
}

pub struct NetMetrics {
    pub received: Side,
    pub sent: Side,
    pub memory: Gauge,
}

impl NetMetrics {
    pub(super) fn new() -> Self {
        Self {
            received: Side::new("received"),
            sent: Side::new("sent"),
            memory: ::metrics::gauge!(super::REQUEST_MEMORY),
        }
    }
}

/// Counts a connection as open until it is closed.
pub struct OpenConnection {
    metrics: Arc<Metrics>,
    endpoint: &'static str,
    open: Gauge,
}

impl OpenConnection {
    pub fn close(self, code: u16) {
        // A client may send any of thousands of codes of its own: they share a series.
        let code = if code < 3000 { code.to_string() } else { "other".to_owned() };
        let endpoint = self.endpoint;
        self.metrics.make(|| {
            ::metrics::counter!(CONNECTIONS_CLOSED, "endpoint" => endpoint, "code" => code).increment(1);
        });
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

impl Metrics {
    pub fn http_request(&self, route: &'static str, status: u16) {
        self.make(|| {
            ::metrics::counter!(HTTP_REQUESTS, "route" => route, "status" => status.to_string()).increment(1);
        });
    }

    /// What was asked over HTTP, a handshake too, had an error for its answer.
    pub fn http_error(&self, route: &'static str, code: Code) {
        self.make(|| {
            ::metrics::counter!(HTTP_ERRORS, "route" => route, "code" => code.as_str()).increment(1)
        });
    }

    /// A WebSocket was ended for its time; `reason` is one of a few.
    pub fn given_up(&self, reason: &'static str) {
        self.make(|| ::metrics::counter!(CONNECTIONS_GIVEN_UP, "reason" => reason).increment(1));
    }

    /// A connection that came to no TLS, though one side wanted it; `reason` is one of a few.
    pub fn tls_failed(&self, reason: &'static str) {
        self.make(|| ::metrics::counter!(TLS_FAILED, "reason" => reason).increment(1));
    }

    pub fn connection_opened(self: &Arc<Self>, endpoint: &'static str) -> OpenConnection {
        let open = self.make(|| {
            ::metrics::counter!(CONNECTIONS_OPENED, "endpoint" => endpoint).increment(1);
            ::metrics::gauge!(CONNECTIONS, "endpoint" => endpoint)
        });
        open.increment(1.0);
        OpenConnection { metrics: Arc::clone(self), endpoint, open }
    }
}
