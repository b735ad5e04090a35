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

/// What a connection has seen of its client so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Bytes that came from it or that it took, in pieces as they moved.
    pub signs: u64,
    pub messages: u64,
    /// The socket is not being read, so that nothing can be heard.
    pub deaf: bool,
    /// Something is being written that it has not taken yet.
    pub sending: bool,
}

/// What to do at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Ping,
    /// Ping, and tell the client that it will be let go.
    Warn(Duration),
    /// It has been told, and has sent nothing since.
    Idle,
    /// It gave no sign, although it was being read or written to.
    Dead,
}

/// The ticks of one connection.
#[derive(Debug)]
pub struct Ticks {
    keepalive: Keepalive,
    last: Option<Seen>,
    quiet: Duration,
}

impl Ticks {
    pub fn new(keepalive: Keepalive) -> Self {
        Self { keepalive, last: None, quiet: Duration::ZERO }
    }

    /// One `interval` has passed.
    pub fn tick(&mut self, seen: Seen) -> Action {
        let Keepalive { interval, idle } = self.keepalive;
        // Before the first tick no ping has been sent that could have been answered.
        let Some(last) = self.last.replace(seen) else { return Action::Ping };
        let heard_nothing = !seen.deaf && !last.deaf;
        let took_nothing = seen.sending && last.sending;
        if seen.signs == last.signs && (heard_nothing || took_nothing) {
            return Action::Dead;
        }
        let is_quiet = seen.messages == last.messages && !seen.deaf;
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

    /// Signs, messages, and what the connection was at: `d`eaf, `s`ending.
    fn run(idle: u64, seen: &[(u64, u64, &str)]) -> Vec<Action> {
        let mut ticks = Ticks::new(Keepalive { interval: TICK, idle: Duration::from_secs(idle) });
        let seen = seen.iter().map(|&(signs, messages, at)| Seen {
            signs,
            messages,
            deaf: at.contains('d'),
            sending: at.contains('s'),
        });
        seen.map(|seen| ticks.tick(seen)).collect()
    }

    #[test]
    fn a_client_that_gives_no_sign_is_dead() {
        use Action::{Dead, Ping};
        assert_eq!(run(0, &[(0, 0, ""), (1, 0, ""), (2, 0, ""), (2, 0, "")]), [Ping, Ping, Ping, Dead]);
        // While the socket is not read, nothing can be heard of it.
        assert_eq!(run(0, &[(1, 1, "d"), (1, 1, "d"), (1, 1, ""), (1, 1, "")]), [Ping, Ping, Ping, Dead]);
        // A download that moves is a sign; one that stands still is none, read or not.
        assert_eq!(run(0, &[(1, 1, "ds"), (2, 1, "ds"), (2, 1, "ds")]), [Ping, Ping, Dead]);
    }

    #[test]
    fn a_quiet_client_is_warned_and_then_let_go() {
        use Action::{Idle, Ping, Warn};
        let pongs = |messages: &[u64]| {
            let seen = messages.iter().enumerate();
            seen.map(|(tick, &messages)| (tick as u64 + 1, messages, "")).collect::<Vec<_>>()
        };
        assert_eq!(run(60, &pongs(&[0, 0, 0, 0, 0])), [Ping, Ping, Ping, Warn(TICK), Idle]);
        assert_eq!(run(60, &pongs(&[0, 0, 0, 0, 1, 1])), [Ping, Ping, Ping, Warn(TICK), Ping, Ping]);
        assert_eq!(run(15, &pongs(&[1, 1])), [Ping, Idle]);
    }
}
