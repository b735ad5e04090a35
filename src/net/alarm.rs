//! A moment that a connection waits for.
//!
//! A connection is polled for each message, and most alarms ring after thousands of them: asking one whether it has rung
//! is cheaper than polling it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Only one task may wait for it.
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// The task will be woken.
    is_set: bool,
}

impl Alarm {
    pub fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(at)), is_set: false }
    }

    pub fn reset(&mut self, at: Instant) {
        self.sleep.as_mut().reset(at);
        self.is_set = false;
    }

    /// Ready once, when the moment has come.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_set && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        let poll = self.sleep.as_mut().poll(cx);
        self.is_set = poll.is_pending();
        poll
    }
}
