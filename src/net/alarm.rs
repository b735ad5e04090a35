//! A moment that a connection waits for.
//!
//! A connection is polled for each message, and most alarms ring after thousands of them: asking one whether it has rung
//! is cheaper than polling it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::coop::has_budget_remaining;
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

    /// Ready when the moment has come.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_set && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        let poll = self.sleep.as_mut().poll(cx);
        // A task that has used up its turn is told to wait without being heard.
        self.is_set = poll.is_pending() && has_budget_remaining();
        poll
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::ready;
    use std::time::Duration;

    use tokio::task::coop::poll_proceed;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    #[allow(clippy::disallowed_methods, reason = "the clock is the test's")]
    async fn an_alarm_that_is_set_at_the_end_of_a_turn_rings() {
        for spent in [false, true] {
            let start = Instant::now();
            let mut alarm = Alarm::new(start + Duration::from_secs(1));
            let mut turns = 0;
            let rings = poll_fn(|cx| {
                turns += 1;
                while spent && turns == 1 && has_budget_remaining() {
                    ready!(poll_proceed(cx)).made_progress();
                }
                alarm.poll(cx)
            });
            timeout(Duration::from_secs(60), rings).await.expect("it rings");
            assert_eq!(start.elapsed().as_secs(), 1);
            assert_eq!(turns, if spent { 3 } else { 2 });
        }
    }
}
