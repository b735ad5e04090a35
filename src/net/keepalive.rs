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
    /// How often bytes came from it: of messages, or of pongs.
    pub reads: u64,
    /// How often it took some of what is sent.
    pub writes: u64,
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
    last: Seen,
    pinged: bool,
    quiet: Duration,
}

impl Ticks {
    pub fn new(keepalive: Keepalive) -> Self {
        Self { keepalive, last: Seen::default(), pinged: false, quiet: Duration::ZERO }
    }

    /// One `interval` has passed.
    pub fn tick(&mut self, seen: Seen) -> Action {
        let Keepalive { interval, idle } = self.keepalive;
        let last = std::mem::replace(&mut self.last, seen);
        // Before the first tick no ping was sent that could have been answered.
        let pinged = std::mem::replace(&mut self.pinged, true);
        // A ping waits behind what is being sent, so meanwhile what the client takes is its answer.
        let is_dead = match (last.sending, seen.sending) {
            (true, true) => seen.writes == last.writes,
            (false, false) => !seen.deaf && !last.deaf,
            _ => false,
        };
        if pinged && is_dead && seen.reads == last.reads {
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

    /// Reads, messages, and what the connection was at: `d`eaf, `s`ending and how much of it was taken.
    fn run(idle: u64, seen: &[(u64, u64, &str)]) -> Vec<Action> {
        let mut ticks = Ticks::new(Keepalive { interval: TICK, idle: Duration::from_secs(idle) });
        let seen = seen.iter().map(|&(reads, messages, at)| Seen {
            reads,
            writes: at.matches('.').count() as u64,
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
        // A download that moves is a sign; one that stands still is none, whether the socket is read or not.
        assert_eq!(run(0, &[(1, 1, "s."), (1, 1, "s.."), (1, 1, "s..")]), [Ping, Ping, Dead]);
        assert_eq!(run(0, &[(1, 1, "ds."), (1, 1, "ds.."), (1, 1, "ds..")]), [Ping, Ping, Dead]);
    }

    #[test]
    fn a_quiet_client_is_warned_and_then_let_go() {
        use Action::{Idle, Ping, Warn};
        let pongs = |messages: &[u64]| {
            let seen = messages.iter().enumerate();
            seen.map(|(tick, &messages)| (tick as u64 + 1, messages, "")).collect::<Vec<_>>()
        };
        assert_eq!(run(60, &pongs(&[0, 0, 0, 0])), [Ping, Ping, Warn(TICK), Idle]);
        assert_eq!(run(60, &pongs(&[0, 0, 0, 1, 1])), [Ping, Ping, Warn(TICK), Ping, Ping]);
        assert_eq!(run(30, &pongs(&[1, 1, 1])), [Ping, Warn(TICK), Idle]);
    }
}
