//! One wake for all connections of a batch.
//!
//! A lane that wakes connections one by one is interrupted by the first of them where it shares a core with their
//! threads; that one sends its answer and has nothing more to do, and the lane goes on to the second. So a lane hands
//! all of them over at once, to a task that lives where they do and wakes them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

#[derive(Default)]
pub struct Relay(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether a task runs the relay; if none does, whoever comes wakes by itself.
    runs: bool,
    task: Option<Waker>,
    /// No more than answers that were given since the task last ran.
    wakers: Vec<Waker>,
}

impl Relay {
    /// Wakes all of them, in the task that runs the relay.
    pub(super) fn pass(&self, mut wakers: Vec<Waker>) {
        let mut state = self.0.lock();
        if state.runs {
            state.wakers.append(&mut wakers);
            wakers.extend(state.task.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Runs the relay until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        self.0.lock().runs = true;
        let running = Running(&self);
        poll_fn(|cx| running.0.poll(cx)).await;
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut state = self.0.lock();
            if state.wakers.is_empty() {
                state.task = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

struct Running<'a>(&'a Relay);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let state = std::mem::take(&mut *self.0.0.lock());
        state.wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;

    use crate::error::{Code, Error};
    use crate::reply::counter::Counter;
    use crate::reply::{Mailbox, Wakes};

    /// How often the relay and two connections have been woken.
    struct Sleepers([Arc<Counter>; 3]);

    impl Sleepers {
        fn new() -> Self {
            Self(Default::default())
        }

        fn counts(&self) -> [usize; 3] {
            self.0.each_ref().map(|counter| counter.count())
        }

        fn waker(&self, index: usize) -> Waker {
            Arc::clone(&self.0[index]).into()
        }

        fn poll(&self, run: std::pin::Pin<&mut impl Future<Output = ()>>) {
            assert!(run.poll(&mut Context::from_waker(&self.waker(0))).is_pending());
        }

        /// Answers as many connections as are asked for, in one batch.
        fn answer(&self, relay: &Arc<Relay>, connections: usize) {
            let mut wakes = Wakes::default();
            for index in 1..=connections {
                let mailbox = Mailbox::through(1, Arc::clone(relay));
                let ticket = mailbox.issue(());
                let waker = self.waker(index);
                let mut ready = Vec::new();
                assert!(mailbox.poll_answers(&mut Context::from_waker(&waker), &mut ready).is_pending());
                ticket.answer(Err(Error::new(Code::InferenceFailed, "failed")), &mut wakes);
            }
        }
    }

    #[test]
    fn a_batch_wakes_the_relay_once_and_that_wakes_the_connections() {
        let (relay, sleepers) = (Arc::new(Relay::default()), Sleepers::new());
        let mut run = pin!(Arc::clone(&relay).run());
        sleepers.poll(run.as_mut());
        sleepers.answer(&relay, 2);
        assert_eq!(sleepers.counts(), [1, 0, 0]);
        sleepers.answer(&relay, 2);
        assert_eq!(sleepers.counts(), [1, 0, 0], "it is awake already");
        sleepers.poll(run.as_mut());
        assert_eq!(sleepers.counts(), [1, 2, 2]);
        sleepers.answer(&relay, 2);
        assert_eq!(sleepers.counts(), [2, 2, 2]);
    }

    #[test]
    fn one_connection_is_woken_by_the_lane_itself() {
        let (relay, sleepers) = (Arc::new(Relay::default()), Sleepers::new());
        let mut run = pin!(Arc::clone(&relay).run());
        sleepers.poll(run.as_mut());
        sleepers.answer(&relay, 1);
        assert_eq!(sleepers.counts(), [0, 1, 0]);
    }

    #[test]
    fn nobody_sleeps_on_when_nothing_runs_the_relay() {
        let (relay, sleepers) = (Arc::new(Relay::default()), Sleepers::new());
        sleepers.answer(&relay, 2);
        assert_eq!(sleepers.counts(), [0, 1, 1], "not yet");
        {
            let mut run = pin!(Arc::clone(&relay).run());
            sleepers.poll(run.as_mut());
            sleepers.answer(&relay, 2);
            assert_eq!(sleepers.counts(), [1, 1, 1]);
        }
        assert_eq!(sleepers.counts(), [1, 2, 2], "what it had been given when it ended");
        sleepers.answer(&relay, 2);
        assert_eq!(sleepers.counts(), [1, 3, 3], "no more");
    }
}
