//! What the lanes of one model share: its queue and the batcher behind it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, select};
use parking_lot::Mutex;

use crate::batcher::{Batcher, Dropped, Entry, Next, Policy};
use crate::clock::{Clock, Time};
use crate::error::{Code, Error};
use crate::metrics::ModelMetrics;
use crate::queue::{Consumer, Request};
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
/// No lane sleeps while work waits. A lane looks at all of the queue and the batcher in one hold of the lock,
/// and is counted as idle in the same hold; from then on a request is kept by the queue and a ring by the bell
/// until some sleeper takes it, and whoever takes either looks again. So work can only be left behind by a lane
/// that goes to run: it rings if anyone is idle, and the one who hears it does the same. Where nobody is idle,
/// each lane has yet to look. The earliest time to wake is known to the lane that looked last, or rung for.
pub struct Feed {
    requests: Consumer,
    state: Mutex<State>,
    /// Rung for a lane that sleeps while the batcher holds work for it.
    bell: (Sender<()>, Receiver<()>),
    clock: Clock,
    metrics: Arc<ModelMetrics>,
}

struct State {
    batcher: Batcher<Request>,
    /// Lanes that wait, or are about to.
    idle: usize,
    /// Nobody can send requests any more.
    closed: bool,
}

impl Feed {
    pub fn new(requests: Consumer, policy: Policy, clock: Clock, metrics: Arc<ModelMetrics>) -> Arc<Self> {
        let state = State { batcher: Batcher::new(policy), idle: 0, closed: false };
        let bell = crossbeam_channel::bounded(1);
        Arc::new(Self { requests, state: Mutex::new(state), bell, clock, metrics })
    }

    /// The next batch for a free lane; `None` when there will never be one.
    pub fn next(&self) -> Option<Vec<Request>> {
        loop {
            let (step, closed) = self.step();
            match step {
                Next::Run(mut batch) => {
                    let now = self.clock.now();
                    for request in &mut batch {
                        request.permit.leave_queue();
                        self.metrics.queued(now - request.enqueued);
                    }
                    return Some(batch);
                }
                Next::Wait(None) if closed => return None,
                Next::Wait(until) => self.wait(until, closed),
            }
        }
    }

    fn step(&self) -> (Next<Request>, bool) {
        let mut dropped = Vec::new();
        let mut state = self.state.lock();
        while let Ok(request) = self.requests.requests().try_recv() {
            state.batcher.push(request);
        }
        let step = state.batcher.next(self.clock.now(), &mut |request, why| dropped.push((request, why)));
        match step {
            Next::Wait(None) if state.closed => {}
            Next::Wait(_) => state.idle += 1,
            Next::Run(_) if state.idle > 0 && !state.batcher.is_empty() => self.ring(),
            Next::Run(_) => {}
        }
        let closed = state.closed;
        drop(state);
        for (request, why) in dropped {
            self.drop_request(request, why);
        }
        (step, closed)
    }

    /// Sleeps until a request arrives, the bell rings, or the time has come.
    fn wait(&self, until: Option<Time>, closed: bool) {
        // A channel without senders is always ready, and would turn this wait into a spin.
        let requests = if closed { &crossbeam_channel::never() } else { self.requests.requests() };
        let timeout = until
            .map_or_else(crossbeam_channel::never, |time| crossbeam_channel::at(self.clock.instant(time)));
        let arrived = select! {
            recv(requests) -> request => Some(request),
            recv(self.bell.1) -> _ => None,
            recv(timeout) -> _ => None,
        };
        let mut state = self.state.lock();
        state.idle -= 1;
        match arrived {
            Some(Ok(request)) => state.batcher.push(request),
            Some(Err(_)) => {
                // The lanes that still sleep see the closed channel themselves.
                state.closed = true;
                state.batcher.close();
            }
            None => {}
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
                request.ticket.refuse(Error::new(Code::DeadlineExceeded, message));
            }
            Dropped::Gone => self.metrics.skipped(),
        }
    }
}

/// The last lane has gone, by the end of its clients or by a fault.
impl Drop for Feed {
    fn drop(&mut self) {
        self.state.get_mut().batcher.drain().for_each(Request::refuse);
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
        let draft = Draft {
            payloads: smallvec::smallvec![],
            rows: 1,
            key: GroupKey(smallvec::smallvec![key]),
            slot: None,
            priority: 0,
            enqueued: feed.clock.now(),
            deadline: None,
        };
        producer.submit(draft, Mailbox::new(1).issue(()));
    }

    /// The key of the batch that a lane would run.
    fn ran(step: (Next<Request>, bool)) -> Option<usize> {
        match step.0 {
            Next::Run(batch) => batch.first().map(|request| request.key.0[0]),
            Next::Wait(_) => None,
        }
    }

    #[test]
    fn the_bell_rings_for_a_sleeper_whose_request_another_lane_has_taken_in() {
        let (producer, feed) = feed();
        assert_eq!(ran(feed.step()), None, "the first lane is about to sleep");
        send(&producer, &feed, 1);
        assert_eq!(ran(feed.step()), Some(1), "the second looks and runs");
        assert!(feed.bell.1.is_empty(), "nothing is left that needs a lane");

        send(&producer, &feed, 2);
        send(&producer, &feed, 3);
        assert_eq!(ran(feed.step()), Some(2), "it looks again, and takes in both requests");
        assert!(!feed.bell.1.is_empty());
        feed.wait(None, false);
        assert_eq!(ran(feed.step()), Some(3), "the first lane has heard it");
        assert!(feed.bell.1.is_empty());
    }

    #[test]
    fn the_bell_is_silent_while_every_lane_is_at_work() {
        let (producer, feed) = feed();
        send(&producer, &feed, 1);
        send(&producer, &feed, 2);
        assert_eq!(ran(feed.step()), Some(1));
        assert!(feed.bell.1.is_empty());
    }
}
