//! What the lanes of one model share: its queue and the batcher behind it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, select};
use parking_lot::Mutex;

use super::flights::Flights;
use crate::batcher::{Batcher, Dropped, Entry, Next, Policy, Want};
use crate::clock::{Clock, Time};
use crate::error::{Code, Error};
use crate::metrics::ModelMetrics;
use crate::queue::{Consumer, Request, Up, not_ready};
use crate::tensor::GroupKey;

impl Entry for Request {
    fn key(&self) -> &GroupKey {
        &self.key
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn priority(&self) -> usize {
        self.priority
    }

    fn enqueued(&self) -> Time {
        self.enqueued
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn is_gone(&self) -> bool {
        self.ticket.is_gone()
    }
}

/// Gives batches to the lanes of one model. Only lanes touch the lock inside; connections end at the queue.
///
/// No free lane sleeps while work waits. A lane looks at all of the queue and the batcher in one hold of the lock,
/// and is counted as idle in the same hold; from then on a request is kept by the queue and a ring by the bell
/// until some sleeper takes it, and whoever takes either looks again. So work can only be left behind by a lane
/// that goes to run, or that is busy and lets a batch grow: it rings if anyone is idle, and the one who hears it does
/// the same. Where nobody is idle, each lane has yet to look. The earliest time to wake is known to the lane that looked
/// last, or rung for.
pub struct Feed {
    requests: Consumer,
    state: Mutex<State>,
    /// Rung for a lane that sleeps while the batcher holds work for it.
    bell: (Sender<()>, Receiver<()>),
    clock: Clock,
    pub(super) metrics: Arc<ModelMetrics>,
    /// What each of the lanes has under way.
    pub(super) lanes: Mutex<Vec<Arc<Flights>>>,
}

/// What a lane gets when it asks for work.
pub(super) enum Taken {
    Batch(Vec<Request>),
    /// A batch of its own has landed.
    Landing,
    /// It was given up.
    Call,
    /// There will never be any.
    Closed,
}

enum Step {
    Run(Vec<Request>),
    /// Look again when something has come, or at this time.
    Wait {
        until: Option<Time>,
        closed: bool,
    },
    Closed,
}

struct State {
    batcher: Batcher<Request>,
    /// Lanes that wait for whatever comes, or are about to.
    idle: usize,
    /// Nobody can send requests any more.
    closed: bool,
}

impl Feed {
    pub fn new(requests: Consumer, policy: Policy, clock: Clock, metrics: Arc<ModelMetrics>) -> Arc<Self> {
        let state = State { batcher: Batcher::new(policy), idle: 0, closed: false };
        let bell = crossbeam_channel::bounded(1);
        let (state, lanes) = (Mutex::new(state), Mutex::default());
        Arc::new(Self { requests, state, bell, clock, metrics, lanes })
    }

    /// A lane is at work, until what this gives is dropped.
    pub(super) fn up(&self) -> Up {
        self.requests.up()
    }

    /// The next batch for a lane with room. Until `patience` ends only a full one: the lane is still busy.
    pub(super) fn next(&self, patience: Option<Time>, landings: &Receiver<()>, call: &Receiver<()>) -> Taken {
        loop {
            let want = match patience {
                Some(end) if self.clock.now() < end => Want::Full,
                _ => Want::Any,
            };
            match self.step(want) {
                Step::Run(mut batch) => {
                    let now = self.clock.now();
                    for request in &mut batch {
                        request.permit.leave_queue();
                        self.metrics.queued(now - request.enqueued);
                    }
                    return Taken::Batch(batch);
                }
                Step::Closed => return Taken::Closed,
                Step::Wait { until, closed } => {
                    let until =
                        if want == Want::Full { until.into_iter().chain(patience).min() } else { until };
                    if let Some(taken) = self.wait(want, until, closed, landings, call) {
                        return taken;
                    }
                }
            }
        }
    }

    fn step(&self, want: Want) -> Step {
        let mut dropped = Vec::new();
        let mut state = self.state.lock();
        while let Ok(request) = self.requests.requests().try_recv() {
            state.batcher.push(request);
        }
        let next =
            state.batcher.next(self.clock.now(), want, &mut |request, why| dropped.push((request, why)));
        let step = match next {
            Next::Run(batch) => Step::Run(batch),
            Next::Wait(_) if state.closed && state.batcher.is_empty() => Step::Closed,
            Next::Wait(until) => Step::Wait { until, closed: state.closed },
        };
        match step {
            Step::Closed => {}
            Step::Wait { .. } if want == Want::Any => state.idle += 1,
            Step::Wait { .. } | Step::Run(_) if state.idle > 0 && !state.batcher.is_empty() => self.ring(),
            Step::Wait { .. } | Step::Run(_) => {}
        }
        drop(state);
        for (request, why) in dropped {
            self.drop_request(request, why);
        }
        step
    }

    /// Sleeps until a request arrives, the bell rings, the time has come, or something has happened to the lane itself:
    /// that is given back.
    fn wait(
        &self,
        want: Want,
        until: Option<Time>,
        closed: bool,
        landings: &Receiver<()>,
        call: &Receiver<()>,
    ) -> Option<Taken> {
        // A channel without senders is always ready, and would turn this wait into a spin.
        let requests = if closed { &crossbeam_channel::never() } else { self.requests.requests() };
        // The bell calls those who take whatever there is.
        let bell = if want == Want::Any { &self.bell.1 } else { &crossbeam_channel::never() };
        let timeout = until
            .map_or_else(crossbeam_channel::never, |time| crossbeam_channel::at(self.clock.instant(time)));
        let mut own = None;
        let arrived = select! {
            recv(requests) -> request => Some(request),
            recv(bell) -> _ => None,
            recv(timeout) -> _ => None,
            recv(landings) -> _ => {
                own = Some(Taken::Landing);
                None
            }
            recv(call) -> _ => {
                own = Some(Taken::Call);
                None
            }
        };
        let mut state = self.state.lock();
        if want == Want::Any {
            state.idle -= 1;
        }
        match arrived {
            Some(Ok(request)) => state.batcher.push(request),
            Some(Err(_)) => {
                // The lanes that still sleep see the closed channel themselves.
                state.closed = true;
                state.batcher.close();
            }
            None => {}
        }
        own
    }

    /// A lane has gone, or hangs: what waits is refused if nobody will take it, and else one that sleeps looks at it.
    pub(super) fn left(&self) {
        let stuck = self.requests.refuse_if_stuck();
        let mut state = self.state.lock();
        if stuck {
            let waiting: Vec<_> = state.batcher.drain().collect();
            drop(state);
            waiting.into_iter().for_each(|request| request.refuse(not_ready()));
        } else if state.idle > 0 && !state.batcher.is_empty() {
            self.ring();
        }
    }

    fn ring(&self) {
        // A bell that is rung already wakes a lane, which looks at everything.
        let _ = self.bell.0.try_send(());
    }

    fn drop_request(&self, request: Request, why: Dropped) {
        match why {
            Dropped::Expired => {
                let waited = self.clock.now() - request.enqueued;
                let message = format!("the request timed out after {} µs in the queue", waited.as_micros());
                request.refuse(Error::new(Code::DeadlineExceeded, message));
            }
            Dropped::Gone => self.metrics.skipped(),
        }
    }
}

/// The last lane has gone, by the end of its clients or by a fault.
impl Drop for Feed {
    fn drop(&mut self) {
        self.state.get_mut().batcher.drain().for_each(|request| request.refuse(not_ready()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;
    use crate::queue::{Draft, Memory, Places, Producer, channel};
    use crate::reply::Mailbox;

    fn feed() -> (Producer, Arc<Feed>) {
        let policy = Policy {
            max_batch_size: 4,
            preferred_batch_size: vec![],
            max_queue_delay: Duration::ZERO,
            priority_levels: 1,
        };
        let (producer, requests) = channel(Places::new(8), Memory::new(0));
        let metrics = Metrics::new().unwrap().model("m", "1");
        (producer, Feed::new(requests, policy, Clock::start(), metrics))
    }

    /// Requests with different keys cannot share a batch.
    fn send(producer: &Producer, feed: &Feed, key: usize) {
        let key = GroupKey(smallvec::smallvec![key]);
        let draft = Draft { key, enqueued: feed.clock.now(), ..Draft::empty() };
        producer.submit(draft, Mailbox::new(1).issue(()));
    }

    /// The key of the batch that a lane would run.
    fn ran(step: Step) -> Option<usize> {
        match step {
            Step::Run(batch) => batch.first().map(|request| request.key.0[0]),
            Step::Wait { .. } | Step::Closed => None,
        }
    }

    #[test]
    fn the_bell_rings_for_a_sleeper_whose_request_another_lane_has_taken_in() {
        let (producer, feed) = feed();
        assert_eq!(ran(feed.step(Want::Any)), None, "the first lane is about to sleep");
        send(&producer, &feed, 1);
        assert_eq!(ran(feed.step(Want::Any)), Some(1), "the second looks and runs");
        assert!(feed.bell.1.is_empty(), "nothing is left that needs a lane");

        send(&producer, &feed, 2);
        send(&producer, &feed, 3);
        assert_eq!(ran(feed.step(Want::Any)), Some(2), "it looks again, and takes in both requests");
        assert!(!feed.bell.1.is_empty());
        let never = crossbeam_channel::never();
        assert!(feed.wait(Want::Any, None, false, &never, &never).is_none());
        assert_eq!(ran(feed.step(Want::Any)), Some(3), "the first lane has heard it");
        assert!(feed.bell.1.is_empty());
    }

    #[test]
    fn the_bell_rings_for_a_sleeper_when_a_busy_lane_lets_a_batch_grow() {
        let (producer, feed) = feed();
        assert_eq!(ran(feed.step(Want::Any)), None, "a free lane is about to sleep");
        send(&producer, &feed, 1);
        assert_eq!(ran(feed.step(Want::Full)), None, "a busy one takes the request in, but does not run it");
        assert!(!feed.bell.1.is_empty());
        let never = crossbeam_channel::never();
        assert!(feed.wait(Want::Any, None, false, &never, &never).is_none());
        assert_eq!(ran(feed.step(Want::Any)), Some(1));
    }

    #[test]
    fn the_bell_rings_for_a_sleeper_when_the_lane_that_had_heard_it_is_given_up() {
        let (producer, feed) = feed();
        let _others = [feed.up(), feed.up()];
        assert_eq!(ran(feed.step(Want::Any)), None, "a lane is about to sleep");
        send(&producer, &feed, 1);
        send(&producer, &feed, 2);
        assert_eq!(ran(feed.step(Want::Any)), Some(1));
        assert!(feed.bell.1.try_recv().is_ok(), "a third has heard it");
        feed.left();
        assert!(!feed.bell.1.is_empty());
        assert_eq!(producer.depth(), 1, "nothing is refused");
    }

    #[test]
    fn what_waits_is_refused_once_every_lane_hangs() {
        let (producer, feed) = feed();
        let (first, second) = (feed.up(), feed.up());
        send(&producer, &feed, 1);
        send(&producer, &feed, 2);
        assert_eq!(ran(feed.step(Want::Any)), Some(1), "the other one is in the batcher");
        send(&producer, &feed, 3);
        assert_eq!(producer.depth(), 2);
        let _first = first.hangs();
        feed.left();
        assert_eq!((producer.depth(), producer.is_open()), (2, true));
        let second = second.hangs();
        feed.left();
        assert_eq!((producer.depth(), producer.is_open()), (0, false));
        send(&producer, &feed, 4);
        assert_eq!(producer.depth(), 0);
        let _up = feed.up();
        drop(second);
        send(&producer, &feed, 5);
        assert_eq!((producer.depth(), producer.is_open()), (1, true), "one is enough");
    }

    #[test]
    fn the_bell_is_silent_while_every_lane_is_at_work() {
        let (producer, feed) = feed();
        send(&producer, &feed, 1);
        send(&producer, &feed, 2);
        assert_eq!(ran(feed.step(Want::Any)), Some(1));
        assert!(feed.bell.1.is_empty());
    }
}
