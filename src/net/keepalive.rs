//! When to ping a client, and when to give it up: policy, stepped by the connection's timer.

use std::time::Duration;

/// How a connection is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// From one ping to the next; zero: none are sent, and nobody is given up.
    pub interval: Duration,
    /// How long a client may send no message; zero: for ever.
    pub idle: Duration,
}

/// What a connection has heard of its client so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Anything at all: bytes of messages or of pongs.
    pub reads: u64,
    pub messages: u64,
    /// The socket is not being read, so that nothing can be heard.
    pub deaf: bool,
}

/// What to do at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Ping,
    /// Ping, and tell the client that it will be let go.
    Warn(Duration),
    /// It has been told, and has sent nothing since.
    Idle,
    /// It did not answer the last ping.
    Dead,
}

/// The ticks of one connection.
#[derive(Debug)]
pub struct Ticks {
    keepalive: Keepalive,
    last: Heard,
    pinged: bool,
    quiet: Duration,
}

impl Ticks {
    pub fn new(keepalive: Keepalive) -> Self {
        Self { keepalive, last: Heard::default(), pinged: false, quiet: Duration::ZERO }
    }

    /// One `interval` has passed.
    pub fn tick(&mut self, heard: Heard) -> Action {
        let Keepalive { interval, idle } = self.keepalive;
        let last = std::mem::replace(&mut self.last, heard);
        if self.pinged && heard.reads == last.reads && !heard.deaf && !last.deaf {
            return Action::Dead;
        }
        self.pinged = true;
        let is_quiet = heard.messages == last.messages && !heard.deaf;
        self.quiet = if is_quiet { self.quiet + interval } else { Duration::ZERO };
        if idle.is_zero() || self.quiet + interval < idle {
            Action::Ping
        } else if self.quiet < idle {
            Action::Warn(idle - self.quiet)
        } else {
            Action::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_secs(15);

    fn run(idle: u64, heard: &[(u64, u64, bool)]) -> Vec<Action> {
        let mut ticks = Ticks::new(Keepalive { interval: TICK, idle: Duration::from_secs(idle) });
        let heard = heard.iter().map(|&(reads, messages, deaf)| Heard { reads, messages, deaf });
        heard.map(|heard| ticks.tick(heard)).collect()
    }

    #[test]
    fn a_client_that_answers_no_ping_is_dead() {
        use Action::{Dead, Ping};
        assert_eq!(
            run(0, &[(0, 0, false), (1, 0, false), (2, 0, false), (2, 0, false)]),
            [Ping, Ping, Ping, Dead]
        );
        // While the socket is not read, nothing can be heard of it.
        assert_eq!(
            run(0, &[(1, 1, true), (1, 1, true), (1, 1, false), (1, 1, false)]),
            [Ping, Ping, Ping, Dead]
        );
    }

    #[test]
    fn a_quiet_client_is_warned_and_then_let_go() {
        use Action::{Idle, Ping, Warn};
        let pongs = |messages: &[u64]| {
            let heard = messages.iter().enumerate();
            heard.map(|(tick, &messages)| (tick as u64 + 1, messages, false)).collect::<Vec<_>>()
        };
        assert_eq!(run(60, &pongs(&[0, 0, 0, 0])), [Ping, Ping, Warn(TICK), Idle]);
        assert_eq!(run(60, &pongs(&[0, 0, 0, 1, 1])), [Ping, Ping, Warn(TICK), Ping, Ping]);
        assert_eq!(run(1, &pongs(&[1, 1])), [Warn(Duration::from_secs(1)), Idle]);
    }
}
