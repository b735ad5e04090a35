//! Answers of a stream that is behind, kept back so that several leave together.
//!
//! The steps of a stream run one after the other. Sent one by one, each answer is a wake of the connection, a system call,
//! a packet and a wake of its client, which together cost half as much as a step of a small model. A client that has sent
//! far ahead can wait for a moment. One that keeps up with real time has little under way when an answer comes, and has it
//! at once.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;
use crate::reply::Enough;

/// Steps that a client has to be ahead of an answer for it to wait.
const AHEAD: usize = 4;

/// So many answers do not wait for more.
pub const ENOUGH: usize = 8;

/// How long the first answer waits, at the most.
const LONGEST: Duration = Duration::from_millis(40);

#[derive(Default)]
pub struct Hold {
    holds: bool,
    /// Kept for the next time.
    alarm: Option<Alarm>,
}

impl Hold {
    /// How many answers are to leave together next, now that some have been taken and so many are owed.
    #[allow(clippy::disallowed_methods, reason = "in tests this clock jumps, as the runtime's timers do")]
    pub fn next(&mut self, owed: usize) -> Enough {
        self.holds = owed >= AHEAD;
        if !self.holds {
            return Enough::default();
        }
        let end = Instant::now() + LONGEST;
        match &mut self.alarm {
            Some(alarm) => alarm.reset(end),
            None => self.alarm = Some(Alarm::new(end)),
        }
        Enough { answers: ENOUGH, unless_left: AHEAD }
    }

    /// Ready once what is kept back has waited for long enough.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) if self.holds => alarm.poll(cx).map(|()| self.holds = false),
            _ => Poll::Pending,
        }
    }
}
