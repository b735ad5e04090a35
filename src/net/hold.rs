//! Answers of a stream that is behind, kept back so that several leave together.
//!
//! The steps of a stream run one after the other. Sent one by one, each answer is a system call, a packet and a wake of
//! its client, which together cost half as much as a step of a small model. A client that has sent far ahead can wait for
//! a moment. One that keeps up with real time has little under way when an answer comes, and has it at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Steps that a client has to be ahead of an answer for it to wait.
const AHEAD: usize = 4;

/// Turns of the writer whose answers leave together. Each has one answer, unless steps were refused.
const MOST: usize = 8;

/// How long the first answer waits, at the most.
const LONGEST: Duration = Duration::from_millis(20);

#[derive(Default)]
pub struct Hold {
    turns: usize,
    /// Kept for the next time.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Hold {
    /// Whether what there is to say is kept back, with so many answers still to come.
    #[allow(clippy::disallowed_methods, reason = "in tests this clock jumps, as the runtime's timers do")]
    pub fn keep(&mut self, owed: usize) -> bool {
        self.turns += 1;
        if owed < AHEAD || self.turns == MOST {
            return false;
        }
        if self.turns == 1 {
            let end = Instant::now() + LONGEST;
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(end),
                None => self.alarm = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        true
    }

    /// What was kept back has left.
    pub fn end(&mut self) {
        self.turns = 0;
    }

    /// Ready once what is kept back has waited for long enough.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) if self.turns > 0 => alarm.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}
