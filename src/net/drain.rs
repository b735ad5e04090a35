//! The server's way to its end, and how far it has come.
//!
//! From the first signal on nothing new is taken: health says so, and requests and handshakes are refused. Connections
//! that ask and are answered end as soon as they have what they are owed. A stream may go on for as long as there is
//! time, so that its client can move when it suits it; it is told how long that is. What is still there then is closed,
//! again with all that it is owed.

use std::time::Duration;

use tokio::sync::watch;

use super::control::Control;

/// Of the time for the whole, so much is kept for the last answers and close frames, at most.
const LAST: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Open,
    /// Streams may go on for so long, counted from the beginning of this phase.
    Draining(Duration),
    /// Every connection ends.
    Closing,
}

/// How long streams may go on, if the whole may take so long.
pub fn notice(grace: Duration) -> Duration {
    grace - LAST.min(grace / 4)
}

/// Tells a connection's halves how the phases concern it, as they come.
pub async fn follow(mut phases: watch::Receiver<Phase>, is_stream: bool, control: &Control) {
    let changed = phases.wait_for(|phase| *phase != Phase::Open).await.map(|phase| *phase);
    if let (Ok(Phase::Draining(left)), true) = (changed, is_stream) {
        control.ask(|asked| asked.warning = Some(left));
        let _ = phases.wait_for(|phase| *phase == Phase::Closing).await;
    }
    control.leave();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_the_time_is_kept_for_the_end() {
        let seconds = |grace| notice(Duration::from_secs(grace)).as_millis();
        assert_eq!([60, 20, 4, 0].map(seconds), [55_000, 15_000, 3_000, 0]);
    }
}
