//! Answers of a stream that is behind, kept back so that several leave together.
//!
//! The steps of a stream run one after the other. Sent one by one, each answer is a system call, a packet and a wake of
//! its client, which together cost more than a step of a small model. A client that has sent on without waiting can wait
//! for a moment: one that keeps up with real time has nothing under way when its answer comes, and has it at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Answers that leave together, at the most.
const MOST: usize = 8;

/// How long the first of them waits, at the most.
const LONGEST: Duration = Duration::from_millis(20);

#[derive(Default)]
pub struct Hold {
    answers: usize,
    /// Kept for the next time.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Hold {
    /// Whether one more answer is kept back.
    #[allow(clippy::disallowed_methods, reason = "in tests this clock jumps, as the runtime's timers do")]
    pub fn keep(&mut self) -> bool {
        self.answers += 1;
        if self.answers == 1 {
            let end = Instant::now() + LONGEST;
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(end),
                None => self.alarm = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        self.answers < MOST
    }

    /// What was kept back has left.
    pub fn end(&mut self) {
        self.answers = 0;
    }

    /// Ready once what is kept back has waited for long enough.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) if self.answers > 0 => alarm.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}
